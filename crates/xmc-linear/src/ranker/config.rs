//! How may a user steer the training of rankers? Defaults are those of libpecos.

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};

use crate::negatives::NegativeSampling;
use crate::post_processor::PostProcessor;
use crate::solver::{Loss, SolverParams};
use crate::store::Precision;
use crate::targets::RelevanceNorm;

/// One value for all levels, or one for each from the root down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerLevel<T> {
    /// The same everywhere.
    All(T),
    /// One for each level, from the root down.
    Each(Vec<T>),
}

impl<T: Clone> PerLevel<T> {
    /// Every value there is.
    pub fn values(&self) -> &[T] {
        match self {
            PerLevel::All(value) => std::slice::from_ref(value),
            PerLevel::Each(values) => values,
        }
    }

    /// The value at level `t` of `depth`; an error if the list has another length.
    pub fn at(&self, key: &str, t: usize, depth: usize) -> Result<T> {
        match self {
            PerLevel::All(value) => Ok(value.clone()),
            PerLevel::Each(values) if values.len() == depth => Ok(values[t].clone()),
            PerLevel::Each(values) => {
                let found = format!("[{} values]", values.len());
                Err(Error::config(key, found, format!("one value, or one for each of the {depth} levels")))
            }
        }
    }
}

/// Where the costs of positives come from. (spec: XR-Linear, 5.3)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelevanceMode {
    /// Every positive costs the same.
    Disable,
    /// The given relevance (or 1 per label) at the labels, sums of it above.
    Induce,
    /// The given relevance at the labels, 1 above.
    RankerOnly,
}

/// How rankers are trained and searched. Defaults are those of libpecos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankerConfig {
    /// Loss of a node's ranker.
    pub loss: Loss,
    /// Cost of a row that has the label.
    pub cost_positive: PerLevel<f32>,
    /// Cost of a row that does not.
    pub cost_negative: PerLevel<f32>,
    /// Value of the constant feature; 0 for none.
    pub bias: f32,
    /// Precision at which a label counts as solved.
    pub epsilon: f32,
    /// Most passes over a label's rows.
    pub max_iterations: u32,
    /// Weights smaller than this are dropped.
    pub threshold: PerLevel<f32>,
    /// Most weights kept for one label; 0 keeps all.
    pub max_nonzeros: PerLevel<usize>,
    /// Rows that train a parent's children.
    pub negatives: PerLevel<NegativeSampling>,
    /// Costs by relevance.
    pub relevance: RelevanceMode,
    /// How the relevances of a row are scaled at each level.
    pub relevance_norm: RelevanceNorm,
    /// From margins to scores.
    pub post_processor: PerLevel<PostProcessor>,
    /// Nodes kept at every inner level.
    pub beam_size: usize,
    /// Labels returned unless a query says otherwise. Read from files but not written: programs tell every query.
    #[serde(skip_serializing)]
    pub top_k: usize,
    /// Number format of the stored weights.
    pub weights: Precision,
}

impl Default for RankerConfig {
    fn default() -> Self {
        RankerConfig {
            loss: Loss::SquaredHinge,
            cost_positive: PerLevel::All(1.0),
            cost_negative: PerLevel::All(1.0),
            bias: 1.0,
            epsilon: 0.1,
            max_iterations: 100,
            threshold: PerLevel::All(0.1),
            max_nonzeros: PerLevel::All(0),
            negatives: PerLevel::All(NegativeSampling::TFN),
            relevance: RelevanceMode::Disable,
            relevance_norm: RelevanceNorm::None,
            post_processor: PerLevel::All(PostProcessor::Hinge(3)),
            beam_size: 10,
            top_k: 20,
            weights: Precision::F16,
        }
    }
}

impl RankerConfig {
    /// Refuses values that have no meaning; per-level lists are checked by [`RankerConfig::check_levels`].
    pub fn check(&self) -> Result<()> {
        let above_zero =
            |key, values: &[f32]| check_each(key, values, "a number above 0", |v| v > 0.0 && v.is_finite());
        let from_zero =
            |key, values: &[f32]| check_each(key, values, "a number from 0", |v| v >= 0.0 && v.is_finite());
        above_zero("cost_positive", self.cost_positive.values())?;
        above_zero("cost_negative", self.cost_negative.values())?;
        above_zero("epsilon", &[self.epsilon])?;
        from_zero("bias", &[self.bias])?;
        from_zero("threshold", self.threshold.values())?;
        if self.max_iterations == 0 {
            return Err(Error::config("max_iterations", 0, "a number from 1"));
        }
        for (key, value) in [("beam_size", self.beam_size), ("top_k", self.top_k)] {
            if value == 0 {
                return Err(Error::config(key, value, "a number from 1"));
            }
        }
        Ok(())
    }

    /// Refuses lists that do not have one value for each of `depth` levels. `None`: how deep the tree will be is not known
    /// yet, and no list is certain to fit.
    pub fn check_levels(&self, depth: Option<usize>) -> Result<()> {
        let checked = self.level(0, depth.unwrap_or(usize::MAX)).map(drop);
        checked.map_err(|e| match e {
            Error::Config { key, value, .. } if depth.is_none() => {
                let expected = "one value, because an unbalanced tree is as deep as its labels make it";
                Error::Config { key, value, expected: expected.to_owned() }
            }
            other => other,
        })
    }

    /// Everything that differs by level, with list lengths checked.
    pub(crate) fn level(&self, t: usize, depth: usize) -> Result<LevelParams> {
        Ok(LevelParams {
            solver: SolverParams {
                loss: self.loss,
                cost_positive: self.cost_positive.at("cost_positive", t, depth)?,
                cost_negative: self.cost_negative.at("cost_negative", t, depth)?,
                bias: self.bias,
                epsilon: self.epsilon,
                max_iterations: self.max_iterations,
                threshold: self.threshold.at("threshold", t, depth)?,
                max_nonzeros: self.max_nonzeros.at("max_nonzeros", t, depth)?,
            },
            negatives: self.negatives.at("negatives", t, depth)?,
            post_processor: self.post_processor.at("post_processor", t, depth)?,
            keep: if t + 1 == depth { self.top_k } else { self.beam_size },
        })
    }
}

fn check_each(key: &str, values: &[f32], expected: &str, allowed: impl Fn(f32) -> bool) -> Result<()> {
    match values.iter().find(|&&v| !allowed(v)) {
        Some(v) => Err(Error::config(key, v, expected)),
        None => Ok(()),
    }
}

/// What holds at one level.
pub(crate) struct LevelParams {
    pub(crate) solver: SolverParams,
    pub(crate) negatives: NegativeSampling,
    pub(crate) post_processor: PostProcessor,
    pub(crate) keep: usize,
}

//! Settings of XR-Transformer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::text::VectorizerConfig;
use xmc_data::topk::ensemble::EnsembleRule;
use xmc_data::{Error, Result};
use xmc_linear::PostProcessor;
use xmc_linear::cluster::ClusterConfig;
use xmc_linear::label_features::LabelFeaturesConfig;
use xmc_linear::negatives::NegativeSampling;
use xmc_linear::ranker::{PerLevel, RankerConfig, RelevanceMode};
use xmc_linear::targets::RelevanceNorm;
use xmc_nn::optim::Schedule;

use super::keys;
use crate::config::{Group, Settings};
use crate::encoder::{PoolingKind, PrecisionChoice};
use crate::methods::SoftValue;
use crate::methods::xr_linear::{FeatureSource, Files, XrLinearConfig, within};

/// What a node of a level minimises while the encoder learns. (spec: XR-Transformer, 7.3)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadLoss {
    /// max(0, 1 - s z)^2
    SquaredHinge,
    /// max(0, 1 - s z)
    Hinge,
    /// The squared hinge, positives weighted by the labels below them.
    #[default]
    WeightedSquaredHinge,
    /// The hinge, positives weighted by the labels below them.
    WeightedHinge,
    /// ln(1 + e^(-s z))
    CrossEntropy,
}

/// What the head of a level begins with. (spec: XR-Transformer, 7.4)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootstrap {
    /// Linear rankers trained on the embeddings of the level above.
    Linear,
    /// The same, positives weighted by the labels below them.
    #[default]
    WeightedLinear,
    /// The weights of the parent.
    Inherit,
    /// Small random numbers.
    None,
}

/// Whose scores make the shortlist for the next level. (spec: XR-Transformer, 7.5)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matching {
    /// Those of encoder and head.
    #[default]
    TransformerOnly,
    /// Those of linear rankers on sparse features and embedding.
    ConcatOnly,
    /// The mean of both.
    Average,
    /// The mean of both ranks.
    RankAverage,
    /// The best of both in turn.
    RoundRobin,
}

/// How the encoder learns, level by level of the preliminary tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// What a step minimises.
    pub loss: HeadLoss,
    /// Nodes that are active for a row: children of its true parents, of parents predicted for it, or both.
    pub negatives: PerLevel<NegativeSampling>,
    /// Active nodes of a row at most; 0 keeps all. Positives always stay.
    pub max_active: usize,
    /// What a head begins with.
    pub bootstrap: Bootstrap,
    /// Passes over the training rows.
    pub epochs: PerLevel<f32>,
    /// Steps, in place of epochs; 0 counts epochs.
    pub max_steps: PerLevel<u64>,
    /// Rows of a step.
    pub batch_size: usize,
    /// Highest learning rate of the encoder.
    pub lr: PerLevel<f32>,
    /// Highest learning rate of the head; 0 takes that of the encoder.
    pub head_lr: PerLevel<f32>,
    /// Steps in which the learning rate rises.
    pub warmup_steps: PerLevel<u64>,
    /// How it falls.
    pub schedule: Schedule,
    /// Decay of weights.
    pub weight_decay: f32,
    /// Keeps AdamW from dividing by zero.
    pub adam_epsilon: f32,
    /// Longest gradient, of encoder and head each.
    pub clip: f32,
    /// Whether the encoder drops out as its config.json says.
    pub dropout: bool,
    /// Tokens that pass through the encoder at a time.
    pub tokens_per_batch: usize,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f32,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            loss: HeadLoss::WeightedSquaredHinge,
            negatives: PerLevel::All(NegativeSampling::TFN),
            max_active: 1000,
            bootstrap: Bootstrap::WeightedLinear,
            epochs: PerLevel::All(2.0),
            max_steps: PerLevel::All(0),
            batch_size: 32,
            lr: PerLevel::All(1e-4),
            head_lr: PerLevel::All(0.0),
            warmup_steps: PerLevel::All(100),
            schedule: Schedule::Linear,
            weight_decay: 0.0,
            adam_epsilon: 1e-8,
            clip: 1.0,
            dropout: true,
            tokens_per_batch: 8192,
            checkpoint_minutes: 10.0,
        }
    }
}

/// How a level's nodes are matched to the training rows, for the negatives of the next level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatcherConfig {
    /// Nodes kept for a row.
    pub top_k: PerLevel<usize>,
    /// From margins to scores.
    pub post_processor: PerLevel<PostProcessor>,
    /// Whose scores count.
    pub ensemble: PerLevel<Matching>,
    /// Cost of a row that has the node, for the linear rankers.
    pub cost_positive: PerLevel<f32>,
    /// Cost of a row that does not.
    pub cost_negative: PerLevel<f32>,
    /// Weights smaller than this are dropped.
    pub threshold: PerLevel<f32>,
    /// Whether positives cost by the labels below them.
    pub relevance: bool,
    /// How these costs are scaled in a row.
    pub relevance_norm: RelevanceNorm,
}

impl Default for MatcherConfig {
    fn default() -> Self {
        MatcherConfig {
            top_k: PerLevel::All(20),
            post_processor: PerLevel::All(PostProcessor::Hinge(3)),
            ensemble: PerLevel::All(Matching::TransformerOnly),
            cost_positive: PerLevel::All(1.0),
            cost_negative: PerLevel::All(1.0),
            threshold: PerLevel::All(0.1),
            relevance: false,
            relevance_norm: RelevanceNorm::L1,
        }
    }
}

/// Everything that can be set; mirrors the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XrTransformerConfig {
    /// Folder of the encoder in Hugging Face layout, or a model that has one.
    pub encoder: Option<PathBuf>,
    /// How token vectors become one; as the encoder's folder says if unset.
    pub pooling: Option<PoolingKind>,
    /// Tokens of a text.
    pub max_len: usize,
    /// Precision of the products.
    pub precision: PrecisionChoice,
    /// Whether the encoder learns; else it is used as it is.
    pub do_fine_tune: bool,
    /// Whether training ends with the encoder.
    pub only_encoder: bool,
    /// Whether the rankers keep the preliminary tree.
    pub fix_clustering: bool,
    /// Levels with more nodes than this do not train the encoder.
    pub max_match_clusters: usize,
    /// What the values of labels change.
    pub value: SoftValue,
    /// Trees of rankers.
    pub trees: usize,
    /// How the scores of several trees become one.
    pub combine: EnsembleRule,
    /// Vectorizers of the sparse features, side by side; none leaves the embedding alone.
    pub vectorizer: Vec<VectorizerConfig>,
    /// What a label looks like when labels are grouped.
    pub label_features: LabelFeaturesConfig,
    /// The tree that the encoder learns along.
    pub preliminary: ClusterConfig,
    /// How the encoder learns.
    pub training: TrainingConfig,
    /// How rows are matched to nodes between two levels.
    pub matcher: MatcherConfig,
    /// The tree of the rankers.
    pub cluster: ClusterConfig,
    /// The rankers on sparse features and embedding.
    pub ranker: RankerConfig,
    /// Further matrices.
    pub files: Files,
}

impl Default for XrTransformerConfig {
    fn default() -> Self {
        let linear = XrLinearConfig::default();
        XrTransformerConfig {
            encoder: None,
            pooling: None,
            max_len: 128,
            precision: PrecisionChoice::Auto,
            do_fine_tune: true,
            only_encoder: false,
            fix_clustering: false,
            max_match_clusters: 32_768,
            value: linear.value,
            trees: linear.trees,
            combine: linear.combine,
            vectorizer: linear.vectorizer,
            label_features: linear.label_features,
            preliminary: ClusterConfig { max_leaf_size: 16, ..ClusterConfig::default() },
            training: TrainingConfig::default(),
            matcher: MatcherConfig::default(),
            cluster: linear.cluster,
            ranker: RankerConfig { relevance: RelevanceMode::Disable, ..linear.ranker },
            files: Files::default(),
        }
    }
}

/// More tokens than any encoder here reads.
const MOST_TOKENS: usize = 8192;

impl Settings for XrTransformerConfig {
    const METHOD: &'static str = "xr-transformer";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_each(&self) -> Result<()> {
        self.check_counts()?;
        self.training.check().map_err(|e| within("training", e))?;
        self.matcher.check().map_err(|e| within("matcher", e))?;
        self.preliminary.check().map_err(|e| within("preliminary", e))?;
        self.linear().check_values()
    }

    fn check_values(&self) -> Result<()> {
        self.check_each()?;
        if self.only_encoder && !self.do_fine_tune {
            return Err(Error::config(
                "only_encoder",
                true,
                "false, as nothing is trained without do_fine_tune",
            ));
        }
        Ok(())
    }
}

impl XrTransformerConfig {
    /// The part that XR-Linear knows: everything about sparse features, trees and rankers.
    pub(super) fn linear(&self) -> XrLinearConfig {
        XrLinearConfig {
            features: if self.vectorizer.is_empty() { FeatureSource::Given } else { FeatureSource::Text },
            value: self.value,
            trees: self.trees,
            combine: self.combine,
            vectorizer: self.vectorizer.clone(),
            label_features: self.label_features.clone(),
            cluster: self.cluster.clone(),
            ranker: self.ranker.clone(),
            files: self.files.clone(),
        }
    }

    fn check_counts(&self) -> Result<()> {
        if !(3..=MOST_TOKENS).contains(&self.max_len) {
            return Err(Error::config(
                "max_len",
                self.max_len,
                format!("a whole number from 3 to {MOST_TOKENS}"),
            ));
        }
        if self.max_match_clusters == 0 {
            return Err(Error::config("max_match_clusters", 0, keys::COUNT));
        }
        Ok(())
    }
}

impl TrainingConfig {
    fn check(&self) -> Result<()> {
        for (key, value) in [("batch_size", self.batch_size), ("tokens_per_batch", self.tokens_per_batch)] {
            if value == 0 {
                return Err(Error::config(key, value, keys::COUNT));
            }
        }
        if let Some(sampling) = self.negatives.values().iter().find(|sampling| sampling.usn) {
            return Err(Error::config("negatives", String::from(*sampling), "tfn, man or tfn+man"));
        }
        above_zero("epochs", self.epochs.values())?;
        above_zero("lr", self.lr.values())?;
        above_zero("adam_epsilon", &[self.adam_epsilon])?;
        from_zero("head_lr", self.head_lr.values())?;
        from_zero("weight_decay", &[self.weight_decay])?;
        from_zero("clip", &[self.clip])?;
        from_zero("checkpoint_minutes", &[self.checkpoint_minutes])?;
        let highest = |rates: &PerLevel<f32>| rates.values().iter().copied().fold(0.0, f32::max);
        let decay = self.weight_decay * highest(&self.lr).max(highest(&self.head_lr));
        if decay >= 1.0 {
            return Err(Error::config("weight_decay", self.weight_decay, "less than 1 / lr"));
        }
        Ok(())
    }
}

impl MatcherConfig {
    fn check(&self) -> Result<()> {
        if self.top_k.values().contains(&0) {
            return Err(Error::config("top_k", 0, keys::COUNT));
        }
        above_zero("cost_positive", self.cost_positive.values())?;
        above_zero("cost_negative", self.cost_negative.values())?;
        from_zero("threshold", self.threshold.values())
    }
}

fn above_zero(key: &str, values: &[f32]) -> Result<()> {
    check_numbers(key, values, "a number above 0", |v| v > 0.0)
}

fn from_zero(key: &str, values: &[f32]) -> Result<()> {
    check_numbers(key, values, "a number, 0 or more", |v| v >= 0.0)
}

fn check_numbers(key: &str, values: &[f32], expected: &str, allowed: impl Fn(f32) -> bool) -> Result<()> {
    match values.iter().find(|&&v| !(v.is_finite() && allowed(v))) {
        Some(v) => Err(Error::config(key, v, expected)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{checks, load, look};

    #[test]
    fn every_setting_is_documented_and_every_documented_setting_exists() {
        checks::documentation_is_complete::<XrTransformerConfig>();
    }

    #[test]
    fn the_printed_file_gives_the_defaults() {
        checks::printed_file_gives_the_defaults::<XrTransformerConfig>();
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_for_every_setting() {
        checks::wrong_kinds_are_refused::<XrTransformerConfig>();
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_table_and_option() {
        for (set, expected) in [
            ("max_len=2", "`max_len` = 2: expected a whole number from 3 to 8192"),
            ("max_match_clusters=0", "`max_match_clusters` = 0: expected a whole number, 1 or more"),
            ("trees=0", "`trees` = 0: expected a whole number from 1 to 100"),
            ("training.batch_size=0", "`training.batch_size` = 0: expected a whole number, 1 or more"),
            ("training.lr=[1e-4,0.0]", "`training.lr` = 0: expected a number above 0"),
            ("training.clip=-1.0", "`training.clip` = -1: expected a number, 0 or more"),
            ("training.negatives=usn", "`training.negatives` = usn: expected tfn, man or tfn+man"),
            ("matcher.top_k=[5,0]", "`matcher.top_k` = 0: expected a whole number, 1 or more"),
            ("preliminary.branching=1", "`preliminary.branching` = 1: expected a whole number of at least 2"),
            ("cluster.max_leaf_size=0", "`cluster.max_leaf_size` = 0: expected a whole number of at least 1"),
            (
                "vectorizer.ngram_range=[2,1]",
                "`vectorizer.0.ngram_range` = [2, 1]: expected [shortest, longest] with 1 <= shortest <= longest <= 20",
            ),
            (
                "max_macth_clusters=3",
                "unknown setting `max_macth_clusters`; did you mean `max_match_clusters`?",
            ),
            ("max_leaf_sise=3", "unknown setting `max_leaf_sise`; did you mean `preliminary.max_leaf_size`?"),
        ] {
            assert_eq!(checks::message::<XrTransformerConfig>(set), format!("--set {set}: {expected}"));
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        checks::are_refused::<XrTransformerConfig>(&[
            "max_len=8193",
            "trees=101",
            "training.epochs=0.0",
            "training.epochs=[1.0,nan]",
            "training.tokens_per_batch=0",
            "training.max_active=-1",
            "training.head_lr=-1.0",
            "training.head_lr=inf",
            "training.weight_decay=-0.1",
            "training.weight_decay=1e5",
            "training.adam_epsilon=0.0",
            "training.checkpoint_minutes=-1.0",
            "training.max_steps=[1,-1]",
            "training.schedule=steep",
            "training.loss=square",
            "training.bootstrap=random",
            "matcher.cost_positive=0.0",
            "matcher.cost_negative=[1.0,-1.0]",
            "matcher.threshold=-0.1",
            "matcher.post_processor=l0-hinge",
            "matcher.ensemble=both",
            "preliminary.unbalanced_depth=0",
            "ranker.beam_size=0",
            "label_features.pifa_weight=2.0",
        ]);
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused_together_and_allowed_alone() {
        let sets = ["only_encoder=true", "do_fine_tune=false"].map(str::to_owned);
        let message = load::<XrTransformerConfig>(None, &sets).unwrap_err().to_string();
        assert!(message.contains("`only_encoder` = true: expected false"), "{message}");
        for set in sets {
            assert!(load::<XrTransformerConfig>(None, &[set]).is_ok());
        }
        let both = ["only_encoder=true", "do_fine_tune=false"].map(str::to_owned);
        assert!(look::<XrTransformerConfig>(None, &both).is_ok());
    }

    #[test]
    fn a_list_has_one_value_for_each_level_and_a_single_value_serves_all() {
        let sets = ["training.lr=[1e-4,2e-4]", "training.max_steps=7"].map(str::to_owned);
        let config = load::<XrTransformerConfig>(None, &sets).unwrap();
        assert_eq!(config.training.lr, PerLevel::Each(vec![1e-4, 2e-4]));
        assert_eq!(config.training.max_steps, PerLevel::All(7));
    }
}

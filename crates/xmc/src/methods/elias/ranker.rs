//! Is a label that was found right, by the words of the text too? (spec: ELIAS, 4.1)
//!
//! ```text
//! x = [words / |words| , e / |e| , 1]                                            [f + d + 1]
//! w_l = argmin 1/2 |w|^2 + cost sum over rows of l of max(0, 1 - y w . x)^2
//! score = p exp(-max(0, 1 - w_l . x)^3), then the calibration, if there is one
//! ```
//!
//! A label trains on the rows for which it was found, and on all rows that have it. Solver and losses are those of
//! XR-Linear, with every label a parent of one child. Weights are one sparse matrix `[L, f + d + 1]`, mapped: the words of
//! a text are spread out once, then a label costs its own weights, some hundred for most, and not those of the text.

use std::path::Path;

use xmc_data::topk::by_score;
use xmc_data::{Csr, TopK};
use xmc_linear::level::{LevelConfig, LevelInput, node_weights};
use xmc_linear::{Features, PostProcessor, Query};
use xmc_nn::checkpoint;

use super::calibrate::{Calibration, Pair};
use super::config::RankerConfig;
use crate::error::{Error, Result};
use crate::methods::xr_linear::within;
use crate::run::Artifact;

/// Names of its files, in a stage and in a model.
pub(crate) const RANKER: &str = "ranker";
pub(crate) const CALIBRATION: &str = "calibration";

/// From margins to factors.
const FACTOR: PostProcessor = PostProcessor::Hinge(3);
/// The run of numbers in the file of the calibration.
const FREQUENCIES: &str = "frequencies";

/// A linear ranker for each label.
#[derive(Clone, Debug)]
pub(crate) struct Ranker {
    /// `[L, f + d + 1]`
    weights: Csr,
    calibration: Option<Calibrated>,
}

/// The calibration, and what it asks of a label.
#[derive(Clone, Debug)]
struct Calibrated {
    tree: Calibration,
    /// Rows that each label trained on, `[L]`.
    frequencies: Vec<f32>,
}

/// What a ranker learns from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Examples<'a> {
    /// Words `[n, f]` and embeddings `[n, d]`, each part of length 1.
    pub(super) x: &'a Features,
    /// Labels `[n, L]`.
    pub(super) y: &'a Csr,
    /// The labels that were found for each row, with their scores `[n, L]`.
    pub(super) found: &'a Csr,
}

impl Ranker {
    /// Trains a ranker for each label. `progress(done, total)` counts labels.
    pub(super) fn train(
        examples: Examples<'_>,
        config: &RankerConfig,
        seed: u64,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self> {
        let Examples { x, y, found } = examples;
        let offsets: Vec<u32> = (0..=y.cols() as u32).collect();
        let input = LevelInput { x, targets: y, matching: Some(found), relevance: None, offsets: &offsets };
        let config = LevelConfig {
            cost_positive: config.cost,
            cost_negative: config.cost,
            bias: 1.0,
            epsilon: config.epsilon,
            max_iterations: config.max_iterations,
            threshold: config.threshold,
            ..LevelConfig::default()
        };
        let weights = node_weights(&input, &config, seed, progress).map_err(|e| within("ranker", e))?;
        Ok(Ranker { weights, calibration: None })
    }

    /// The same with a decision tree that learned from the labels found for other rows, those of `validation`;
    /// `trained` has the labels of the rows that rankers learned from.
    pub(super) fn calibrated(self, validation: Examples<'_>, trained: &Csr) -> Self {
        let Examples { x, y, found } = validation;
        let mut frequencies = vec![0.0; trained.cols()];
        for &label in trained.indices() {
            frequencies[label as usize] += 1.0;
        }
        let (mut pairs, mut scorer) = (Vec::new(), self.scorer());
        for i in 0..x.rows() {
            scorer.read(Query::of(x, i));
            let pair = |(label, p): (u32, f32)| {
                let numbers = [scorer.ranked(label, p), p, frequencies[label as usize]];
                (numbers, y.row(i).get(label) != 0.0)
            };
            pairs.extend(found.row(i).iter().map(pair));
            scorer.forget(Query::of(x, i));
        }
        let tree = Calibration::fit(pairs);
        Ranker { weights: self.weights, calibration: Some(Calibrated { tree, frequencies }) }
    }

    /// Opens the files in the folder `dir`; `calibrated` says whether there are two.
    pub(crate) fn open(dir: &Path, calibrated: bool) -> Result<Self> {
        let weights = Csr::open(&dir.join(RANKER))?;
        let calibration = calibrated.then(|| Calibrated::open(&dir.join(CALIBRATION), weights.rows()));
        Ok(Ranker { weights, calibration: calibration.transpose()? })
    }

    /// Writes the files into the folder `dir`.
    fn write(&self, dir: &Path) -> Result<()> {
        self.weights.save(&dir.join(RANKER))?;
        match &self.calibration {
            Some(calibration) => calibration.save(&dir.join(CALIBRATION)),
            None => Ok(()),
        }
    }

    /// Number of labels L.
    pub(crate) fn num_labels(&self) -> usize {
        self.weights.rows()
    }

    /// Numbers of a text that it reads: f of words and d of the embedding.
    pub(crate) fn num_features(&self) -> usize {
        self.weights.cols().saturating_sub(1)
    }

    /// Judges text after text, in one thread.
    pub(crate) fn scorer(&self) -> Scorer<'_> {
        Scorer { ranker: self, x: vec![0.0; self.weights.cols()] }
    }
}

impl Calibrated {
    fn save(&self, path: &Path) -> Result<()> {
        let meta = serde_json::to_value(&self.tree).map_err(|e| Error::Mismatch(e.to_string()))?;
        Ok(checkpoint::save(path, &[(FREQUENCIES, self.frequencies.as_slice())], &meta)?)
    }

    fn open(path: &Path, labels: usize) -> Result<Self> {
        let mut saved = checkpoint::load(path)?;
        let damaged =
            |why: String| Error::file(path, format!("damaged: {why}; copy or train the model again"));
        let frequencies = saved.take(FREQUENCIES).filter(|frequencies| frequencies.len() == labels);
        let frequencies = frequencies.ok_or_else(|| damaged(format!("no frequencies of {labels} labels")))?;
        let tree = serde_json::from_value(saved.meta).map_err(|e| damaged(e.to_string()))?;
        Ok(Calibrated { tree, frequencies })
    }
}

/// A ranker with room for one text.
#[derive(Clone, Debug)]
pub(crate) struct Scorer<'m> {
    ranker: &'m Ranker,
    /// The text at hand, all zero between texts, `[f + d + 1]`.
    x: Vec<f32>,
}

impl Scorer<'_> {
    /// Gives the labels `found` for a text with their scores p the final ones, best first. Words and embedding of the text
    /// may have any length; ids of words that the ranker does not know are ignored.
    pub(crate) fn rescore(&mut self, text: Query<'_>, found: &mut [(u32, f32)]) {
        self.read(text);
        for (label, score) in found.iter_mut() {
            let ranked = self.ranked(*label, *score);
            *score = match &self.ranker.calibration {
                None => ranked,
                Some(Calibrated { tree, frequencies }) => {
                    let frequency = frequencies.get(*label as usize).copied().unwrap_or(0.0);
                    tree.score(&Pair::from([ranked, *score, frequency]))
                }
            };
        }
        self.forget(text);
        found.sort_unstable_by(by_score);
    }

    /// Score of a label of the text at hand, from its score p.
    fn ranked(&self, label: u32, p: f32) -> f32 {
        if label as usize >= self.ranker.weights.rows() {
            return p;
        }
        let margin =
            self.ranker.weights.row(label as usize).iter().map(|(f, w)| w * self.x[f as usize]).sum();
        FACTOR.combine(p, FACTOR.transform(margin))
    }

    /// Spreads out a text.
    fn read(&mut self, text: Query<'_>) {
        let inverse = |norm: f64| if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
        let words = inverse(f64::from(text.sparse.norm()));
        let squares: f64 = text.dense.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let embedding = inverse(squares.sqrt());
        let first_dense = self.first_dense(text);
        for (id, value) in text.sparse.iter().take_while(|&(id, _)| (id as usize) < first_dense) {
            self.x[id as usize] = words * value;
        }
        for (x, value) in self.x[first_dense..].iter_mut().zip(text.dense) {
            *x = embedding * value;
        }
        if let Some(constant) = self.x.last_mut() {
            *constant = 1.0;
        }
    }

    /// Makes place for the next text.
    fn forget(&mut self, text: Query<'_>) {
        let first_dense = self.first_dense(text);
        for &id in text.sparse.indices.iter().take_while(|&&id| (id as usize) < first_dense) {
            self.x[id as usize] = 0.0;
        }
        self.x[first_dense..].fill(0.0);
    }

    /// f: the embedding and the constant come last.
    fn first_dense(&self, text: Query<'_>) -> usize {
        self.x.len().saturating_sub(text.dense.len() + 1)
    }
}

/// The labels that were found as a matrix `[n, L]`, for rows `0..n`.
pub(super) fn found_matrix(found: &TopK, num_labels: usize) -> Result<Csr> {
    // A score may be rounded to 0, and the label was found all the same.
    let mut matrix = found.to_csr(num_labels)?;
    for value in matrix.values_mut() {
        *value = value.max(f32::MIN_POSITIVE);
    }
    Ok(matrix)
}

impl Artifact for Ranker {
    fn save(&self, dir: &Path) -> Result<()> {
        self.write(dir)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ranker::open(dir, dir.join(CALIBRATION).is_file())
    }
}

#[cfg(test)]
mod tests;

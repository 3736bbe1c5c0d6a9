//! Which labels does an epoch learn from? Those of the sample, which is drawn from the rows that train: rows set apart must
//! not say which labels are worth learning.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::formats::atomic::write_atomically;
use xmc_data::{Csr, CsrBuilder};

use super::config::QuestConfig;
use crate::error::{Error, Result};
use crate::run::Artifact;
use crate::sampling::{LabelFeatures, Sample, SampleConfig, sample};

/// Name of the file in the stage and in the model.
pub(crate) const SAMPLE: &str = "sample.json";

/// What a model remembers of its sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The labels of the first epoch, and how they were chosen.
    pub sample: Sample,
    /// Labels with a training pair in an epoch that the prompt learned from, rising: the others were never seen.
    pub seen: Vec<u32>,
}

impl Artifact for Sampled {
    fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(SAMPLE);
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Mismatch(e.to_string()))?;
        Ok(write_atomically(&path, |file| file.write_all(&json).map_err(xmc_data::Error::io(&path)))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(SAMPLE);
        let text = std::fs::read(&path).map_err(Error::io(&path))?;
        serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("damaged: {e}")))
    }
}

/// What is needed to sample in every epoch.
pub(super) struct Sampling<'a> {
    /// Labels of the rows that train `[n, L]`; other rows have none.
    y: Csr,
    config: &'a SampleConfig,
    /// While other epochs draw other labels.
    features: Option<LabelFeatures>,
    seed: u64,
    /// That of the first epoch.
    pub(super) first: Sample,
}

impl<'a> Sampling<'a> {
    /// Of the rows `learn` (rising) of `y`.
    pub(super) fn new(
        y: &Csr,
        learn: &[u32],
        features: Option<LabelFeatures>,
        config: &'a QuestConfig,
        seed: u64,
    ) -> Result<Self> {
        let mut kept = CsrBuilder::new();
        for (row, labels) in (0..).zip(y.iter()) {
            let learns = learn.binary_search(&row).is_ok();
            kept.push(labels.iter().filter(|_| learns));
        }
        let y = kept.finish(y.cols())?;
        let config = &config.sampling;
        let first = sample(&y, features.as_ref(), config, seed, 0)?;
        // Vectors of all labels are not kept for nothing.
        let features = features.filter(|_| config.resample);
        Ok(Sampling { y, config, features, seed, first })
    }

    /// Pairs `[n, L]` of an epoch.
    pub(super) fn pairs(&self, epoch: u64) -> Result<Csr> {
        let again = self.config.resample && !self.config.takes_all_labels() && epoch > 0;
        if !again {
            return Ok(self.first.pairs(&self.y, self.seed, epoch));
        }
        let drawn = sample(&self.y, self.features.as_ref(), self.config, self.seed, epoch)?;
        Ok(drawn.pairs(&self.y, self.seed, epoch))
    }

    /// The sample, and which labels the first `epochs` have pairs of.
    pub(super) fn sampled(&self, epochs: usize) -> Result<Sampled> {
        let mut seen = vec![false; self.y.cols()];
        for epoch in 0..epochs {
            self.pairs(epoch as u64)?.indices().iter().for_each(|&label| seen[label as usize] = true);
        }
        let seen = (0..).zip(seen).filter_map(|(label, seen): (u32, bool)| seen.then_some(label));
        Ok(Sampled { sample: self.first.clone(), seen: seen.collect() })
    }
}

//! What does a data set look like of which only a sample is left to learn from?
//!
//! All labels stay, with their ids and names, so that a model can still predict those that were not sampled. Training rows
//! without a pair go; the pairs that do not count are numbered anew; the test part stays as it is.

use std::path::Path;

use xmc_data::dataset::{Dataset, Part};

use super::Sample;
use crate::error::Result;
use crate::run::write_json;

/// What was sampled, beside the data.
pub const SAMPLE_FILE: &str = "sample.json";

impl Sample {
    /// `data` with the pairs of epoch 0 alone.
    pub fn of(&self, data: Dataset, seed: u64) -> Dataset {
        let pairs = self.pairs(&data.train.y, seed, 0);
        let rows: Vec<u32> =
            (0..pairs.rows() as u32).filter(|&row| !pairs.row(row as usize).is_empty()).collect();
        let y = pairs.select_rows(&rows);
        Dataset { train: Part { y, ..data.train.select(&rows) }, ..data }
    }

    /// Writes the sampled part of `data` as a folder, and beside it what was sampled. The folder appears complete or not
    /// at all; one that exists must be empty.
    pub fn save(&self, data: Dataset, seed: u64, dir: &Path) -> Result<()> {
        self.of(data, seed).save_with(dir, |dir| write_json(&dir.join(SAMPLE_FILE), self))
    }
}

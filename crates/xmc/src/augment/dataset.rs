//! How does an augmented matrix get to where it is trained on?
//!
//! As files of a run, which the other stages and the release read, and as a dataset folder like the one it was made from: texts,
//! features, labels and test part are the same, the training labels have the new pairs with their values. Any method
//! trains on that; what it makes of values below 1 is a setting of the method.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;
use xmc_data::dataset::{Dataset, Part};
use xmc_data::formats::npz;

use super::build::{BuildReport, Built};
use super::files::{AUGMENTED, BUILT, PROVENANCE};
use super::provenance;
use crate::error::{Error, Result};
use crate::run::{remove, write_json};

/// What stands beside a matrix in the folder of a run.
#[derive(Serialize, Deserialize)]
pub(super) struct BuiltOf {
    /// Hash of the neighbours.
    pub(super) neighbours: String,
    #[serde(flatten)]
    pub(super) report: BuildReport,
}

impl Built {
    /// Writes matrix, provenance and report to the folder of a run; `neighbours` is a hash of what this was built from.
    pub fn write(&self, run: &Path, texts: &Strings, neighbours: String) -> Result<()> {
        // An old record must not stand beside a new matrix, whenever the process ends.
        remove(&run.join(BUILT))?;
        provenance::write(&run.join(PROVENANCE), &self.pairs, texts)?;
        npz::write(&run.join(AUGMENTED), &self.y)?;
        write_json(&run.join(BUILT), &BuiltOf { neighbours, report: self.report.clone() })
    }

    /// Writes `data`, from whose training labels this was built, with the augmented ones, and the report beside them. The
    /// folder appears complete or not at all; one that exists must be empty.
    pub fn save_dataset(&self, data: &Dataset, dir: &Path) -> Result<()> {
        let (y, old) = (&self.y, &data.train.y);
        if (y.rows(), y.cols()) != (old.rows(), old.cols()) {
            let [a, b] = [y, old].map(|m| format!("[{}, {}]", m.rows(), m.cols()));
            let problem = format!("training labels {b}, but the augmented ones are {a}");
            return Err(Error::file(&data.path, problem));
        }
        let data = Dataset { train: Part { y: y.clone(), ..data.train.clone() }, ..data.clone() };
        data.save_with(dir, |dir| write_json(&dir.join(BUILT), &self.report))
    }
}

//! Trains ELIAS on the toy in folders of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;
use xmc::config;
use xmc::data::dataset::Dataset;
use xmc::events::Events;
use xmc::methods::elias::{self, EliasConfig};
use xmc::methods::{Summary, TrainOptions};

use crate::folders::files;
use crate::toy::{data, encoder};

/// Folders of a test.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) data: Dataset,
    pub(crate) encoder: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let encoder = encoder(dir.path());
        World { dir, data: data(), encoder }
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Trains with settings that suit the toy, and `sets`.
    pub(crate) fn train(
        &self,
        name: &str,
        sets: &[&str],
        options: &TrainOptions,
        events: &dyn Events,
    ) -> xmc::Result<Summary> {
        let encoder = format!("encoder={}", self.encoder.display());
        let quick = [
            encoder.as_str(),
            "max_len=16",
            "precision=f32",
            "vectorizer.min_df=1",
            "cluster.max_leaf_size=3",
            "index.beam=3",
            "index.kappa=8",
            "training.batch_size=16",
            "training.embedding_dropout=0.0",
            "training.dropout=false",
            "warmup.epochs=2",
            "stage1.epochs=6",
            "stage2.epochs=6",
            "stage1.lr=0.003",
            "stage2.lr=0.003",
        ];
        let sets: Vec<String> = quick.iter().chain(sets).map(|&set| set.to_owned()).collect();
        let config = config::load::<EliasConfig>(None, &sets)?;
        elias::train(&self.data, &config, &TrainOptions { out: self.out(name), ..options.clone() }, events)
    }

    /// A metric on the rows that were learned, in percent.
    pub(crate) fn measured(&self, name: &str, sets: &[&str], metric: &str) -> f64 {
        let summary = self.train(name, sets, &options(), &xmc::events::Silent).unwrap();
        summary.metrics.unwrap().values.get(metric).unwrap()
    }

    /// What a training must be refused with.
    pub(crate) fn refused(&self, sets: &[&str]) -> String {
        self.train("refused", sets, &options(), &xmc::events::Silent).unwrap_err().to_string()
    }

    /// All files of a folder with their bytes, but `model.json`, which names seconds.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        files(&self.out(name))
    }
}

/// Seed 3.
pub(crate) fn options() -> TrainOptions {
    TrainOptions { seed: 3, ..TrainOptions::new("replaced") }
}

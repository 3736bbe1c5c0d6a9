//! Trains XR-Transformer on the toy in folders of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;
use xmc::config;
use xmc::data::dataset::Dataset;
use xmc::events::Events;
use xmc::methods::xr_transformer::{self, XrTransformerConfig};
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
            "preliminary.max_leaf_size=2",
            "preliminary.branching=4",
            "cluster.max_leaf_size=4",
            "cluster.branching=4",
            "training.epochs=3",
            "training.lr=0.003",
            "training.warmup_steps=2",
            "training.dropout=false",
        ];
        let sets: Vec<String> = quick.iter().chain(sets).map(|&set| set.to_owned()).collect();
        let config = config::load::<XrTransformerConfig>(None, &sets)?;
        xr_transformer::train(
            &self.data,
            &config,
            &TrainOptions { out: self.out(name), ..options.clone() },
            events,
        )
    }

    /// P@1 on the rows that were learned, in percent.
    pub(crate) fn precision(&self, name: &str, sets: &[&str]) -> f64 {
        let summary = self.train(name, sets, &options(), &xmc::events::Silent).unwrap();
        summary.metrics.unwrap().values.get("P@1").unwrap()
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

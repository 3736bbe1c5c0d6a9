//! Trains DEXML on the toy in folders of its own.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use xmc::config;
use xmc::data::dataset::Dataset;
use xmc::events::Events;
use xmc::methods::Summary;
use xmc::methods::TrainOptions;
use xmc::methods::dexml::{self, DexmlConfig};

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

    pub(crate) fn train(
        &self,
        name: &str,
        sets: &[&str],
        resume: bool,
        events: &dyn Events,
    ) -> xmc::Result<Summary> {
        let encoder = format!("encoder={}", self.encoder.display());
        let quick = ["lr=0.003", "batch_size=32", "max_len=16", "epochs=12", "dropout=false", "validation=0"];
        let sets: Vec<String> = quick
            .iter()
            .copied()
            .chain([encoder.as_str()])
            .chain(sets.iter().copied())
            .map(str::to_owned)
            .collect();
        let config = config::load::<DexmlConfig>(None, &sets).unwrap();
        let options = TrainOptions { seed: 3, resume, ..TrainOptions::new(self.out(name)) };
        dexml::train(&self.data, &config, &options, events)
    }

    /// The bytes of the parts of a model that were learned.
    pub(crate) fn learned(&self, name: &str) -> [Vec<u8>; 2] {
        ["encoder/model.safetensors", "label_embeddings"]
            .map(|part| fs::read(self.out(name).join(part)).unwrap())
    }
}

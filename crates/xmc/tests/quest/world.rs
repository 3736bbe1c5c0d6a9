//! Trains QUEST on the toy in folders of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;
use xmc::config;
use xmc::data::dataset::Dataset;
use xmc::events::Events;
use xmc::methods::Summary;
use xmc::methods::TrainOptions;
use xmc::methods::quest::{self, QuestConfig};

use crate::decoder::decoder;
use crate::folders::files;
use crate::toy::data;

/// Folders of a test.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) data: Dataset,
    pub(crate) decoder: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let decoder = decoder(dir.path());
        World { dir, data: data(), decoder }
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
        let decoder = format!("decoder={}", self.decoder.display());
        let quick =
            ["lr=0.02", "batch_size=32", "epochs=4", "validation=0", "sampling.ratio=1", "max_len=16"];
        let sets: Vec<String> = quick
            .iter()
            .copied()
            .chain([decoder.as_str()])
            .chain(sets.iter().copied())
            .map(str::to_owned)
            .collect();
        let config = config::load::<QuestConfig>(None, &sets).unwrap();
        let options = TrainOptions { seed: 3, resume, ..TrainOptions::new(self.out(name)) };
        quest::train(&self.data, &config, &options, events)
    }

    /// The bytes of the parts of a model, but the curves, which hold times.
    pub(crate) fn learned(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = files(&self.out(name));
        files.remove("curves.jsonl");
        files
    }
}

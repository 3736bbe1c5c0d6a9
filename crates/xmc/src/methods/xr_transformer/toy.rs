//! A small world for tests: words that mean labels, a tree of three levels over them, and an encoder that knows nothing.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use xmc_data::{Csr, CsrBuilder};
use xmc_linear::{Features, Tree};
use xmc_nn::tokens::Tokens;
use xmc_nn::tower::{Pooling, Tower, TowerConfig};
use xmc_nn::transformer::Config;
use xmc_nn::{Device, Precision};

use super::config::XrTransformerConfig;
use super::levels::{Task, fine_tune};

use crate::encoder::PrecisionChoice;
use crate::error::Result;
use crate::events::Events;
use crate::methods::TrainOptions;
use crate::methods::start::Start;
use crate::run::{Identity, Run};

pub(in crate::methods) const ROWS: usize = 96;
pub(in crate::methods) const LABELS: u32 = 24;
const WORDS: u32 = LABELS + 10;

/// Everything that the levels are trained from.
pub(in crate::methods) struct World {
    pub(in crate::methods) dir: TempDir,
    pub(in crate::methods) start: Start,
    pub(in crate::methods) tokens: Tokens,
    pub(in crate::methods) x: Features,
    pub(in crate::methods) y: Csr,
    pub(in crate::methods) tree: Tree,
}

/// Labels of row i; every 16th row has none.
fn labels(i: usize) -> Vec<u32> {
    let i = i as u32;
    if i % 16 == 15 {
        return Vec::new();
    }
    let mut labels = vec![i % LABELS, (i * 7 + 5) % LABELS];
    labels.sort_unstable();
    labels.dedup();
    labels
}

/// A word for each label, and some that mean nothing.
fn words(i: usize) -> Vec<u32> {
    let noise = (0..i % 4).map(|at| LABELS + ((i + at * 3) % 10) as u32);
    labels(i).into_iter().chain(noise).collect()
}

impl World {
    pub(in crate::methods) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let encoder = dir.path().join("encoder");
        fs::create_dir(&encoder).unwrap();
        let vocab: serde_json::Map<_, _> = (0..=WORDS).map(|id| (format!("w{id}"), id.into())).collect();
        let around = json!({ "id": "w0", "type_id": 0 });
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": [], "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{ "SpecialToken": around }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { "w0": { "id": "w0", "ids": [0], "tokens": ["w0"] } }
            },
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" },
        });
        fs::write(encoder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let transformer = Config { positions: 16, ..Config::bert(WORDS as usize + 1, 24, 1, 2, 48) };
        let tower = TowerConfig { pooling: Pooling::Mean, projection: None, normalize: false };
        Tower::random(transformer, tower, 5, Device::Cpu, Precision::F32).unwrap().save(&encoder).unwrap();
        let (mut x, mut y) = (CsrBuilder::new(), CsrBuilder::new());
        for i in 0..ROWS {
            x.push(words(i).into_iter().map(|word| (word, 0.5)));
            y.push(labels(i).into_iter().map(|label| (label, 1.0)));
        }
        // 3, 6 and 24 nodes; a leaf is not the label of its number.
        let offsets = vec![vec![0, 3], vec![0, 2, 4, 6], vec![0, 4, 8, 12, 16, 20, 24]];
        let leaves = (0..LABELS).map(|leaf| leaf * 5 % LABELS).collect();
        World {
            start: Start { dir: encoder, tower },
            tokens: Tokens::new(
                (0..ROWS)
                    .map(|i| [0].into_iter().chain(words(i).iter().map(|w| w + 1)).collect::<Vec<u32>>()),
            ),
            x: x.finish(WORDS as usize).unwrap().into(),
            y: y.finish(LABELS as usize).unwrap(),
            tree: Tree::new(offsets, leaves, LABELS as usize).unwrap(),
            dir,
        }
    }

    /// Where the stages of the run `name` lie.
    pub(super) fn run(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.run"))
    }

    pub(super) fn options(&self, name: &str) -> TrainOptions {
        TrainOptions { seed: 3, ..TrainOptions::new(self.dir.path().join(name)) }
    }

    pub(super) fn task<'a>(
        &'a self,
        config: &'a XrTransformerConfig,
        options: &'a TrainOptions,
        events: &'a dyn Events,
    ) -> Task<'a> {
        let World { start, tokens, x, y, tree, .. } = self;
        Task { config, x, y, relevance: None, tree, tokens, start, options, events }
    }

    /// Trains all levels as the run `name`, whose folder stays.
    pub(super) fn learn(
        &self,
        name: &str,
        config: &XrTransformerConfig,
        resume: bool,
        events: &dyn Events,
    ) -> Result<PathBuf> {
        let options = self.options(name);
        let (version, method, data) = (String::new(), String::new(), String::new());
        let identity = Identity { version, method, config: json!(null), seed: 3, data };
        let mut run = Run::start(&options.out, &identity, resume, events)?;
        fine_tune(&mut run, &self.task(config, &options, events))
    }
}

/// Settings with which the world is learned in a moment.
pub(super) fn config() -> XrTransformerConfig {
    let mut config = XrTransformerConfig { precision: PrecisionChoice::F32, ..Default::default() };
    let training = &mut config.training;
    (training.lr, training.head_lr) = (all(0.003), all(0.03));
    (training.epochs, training.batch_size, training.warmup_steps) = (all(8.0), 16, all(4));
    training.dropout = false;
    config
}

/// One value for all levels.
pub(super) fn all<T>(value: T) -> xmc_linear::ranker::PerLevel<T> {
    xmc_linear::ranker::PerLevel::All(value)
}

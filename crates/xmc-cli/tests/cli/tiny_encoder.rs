//! The folder of a tiny encoder with random weights: a BERT of two layers, and its word pieces.

use std::fs;
use std::path::Path;

use xmc_nn::tower::{Tower, TowerConfig};
use xmc_nn::transformer::Config;
use xmc_nn::{Device, Precision};

/// Words that the tokenizer knows; all others fall into letters.
const WORDS: [&str; 12] = [
    "whale", "coral", "tide", "summit", "glacier", "ridge", "oven", "butter", "violin", "chord", "sea",
    "life",
];

/// Width of an embedding.
pub(crate) const DIM: usize = 16;

/// Writes the encoder to `dir`.
pub(crate) fn write_tiny_encoder(dir: &Path) {
    let letters = ('a'..='z').chain('0'..='9').map(String::from);
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let pieces: Vec<String> = special
        .into_iter()
        .chain(letters.clone())
        .chain(letters.map(|letter| format!("##{letter}")))
        .chain(WORDS.map(str::to_owned))
        .collect();
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("vocab.txt"), pieces.join("\n") + "\n").unwrap();
    fs::write(dir.join("tokenizer_config.json"), "{\"do_lower_case\": true}").unwrap();
    let config = Config { positions: 64, ..Config::bert(pieces.len(), DIM, 2, 4, 32) };
    let mut tower = Tower::random(config, TowerConfig::default(), 7, Device::Cpu, Precision::F32).unwrap();
    // Fresh weights are so small that all texts look alike.
    let louder: Vec<f32> = tower.params().iter().map(|w| if w.abs() < 0.5 { 12.0 * w } else { *w }).collect();
    tower.set_params(&louder).unwrap();
    tower.save(dir).unwrap();
}

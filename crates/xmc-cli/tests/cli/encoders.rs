//! A tiny encoder with random weights, and a dexml model made of it without training: enough for everything that
//! embeds. A text that is the name of a label is nearest to that label.

use std::fs;

use xmc::encoder::Encoder;
use xmc::index::{Dtype, LabelEmbeddings};
use xmc::methods::dexml::DexmlConfig;
use xmc::model::manifest::{DataSummary, FORMAT, Manifest};
use xmc_data::Strings;
use xmc_nn::tower::{Tower, TowerConfig};
use xmc_nn::transformer::Config;
use xmc_nn::{Device, Precision};

use crate::world::World;

/// Words that the tokenizer knows; all others fall into letters.
const WORDS: [&str; 12] = [
    "whale", "coral", "tide", "summit", "glacier", "ridge", "oven", "butter", "violin", "chord", "sea",
    "life",
];

/// Width of an embedding.
pub(crate) const DIM: usize = 16;

/// Writes the folder `name`: a BERT of two layers, and its word pieces.
pub(crate) fn write_encoder(world: &World, name: &str) {
    let letters = ('a'..='z').chain('0'..='9').map(String::from);
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let pieces: Vec<String> = special
        .into_iter()
        .chain(letters.clone())
        .chain(letters.map(|letter| format!("##{letter}")))
        .chain(WORDS.map(str::to_owned))
        .collect();
    world.write(&format!("{name}/vocab.txt"), (pieces.join("\n") + "\n").as_bytes());
    world.write(&format!("{name}/tokenizer_config.json"), b"{\"do_lower_case\": true}");
    let config = Config { positions: 64, ..Config::bert(pieces.len(), DIM, 2, 4, 32) };
    let mut tower = Tower::random(config, TowerConfig::default(), 7, Device::Cpu, Precision::F32).unwrap();
    // Fresh weights are so small that all texts look alike.
    let louder: Vec<f32> = tower.params().iter().map(|w| if w.abs() < 0.5 { 12.0 * w } else { *w }).collect();
    tower.set_params(&louder).unwrap();
    tower.save(&world.path(name)).unwrap();
}

/// A world with the folder `encoder` and the model `model`, which has the labels of the data.
pub(crate) fn world_with_dexml() -> World {
    world_with_dexml_of(&DexmlConfig::default())
}

pub(crate) fn world_with_dexml_of(config: &DexmlConfig) -> World {
    let world = World::new();
    write_encoder(&world, "encoder");
    let dir = world.path("model");
    fs::create_dir_all(dir.join("encoder")).unwrap();
    for file in ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"] {
        fs::copy(world.path("encoder").join(file), dir.join("encoder").join(file)).unwrap();
    }
    let names = Strings::new(String::from_utf8(world.read("data/raw/Y.txt")).unwrap().lines());
    names.save(&dir.join("labels")).unwrap();
    let encoder =
        Encoder::open(&dir.join("encoder"), TowerConfig::default(), 32, Device::Cpu, Precision::F32).unwrap();
    let rows = encoder.embed(&names, &|_, _| {}).unwrap();
    let labels = LabelEmbeddings::from_values(DIM, rows.host(), Dtype::F32).unwrap();
    labels.save(&dir.join("label_embeddings")).unwrap();
    let data = DataSummary {
        name: "data".into(),
        rows: 60,
        labels: names.len(),
        features: DIM,
        fingerprint: String::new(),
    };
    let manifest = Manifest {
        format: FORMAT,
        version: "0.1.0".into(),
        method: "dexml".into(),
        config: serde_json::to_value(config).unwrap(),
        seed: 0,
        data,
        metrics: None,
        added_labels: 0,
        files: Vec::new(),
    };
    manifest.seal(&dir).unwrap();
    world
}

//! A tiny encoder with random weights, and a dexml model made of it without training: enough for everything that
//! embeds. A text that is the name of a label is nearest to that label.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use xmc::encoder::Encoder;
use xmc::index::{Dtype, LabelEmbeddings};
use xmc::methods::dexml::DexmlConfig;
use xmc::model::manifest::{DataSummary, FORMAT, Manifest};
use xmc_data::Strings;
use xmc_nn::tower::TowerConfig;
use xmc_nn::{Device, Precision};

use crate::tiny_encoder::{DIM, write_tiny_encoder};
use crate::world::World;

/// Writes the folder `name`.
pub(crate) fn write_encoder(world: &World, name: &str) {
    write_tiny_encoder(&world.path(name));
}

/// Files of a folder and of those in it.
pub(crate) fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(tree(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
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

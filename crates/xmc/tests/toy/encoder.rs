//! An encoder that has learned nothing, for tests of methods that begin with one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use xmc::nn::transformer::Config;
use xmc::nn::{Device, Pooling, Precision, Tower, TowerConfig};

/// A tokenizer with one token for every word.
pub(crate) fn write_tokenizer(dir: &Path, words: &[String]) {
    let vocab: Map<_, _> =
        words.iter().zip(0..).map(|(word, id): (_, u32)| (word.clone(), id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let around = |content: &str, id: u32| json!({ "id": content, "ids": [id], "tokens": [content] });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                       { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": around("[CLS]", 2), "[SEP]": around("[SEP]", 3) }
        },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]" },
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// An encoder with one layer and one token for every word.
pub(crate) fn of_words(dir: &Path, words: &[String]) -> PathBuf {
    let encoder = dir.join("encoder");
    fs::create_dir_all(&encoder).unwrap();
    write_tokenizer(&encoder, words);
    let transformer = Config { positions: 16, ..Config::bert(words.len(), 32, 1, 2, 64) };
    let shape = TowerConfig { pooling: Pooling::Mean, projection: None, normalize: true };
    Tower::random(transformer, shape, 5, Device::Cpu, Precision::F32).unwrap().save(&encoder).unwrap();
    encoder
}

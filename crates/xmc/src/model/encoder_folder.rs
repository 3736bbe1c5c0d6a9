//! How does an encoder lie on its own, so that it is used as it was trained?
//!
//! As a folder of Hugging Face with further files: `1_Pooling/config.json` and `sentence_bert_config.json`, which
//! sentence-transformers and this program read, and `tower.json`, which says that this program wrote the folder, all that
//! stands behind the transformer, how much of a text it reads, and the names of the files. `modules.json`, by which
//! sentence-transformers opens the folder, is not written with a pooler or a projection: that program would look for their
//! weights elsewhere.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmc_data::formats::atomic::write_atomically;
use xmc_nn::tower::{Pooling, TowerConfig};
use xmc_nn::transformer::Config;

use super::manifest;
use super::publish::{is_empty, replace};
use crate::encoder::stored_pooling;
use crate::error::{Error, Result};
use crate::run::create;

/// Name of the file that makes a folder one of this program.
const CARD: &str = "tower.json";

/// Where sentence-transformers keeps how many tokens of a text it reads, and what stands behind the transformer.
const LENGTH: &str = "sentence_bert_config.json";
const MODULES: &str = "modules.json";

/// What that file says.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    /// Version of the program that wrote it.
    version: String,
    /// What stands behind the transformer.
    tower: TowerConfig,
    /// Tokens of a text that are read, special ones included; not in folders of earlier versions.
    max_len: Option<usize>,
    /// All other files.
    files: Vec<String>,
}

/// Describes the encoder in the folder `dir`, whose texts are cut to `max_len` tokens, by these files.
pub(crate) fn describe(dir: &Path, tower: TowerConfig, max_len: usize) -> Result<()> {
    let transformer = Config::open(&dir.join("config.json"))?;
    let (hidden, max_len) = (transformer.hidden, max_len.min(transformer.max_positions()));
    let pooling = dir.join("1_Pooling");
    create(&pooling)?;
    write_json(&pooling.join("config.json"), &pooling_json(tower.pooling, hidden)?)?;
    write_json(&dir.join(LENGTH), &json!({ "max_seq_length": max_len, "do_lower_case": false }))?;
    if tower.pooling != Pooling::Pooler && tower.projection.is_none() {
        write_json(&dir.join(MODULES), &modules_json(tower))?;
    }
    let mut files = manifest::list(dir)?;
    files.retain(|name| name != CARD);
    files.sort_unstable();
    let card = Card { version: env!("CARGO_PKG_VERSION").to_owned(), tower, max_len: Some(max_len), files };
    write_json(&dir.join(CARD), &card)
}

/// Whether this program wrote the encoder in `dir`, alone or as part of a model.
pub fn is_at(dir: &Path) -> bool {
    dir.join(CARD).is_file()
}

/// What stands behind the transformer of the encoder in `dir`: what its files say, else what is usual. Pooling is `pooling`
/// if given, whatever the files say.
pub fn stored_tower(dir: &Path, pooling: Option<Pooling>) -> Result<TowerConfig> {
    let (stored, pooling) = match (card(dir)?, pooling) {
        (Some(card), pooling) => (card.tower, pooling.unwrap_or(card.tower.pooling)),
        (None, Some(pooling)) => (TowerConfig::default(), pooling),
        (None, None) => (TowerConfig::default(), stored_pooling(dir)?.unwrap_or_default()),
    };
    Ok(TowerConfig { pooling, ..stored })
}

/// Tokens of a text that the encoder in `dir` reads, if its files say so, in our way or that of sentence-transformers.
pub fn stored_max_len(dir: &Path) -> Result<Option<usize>> {
    if let Some(card) = card(dir)? {
        return Ok(card.max_len);
    }
    let path = dir.join(LENGTH);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
    Ok(json["max_seq_length"].as_u64().map(|most| most as usize).filter(|&most| most > 2))
}

/// Refuses a target that exists and is no encoder of this program, or holds more than that.
pub(crate) fn refuse_foreign(out: &Path) -> Result<()> {
    if fs::symlink_metadata(out).is_err() || is_empty(out)? {
        return Ok(());
    }
    let refuse = |what: &str| {
        let problem = format!("exists and {what}, so it is not overwritten: choose another --out");
        Err(Error::file(out, problem))
    };
    let Some(card) = card(out)? else {
        return refuse("is not an encoder that this program wrote");
    };
    let names = manifest::list(out)?;
    match names.iter().find(|name| *name != CARD && !card.files.contains(name)) {
        Some(name) => refuse(&format!("holds `{name}`, which belongs to no encoder")),
        None => Ok(()),
    }
}

/// Puts the described encoder `complete` at `out` and removes what was there; `old` as in [`super::publish::publish`].
pub(crate) fn publish(complete: &Path, out: &Path, old: &Path) -> Result<()> {
    refuse_foreign(out)?;
    replace(complete, out, old)
}

/// Bytes of all files of the encoder in `dir`.
pub(crate) fn bytes(dir: &Path) -> Result<u64> {
    let size = |name: &String| {
        let path = dir.join(name);
        fs::metadata(&path).map(|file| file.len()).map_err(Error::io(&path))
    };
    manifest::list(dir)?.iter().map(size).sum()
}

fn card(dir: &Path) -> Result<Option<Card>> {
    let path = dir.join(CARD);
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let damaged = |e| Error::file(&path, format!("damaged or not of this program: {e}"));
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Pooling as sentence-transformers writes it: flags for what it knows, the name of the mode for what it does not.
fn pooling_json(pooling: Pooling, hidden: usize) -> Result<Value> {
    let modes = [("cls_token", pooling == Pooling::Cls), ("mean_tokens", pooling == Pooling::Mean)];
    let mut json = json!({ "word_embedding_dimension": hidden });
    for (mode, chosen) in modes {
        json[format!("pooling_mode_{mode}")] = chosen.into();
    }
    if !modes.iter().any(|(_, chosen)| *chosen) {
        json["pooling_mode"] = serde_json::to_value(pooling).map_err(|e| Error::Mismatch(e.to_string()))?;
    }
    Ok(json)
}

/// Modules of sentence-transformers, in their order.
fn modules_json(tower: TowerConfig) -> Value {
    let module = |i: usize, path: &str, kind: &str| json!({ "idx": i, "name": i.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    if tower.normalize {
        modules.push(module(2, "2_Normalize", "Normalize"));
    }
    modules.into()
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|e| Error::Mismatch(e.to_string()))?;
    Ok(write_atomically(path, |file| file.write_all(&json).map_err(xmc_data::Error::io(path)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder of an encoder of 4 tokens and 8 values, without weights.
    fn write_config(dir: &Path) {
        let config = Config { positions: 64, ..Config::bert(4, 8, 1, 2, 16) };
        fs::write(dir.join("config.json"), config.to_json().to_string()).unwrap();
    }

    #[test]
    fn what_is_described_is_read_back() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        write_config(dir);
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Pooler] {
            let tower = TowerConfig { pooling, projection: Some(3), normalize: true };
            describe(dir, tower, 24).unwrap();
            assert_eq!(stored_tower(dir, None).unwrap(), tower);
            assert_eq!(stored_pooling(dir).unwrap(), Some(pooling));
            let other = stored_tower(dir, Some(Pooling::Cls)).unwrap();
            assert_eq!(other, TowerConfig { pooling: Pooling::Cls, ..tower });
        }
        assert!(is_at(dir) && !dir.join(MODULES).exists());
        assert_eq!(stored_max_len(dir).unwrap(), Some(24));
        // More than the encoder can read is not said.
        describe(dir, TowerConfig::default(), 8192).unwrap();
        assert_eq!(stored_max_len(dir).unwrap(), Some(64));
        let modules: Value = serde_json::from_slice(&fs::read(dir.join(MODULES)).unwrap()).unwrap();
        let paths: Vec<&str> =
            modules.as_array().unwrap().iter().map(|m| m["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["", "1_Pooling", "2_Normalize"]);
        // Without our own file, those of sentence-transformers.
        fs::remove_file(dir.join(CARD)).unwrap();
        assert_eq!(stored_tower(dir, None).unwrap(), TowerConfig::default());
        assert_eq!(stored_max_len(dir).unwrap(), Some(64));
        fs::write(dir.join(CARD), "{}").unwrap();
        assert!(stored_tower(dir, None).unwrap_err().to_string().contains("tower.json"));
        assert!(stored_max_len(dir).unwrap_err().to_string().contains("tower.json"));
    }

    #[test]
    fn only_an_encoder_of_this_program_with_nothing_beside_is_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        for name in ["new", "out"] {
            fs::create_dir(at(name)).unwrap();
            write_config(&at(name));
            fs::write(at(name).join("vocab.txt"), name).unwrap();
        }
        describe(&at("new"), TowerConfig::default(), 8).unwrap();
        let message = || publish(&at("new"), &at("out"), &at("old")).unwrap_err().to_string();
        assert!(message().contains("is not an encoder that this program wrote"), "{}", message());
        describe(&at("out"), TowerConfig::default(), 8).unwrap();
        fs::write(at("out").join("notes"), "mine").unwrap();
        assert!(message().contains("holds `notes`"), "{}", message());
        fs::remove_file(at("out").join("notes")).unwrap();
        publish(&at("new"), &at("out"), &at("old")).unwrap();
        assert_eq!(fs::read_to_string(at("out").join("vocab.txt")).unwrap(), "new");
        assert!(!at("new").exists() && !at("old").exists());
    }
}

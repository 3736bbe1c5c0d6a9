//! How does an encoder lie on its own, so that it is used as it was trained?
//!
//! As a folder of Hugging Face with two files more: `1_Pooling/config.json`, which sentence-transformers and this program
//! read, and `tower.json`, which says that this program wrote the folder, all that stands behind the transformer, and the
//! names of the files.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmc_data::formats::atomic::write_atomically;
use xmc_nn::tower::{Pooling, TowerConfig};

use super::manifest;
use super::publish::{is_empty, replace};
use crate::encoder::stored_pooling;
use crate::error::{Error, Result};
use crate::run::create;

/// Name of the file that makes a folder one of this program.
const CARD: &str = "tower.json";

/// What that file says.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    /// Version of the program that wrote it.
    version: String,
    /// What stands behind the transformer.
    tower: TowerConfig,
    /// All other files.
    files: Vec<String>,
}

/// Describes the encoder in the folder `dir`, whose hidden states have `hidden` values, by the two files.
pub(crate) fn describe(dir: &Path, tower: TowerConfig, hidden: usize) -> Result<()> {
    let pooling = dir.join("1_Pooling");
    create(&pooling)?;
    write_json(&pooling.join("config.json"), &pooling_json(tower.pooling, hidden)?)?;
    let mut files = manifest::list(dir)?;
    files.retain(|name| name != CARD);
    files.sort_unstable();
    let card = Card { version: env!("CARGO_PKG_VERSION").to_owned(), tower, files };
    write_json(&dir.join(CARD), &card)
}

/// What stands behind the transformer of the encoder in `dir`, as far as its files say.
pub fn stored_tower(dir: &Path) -> Result<Option<TowerConfig>> {
    match card(dir)? {
        Some(card) => Ok(Some(card.tower)),
        None => Ok(stored_pooling(dir)?.map(|pooling| TowerConfig { pooling, ..TowerConfig::default() })),
    }
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

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|e| Error::Mismatch(e.to_string()))?;
    Ok(write_atomically(path, |file| file.write_all(&json).map_err(xmc_data::Error::io(path)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_read_back() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        fs::write(dir.join("config.json"), "{}").unwrap();
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Pooler] {
            let tower = TowerConfig { pooling, projection: Some(3), normalize: true };
            describe(dir, tower, 8).unwrap();
            assert_eq!(stored_tower(dir).unwrap(), Some(tower));
            assert_eq!(stored_pooling(dir).unwrap(), Some(pooling));
        }
        fs::remove_file(dir.join(CARD)).unwrap();
        assert_eq!(stored_tower(dir).unwrap().map(|tower| tower.projection), Some(None));
        fs::write(dir.join(CARD), "{}").unwrap();
        assert!(stored_tower(dir).unwrap_err().to_string().contains("tower.json"));
    }

    #[test]
    fn only_an_encoder_of_this_program_with_nothing_beside_is_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        for name in ["new", "out"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("config.json"), name).unwrap();
        }
        describe(&at("new"), TowerConfig::default(), 8).unwrap();
        let message = || publish(&at("new"), &at("out"), &at("old")).unwrap_err().to_string();
        assert!(message().contains("is not an encoder that this program wrote"), "{}", message());
        describe(&at("out"), TowerConfig::default(), 8).unwrap();
        fs::write(at("out").join("notes"), "mine").unwrap();
        assert!(message().contains("holds `notes`"), "{}", message());
        fs::remove_file(at("out").join("notes")).unwrap();
        publish(&at("new"), &at("out"), &at("old")).unwrap();
        assert_eq!(fs::read_to_string(at("out").join("config.json")).unwrap(), "new");
        assert!(!at("new").exists() && !at("old").exists());
    }
}

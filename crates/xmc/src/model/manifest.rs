//! `model.json`: what a model is, and which files with which content belong to it.
//!
//! It is written last and names every other file with its size and checksum. Its own checksum stands in its first
//! lines and covers all that follows, so a single changed bit anywhere in a model folder is found before it is used.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path};

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use xmc_data::formats::atomic::write_atomically;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::{Error, Result};

/// Format version this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Name of the manifest in a model folder.
pub const NAME: &str = "model.json";

/// How `model.json` begins; 16 hexadecimal digits follow, then `"` and the covered rest.
const OPENING: &str = "{\n  \"checksum\": \"";

/// Everything about a model but its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of the folder.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Name of the method.
    pub method: String,
    /// The full configuration it was trained with.
    pub config: serde_json::Value,
    /// Seed it was trained with; 0 in an ensemble, whose members have their own.
    pub seed: u64,
    /// What it was trained on.
    pub data: DataSummary,
    /// Scores on the test rows of that data, in percent, if it had any.
    pub metrics: Option<serde_json::Map<String, serde_json::Value>>,
    /// Labels that were added after training; the last ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub added_labels: usize,
    /// All other files of the folder.
    pub files: Vec<FileEntry>,
}

/// The training data of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Name of the data set.
    pub name: String,
    /// Training rows.
    pub rows: usize,
    /// Labels L.
    pub labels: usize,
    /// Sparse features d of a row, or the size d of its embedding.
    pub features: usize,
    /// Fingerprint of texts, features and labels.
    pub fingerprint: String,
}

/// One file of a model folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path in the folder, its parts with `/` between them.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// XXH3 of the content, 64 bits in hexadecimal.
    pub xxh3: String,
}

impl Manifest {
    /// Lists the files of `dir` and writes `model.json` beside them; `files` is replaced.
    pub fn seal(mut self, dir: &Path) -> Result<Self> {
        let entries = list(dir)?.into_par_iter().map(|name| {
            let (bytes, xxh3) = fingerprint(&dir.join(&name))?;
            Ok(FileEntry { name, bytes, xxh3 })
        });
        self.files = entries.collect::<Result<_>>()?;
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        let json = serde_json::to_string_pretty(&self).map_err(|e| Error::Mismatch(e.to_string()))?;
        let rest = format!("\",\n{}\n", json.trim_start_matches("{\n"));
        let text = format!("{OPENING}{:016x}{rest}", xxh3_64(rest.as_bytes()));
        let path = dir.join(NAME);
        write_atomically(&path, |file| file.write_all(text.as_bytes()).map_err(xmc_data::Error::io(&path)))?;
        Ok(self)
    }

    /// Reads `model.json` of `dir` and checks it and every file it names.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Self::read(dir)?;
        manifest.files.par_iter().try_for_each(|entry| check(dir, entry))?;
        Ok(manifest)
    }

    /// The same without the files.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        refuse_newer(&path, &text)?;
        let damaged =
            |problem: &str| Error::file(&path, format!("{problem}: train again or copy the model again"));
        let text = std::str::from_utf8(&text).map_err(|_| damaged("damaged"))?;
        let rest = text.strip_prefix(OPENING).and_then(|text| text.split_at_checked(16));
        let (checksum, rest) = rest.ok_or_else(|| damaged("damaged, truncated or not of this program"))?;
        if checksum != format!("{:016x}", xxh3_64(rest.as_bytes())) {
            return Err(damaged("damaged, truncated or changed by hand (its checksum differs)"));
        }
        serde_json::from_str(text).map_err(|e| damaged(&e.to_string()))
    }

    /// Whether a file of that name belongs to the model.
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Bytes of all files it names.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Paths of all files below `dir`, their parts with `/` between them.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    list_below(dir, "", &mut names)?;
    Ok(names)
}

/// The same, each with `prefix` before it.
fn list_below(dir: &Path, prefix: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            list_below(&path, &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

/// A newer format is reported as such even if nothing else of it can be understood.
fn refuse_newer(path: &Path, text: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    match serde_json::from_slice::<Format>(text) {
        Ok(Format { format }) if format > FORMAT => Err(Error::file(
            path,
            format!(
                "model format {format} is newer than this program, which reads up to {FORMAT}: update xmc"
            ),
        )),
        _ => Ok(()),
    }
}

fn check(dir: &Path, entry: &FileEntry) -> Result<()> {
    let path = dir.join(&entry.name);
    if !Path::new(&entry.name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::file(&path, "lies outside of the model folder: this is no model of this program"));
    }
    let found = fs::metadata(&path).map_err(Error::io(&path))?.len();
    if found != entry.bytes {
        let problem =
            format!("{found} bytes, expected {}: truncated or replaced; copy the model again", entry.bytes);
        return Err(Error::file(&path, problem));
    }
    if fingerprint(&path)?.1 != entry.xxh3 {
        return Err(Error::file(&path, "damaged (its checksum differs): copy the model again"));
    }
    Ok(())
}

/// Size and checksum of a file, read in pieces so that a large model does not pass through memory as a whole.
fn fingerprint(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let (mut hasher, mut bytes, mut buffer) = (Xxh3::new(), 0, vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(Error::io(path))? {
            0 => return Ok((bytes, format!("{:016x}", hasher.digest()))),
            n => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                bytes += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn manifest() -> Manifest {
        let data = DataSummary { name: "d".into(), rows: 1, labels: 2, features: 3, fingerprint: "f".into() };
        let (version, method, config) = ("1".into(), "xr-linear".into(), serde_json::json!({ "a": 0.5 }));
        Manifest {
            format: FORMAT,
            version,
            method,
            config,
            seed: 1,
            data,
            metrics: None,
            added_labels: 0,
            files: Vec::new(),
        }
    }

    fn sealed() -> (tempfile::TempDir, Manifest) {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("ranker.0"), vec![7; 1000]).unwrap();
        fs::write(tmp.path().join("labels"), "a b").unwrap();
        fs::create_dir(tmp.path().join("encoder")).unwrap();
        fs::write(tmp.path().join("encoder/config.json"), "{}").unwrap();
        let manifest = manifest().seal(tmp.path()).unwrap();
        (tmp, manifest)
    }

    #[test]
    fn what_was_sealed_opens_again() {
        let (tmp, manifest) = sealed();
        assert_eq!(manifest.bytes(), 1005);
        assert_eq!(Manifest::open(tmp.path()).unwrap(), manifest);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_names_its_file() {
        let (tmp, _) = sealed();
        for name in [NAME, "ranker.0", "labels", "encoder/config.json"] {
            let path: PathBuf = tmp.path().join(name);
            let good = fs::read(&path).unwrap();
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                for damaged in [&bad[..], &good[..at]] {
                    fs::write(&path, damaged).unwrap();
                    let message = Manifest::open(tmp.path()).map(|_| ()).unwrap_err().to_string();
                    assert!(message.contains(name), "{name} at {at}: {message}");
                }
            }
            fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn a_newer_format_asks_for_a_newer_program() {
        let (tmp, _) = sealed();
        fs::write(tmp.path().join(NAME), "{\"format\": 99, \"everything\": \"else\"}").unwrap();
        let message = Manifest::open(tmp.path()).unwrap_err().to_string();
        assert!(
            message.ends_with("model format 99 is newer than this program, which reads up to 1: update xmc")
        );
    }
}

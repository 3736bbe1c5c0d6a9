//! How does training survive a crash? By named runs of floats and a few facts in one checked file.
//!
//! A safetensors file, so that any tool can look inside. Its one metadata entry, `xmc`, is JSON: format version, the
//! caller's facts, and the xxh3 checksum of names, lengths, numbers and facts, so that a flipped bit anywhere is found.
//! Written aside and renamed: a crash while writing leaves the checkpoint before.
//!
//! ```
//! let dir = tempfile::tempdir().unwrap();
//! let path = dir.path().join("epoch.safetensors");
//! xmc_nn::checkpoint::save(&path, &[("params", &[1.0, 2.0])], &serde_json::json!({"epoch": 3}))?;
//! let mut loaded = xmc_nn::checkpoint::load(&path)?;
//! assert_eq!(loaded.take("params"), Some(vec![1.0, 2.0]));
//! assert_eq!(loaded.meta["epoch"], 3);
//! # Ok::<(), xmc_nn::Error>(())
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xmc_data::buffer::map_file;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::hf::weights::write_floats;

const KEY: &str = "xmc";
const VERSION: u32 = 1;

/// What a file holds: a run of floats is read when it is asked for, so that no two need to be in memory.
#[derive(Debug)]
pub struct Checkpoint {
    map: Arc<Mmap>,
    /// Bytes of each run in the file that are still to be handed out.
    runs: BTreeMap<String, Range<usize>>,
    /// The caller's facts.
    pub meta: Value,
}

/// The metadata entry.
#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    /// Sixteen hexadecimal digits.
    checksum: String,
    /// JSON as it was written: a number that is read and written again may differ in its last digit.
    meta: String,
}

impl Checkpoint {
    /// Hands out a run; none if there is none of that name, or not any more.
    pub fn take(&mut self, name: &str) -> Option<Vec<f32>> {
        let bytes = &self.map[self.runs.remove(name)?];
        Some(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }
}

/// Writes runs of floats and facts; names must differ.
pub fn save(path: &Path, tensors: &[(&str, &[f32])], meta: &Value) -> Result<()> {
    let mut sorted = tensors.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::Shape(format!("two tensors of a checkpoint are called `{}`", pair[0].0)));
    }
    let mut meta = meta.clone();
    meta.sort_all_objects();
    let meta = meta.to_string();
    let sum = checksum(sorted.iter().map(|&(name, values)| (name, bytemuck::cast_slice(values))), &meta);
    let entry = serde_json::to_string(&Entry {
        version: VERSION,
        checksum: format!("{sum:016x}"),
        meta: meta.clone(),
    });
    let entry = entry.map_err(|e| Error::file(path, format!("facts that JSON cannot hold: {e}")))?;
    let shapes: Vec<[usize; 1]> = sorted.iter().map(|(_, values)| [values.len()]).collect();
    let shaped: Vec<_> =
        sorted.iter().zip(&shapes).map(|(&(name, values), shape)| (name, shape.as_slice(), values)).collect();
    write_floats(path, &shaped, (KEY, entry))
}

/// Reads a file of [`save`] and compares its checksum.
pub fn load(path: &Path) -> Result<Checkpoint> {
    let damaged =
        |problem: String| Error::file(path, format!("truncated, damaged or no checkpoint: {problem}"));
    let map = map_file(path)?;
    let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| damaged(e.to_string()))?;
    let entry = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
    let entry = entry.ok_or_else(|| damaged(format!("its header has no entry `{KEY}`")))?;
    let entry: Entry = serde_json::from_str(entry).map_err(|e| damaged(e.to_string()))?;
    if entry.version != VERSION {
        let found = entry.version;
        return Err(Error::file(
            path,
            format!(
                "checkpoint of format version {found}, this program reads {VERSION}: use the program that wrote it"
            ),
        ));
    }
    // Checks that the file is as long as its header says.
    SafeTensors::deserialize(&map).map_err(|e| damaged(e.to_string()))?;
    // Eight bytes with the length of the header, the header, then the runs.
    let first = 8 + header;
    let mut runs = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        if info.dtype != Dtype::F32 || info.shape.len() != 1 {
            return Err(damaged(format!("`{name}` is {} {:?}", info.dtype, info.shape)));
        }
        runs.insert(name, first + info.data_offsets.0..first + info.data_offsets.1);
    }
    let sum = checksum(runs.iter().map(|(name, run)| (name.as_str(), &map[run.clone()])), &entry.meta);
    if entry.checksum != format!("{sum:016x}") {
        return Err(damaged("its checksum does not fit its content".to_owned()));
    }
    let meta = serde_json::from_str(&entry.meta).map_err(|e| damaged(e.to_string()))?;
    Ok(Checkpoint { map, runs, meta })
}

/// Of names, lengths and numbers (as bytes) in the order of names, and of the facts.
fn checksum<'a>(runs: impl Iterator<Item = (&'a str, &'a [u8])>, meta: &str) -> u64 {
    let mut hash = Xxh3::new();
    for (name, bytes) in runs {
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(&((bytes.len() / size_of::<f32>()) as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.update(meta.as_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn saved() -> (tempfile::TempDir, std::path::PathBuf, Value) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch.safetensors");
        let meta = json!({"epoch": 3, "loss": 0.333_333_333_333_333_15, "name": "größer", "nested": {"b": [1, 2], "a": null}});
        // Counters are floats with any bits: a quiet NaN with a payload, a denormal, minus zero.
        let odd = [f32::from_bits(0x7fc0_1234), f32::from_bits(7), -0.0, f32::INFINITY];
        save(&path, &[("steps", &odd), ("adam/m", &[1.5, -2.5]), ("none", &[])], &meta).unwrap();
        (dir, path, meta)
    }

    #[test]
    fn everything_comes_back_to_the_bit() {
        let (_dir, path, meta) = saved();
        let mut loaded = load(&path).unwrap();
        let bits: Vec<u32> = loaded.take("steps").unwrap().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [0x7fc0_1234, 7, 0x8000_0000, 0x7f80_0000]);
        assert_eq!(loaded.take("adam/m"), Some(vec![1.5, -2.5]));
        assert_eq!((loaded.take("none"), loaded.take("steps")), (Some(vec![]), None));
        assert_eq!(loaded.meta, meta);
    }

    #[test]
    fn equal_content_makes_equal_files_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        save(&a, &[("x", &[1.0]), ("y", &[2.0])], &json!({"p": 1, "q": 2})).unwrap();
        save(&b, &[("y", &[2.0]), ("x", &[1.0])], &json!({"q": 2, "p": 1})).unwrap();
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_is_refused_by_name() {
        let (_dir, path, meta) = saved();
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let message = load(&path).unwrap_err().to_string();
            assert!(message.contains("epoch.safetensors: truncated"), "{len} bytes: {message}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            match load(&path) {
                Err(error) => assert!(error.to_string().contains("epoch.safetensors: "), "{error}"),
                // A space of the padding after the header became another byte that JSON passes over, at most.
                Ok(loaded) => assert!(loaded.meta == meta && bytes[at] == b' ', "byte {at}"),
            }
        }
    }

    #[test]
    fn other_files_and_double_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut layout = crate::Layout::default();
        layout.push("w", &[2]);
        crate::hf::weights::write_safetensors(dir.path(), &layout, &[1.0, 2.0]).unwrap();
        let message = load(&dir.path().join("model.safetensors")).unwrap_err().to_string();
        assert!(message.contains("no checkpoint: its header has no entry `xmc`"), "{message}");
        let error = save(&dir.path().join("a"), &[("w", &[]), ("w", &[])], &Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "two tensors of a checkpoint are called `w`");
    }
}

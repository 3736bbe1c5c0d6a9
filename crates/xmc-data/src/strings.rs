//! How do millions of texts or names live in memory and on disk?
//!
//! As one run of bytes and `n + 1` offsets into it: two allocations, or one mapped file that opens at once.
//!
//! The file, little-endian: `xmcstrng`, u32 version, u32 zero, u64 count n, u64 bytes b, u64 xxh3 of all that
//! follows, u64 offsets `[n + 1]`, UTF-8 text `[b]`.
//!
//! ```
//! use xmc_data::Strings;
//! let mut s = Strings::new(["sea", "mountain"]);
//! s.push("");
//! assert_eq!((s.len(), s.get(1), s.get(2)), (3, "mountain", ""));
//! ```

use std::io::Write;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::buffer::{Buffer, map_file};
use crate::error::{Error, Result};
use crate::formats::atomic::write_atomically;

const MAGIC: &[u8; 8] = b"xmcstrng";
const VERSION: u32 = 1;
const HEADER: usize = 40;

/// A list of texts, owned or mapped from a file.
#[derive(Clone, Debug)]
pub struct Strings {
    /// `[n + 1]` byte offsets into `bytes`; rising in everything built here, unchecked in a mapped file.
    offsets: Buffer<u64>,
    bytes: Buffer<u8>,
}

impl Strings {
    /// Collects texts in order.
    pub fn new<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Self {
        let mut strings = Strings::with_capacity(0, 0);
        for text in texts {
            strings.push(text.as_ref());
        }
        strings
    }

    /// No texts yet, with room for `texts` of `bytes` bytes together.
    pub fn with_capacity(texts: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(texts + 1);
        offsets.push(0);
        Strings { offsets: offsets.into(), bytes: Vec::with_capacity(bytes).into() }
    }

    /// Appends a text; a mapped list is copied into memory first.
    pub fn push(&mut self, text: &str) {
        change(&mut self.bytes, |bytes| bytes.extend_from_slice(text.as_bytes()));
        let end = self.bytes.len() as u64;
        change(&mut self.offsets, |offsets| offsets.push(end));
    }

    /// Gives back memory that was reserved and not used.
    pub fn shrink_to_fit(&mut self) {
        change(&mut self.bytes, Vec::shrink_to_fit);
        change(&mut self.offsets, Vec::shrink_to_fit);
    }

    /// Number of texts n.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// True if there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Text `i`; empty if there is none, or if the mapped file is damaged there (see [`Strings::verify`]).
    pub fn get(&self, i: usize) -> &str {
        let range = match (self.offsets.get(i), self.offsets.get(i + 1)) {
            (Some(&start), Some(&end)) => start as usize..end as usize,
            _ => return "",
        };
        // Checked every time, at gigabytes a second, because a mapped file is not read at opening.
        self.bytes.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// All texts in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The texts with the given numbers, in the given order.
    pub fn select(&self, rows: &[u32]) -> Strings {
        let bytes = rows.iter().map(|&i| self.get(i as usize).len()).sum();
        let mut chosen = Strings::with_capacity(rows.len(), bytes);
        for &i in rows {
            chosen.push(self.get(i as usize));
        }
        chosen
    }

    /// Bytes of texts and offsets.
    pub fn bytes(&self) -> u64 {
        8 * self.offsets.len() as u64 + self.bytes.len() as u64
    }

    /// Writes the file described in the [module](self).
    pub fn save(&self, path: &Path) -> Result<()> {
        let offsets: &[u8] = bytemuck::cast_slice(&self.offsets);
        write_atomically(path, |file| {
            let write = |file: &mut dyn Write| {
                file.write_all(MAGIC)?;
                file.write_all(&VERSION.to_le_bytes())?;
                file.write_all(&[0; 4])?;
                file.write_all(&(self.len() as u64).to_le_bytes())?;
                file.write_all(&(self.bytes.len() as u64).to_le_bytes())?;
                file.write_all(&self.checksum().to_le_bytes())?;
                file.write_all(offsets)?;
                file.write_all(&self.bytes)
            };
            write(file).map_err(Error::io(path))
        })
    }

    /// Maps a file written by [`Strings::save`], in time that does not depend on its size.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let header = map
            .get(..HEADER)
            .filter(|h| h.starts_with(MAGIC))
            .ok_or_else(|| Error::file(path, "not a file of texts of this program, or truncated"))?;
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(Error::file(
                path,
                format!(
                    "format version {version}, this program reads {VERSION}: use the program that wrote it"
                ),
            ));
        }
        let (count, bytes) = (u64_at(header, 16), u64_at(header, 24));
        let text_at =
            count.checked_add(1).and_then(|n| n.checked_mul(8)).and_then(|n| n.checked_add(HEADER as u64));
        let (Some(text_at), true) =
            (text_at, text_at.and_then(|at| at.checked_add(bytes)) == Some(map.len() as u64))
        else {
            let found = map.len();
            return Err(Error::file(
                path,
                format!(
                    "truncated or damaged: {count} texts of {bytes} bytes do not make a file of {found} bytes"
                ),
            ));
        };
        Ok(Strings {
            offsets: Buffer::mapped(&map, HEADER, count as usize + 1, path)?,
            bytes: Buffer::mapped(&map, text_at as usize, bytes as usize, path)?,
        })
    }

    /// Reads everything and compares it with the checksum in the file, which must be the one it was opened from.
    pub fn verify(&self, path: &Path) -> Result<()> {
        let map = map_file(path)?;
        let stored = map.get(..HEADER).map(|h| u64_at(h, 32));
        let rising = self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&(self.bytes.len() as u64));
        if stored == Some(self.checksum()) && rising {
            return Ok(());
        }
        Err(Error::file(path, "damaged: its checksum does not fit its content; copy or write it again"))
    }

    fn checksum(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(bytemuck::cast_slice(&self.offsets));
        hash.update(&self.bytes);
        hash.digest()
    }
}

/// Changes the vector behind a buffer; a mapped one is copied first.
fn change<T: bytemuck::Pod>(buffer: &mut Buffer<T>, how: impl FnOnce(&mut Vec<T>)) {
    let mut values = match std::mem::replace(buffer, Buffer::Owned(Vec::new())) {
        Buffer::Owned(values) => values,
        mapped @ Buffer::Mapped(_) => mapped.to_vec(),
    };
    how(&mut values);
    *buffer = Buffer::Owned(values);
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(header: &[u8], at: usize) -> u64 {
    header.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Default for Strings {
    fn default() -> Self {
        Strings::with_capacity(0, 0)
    }
}

impl PartialEq for Strings {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        Strings::new(texts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved(strings: &Strings) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.bin");
        strings.save(&path).unwrap();
        (dir, path)
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn texts_come_back_from_memory_and_from_disk(
            texts in proptest::collection::vec(".{0,12}", 0..20),
        ) {
            let strings = Strings::new(&texts);
            prop_assert_eq!(strings.iter().collect::<Vec<_>>(), texts);
            let (_dir, path) = saved(&strings);
            let opened = Strings::open(&path).unwrap();
            prop_assert_eq!(&opened, &strings);
            opened.verify(&path).unwrap();
        }

        #[test]
        fn no_damaged_byte_makes_a_panic_and_verify_finds_each(at in 0usize..100, flip in 1u8..) {
            let (_dir, path) = saved(&Strings::new(["sea", "", "mountain", "größer"]));
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(strings) = Strings::open(&path) {
                strings.iter().for_each(drop);
                // Bytes 12..16 are reserved and not looked at.
                prop_assert!(strings.verify(&path).is_err() || (12..16).contains(&at));
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let (_dir, path) = saved(&Strings::new(["sea", "mountain"]));
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let message = Strings::open(&path).unwrap_err().to_string();
            assert!(message.contains("truncated"), "{len} bytes: {message}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let (_dir, path) = saved(&Strings::new(["sea"]));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 7;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Strings::open(&path).unwrap_err().to_string().contains("format version 7"));
    }

    #[test]
    fn pushing_onto_a_mapped_list_copies_it() {
        let (_dir, path) = saved(&Strings::new(["sea"]));
        let mut strings = Strings::open(&path).unwrap();
        strings.push("river");
        assert_eq!(strings, Strings::new(["sea", "river"]));
        assert_eq!(Strings::open(&path).unwrap().len(), 1);
    }

    #[test]
    fn selected_texts_keep_the_given_order() {
        let strings = Strings::new(["a", "b", "c"]);
        assert_eq!(strings.select(&[2, 0, 2]), Strings::new(["c", "a", "c"]));
        assert_eq!(strings.get(3), "");
    }
}

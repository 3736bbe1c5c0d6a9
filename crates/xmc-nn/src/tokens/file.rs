//! The file of token ids, little-endian: `xmctokns`, u32 version, u32 bytes of an id (2 or 4), u64 rows n, u64 ids t, u64
//! xxh3 of all that follows, u64 offsets `[n + 1]`, ids `[t]`.

use std::io::Write;
use std::path::Path;

use xmc_data::Buffer;
use xmc_data::buffer::map_file;
use xmc_data::formats::atomic::write_atomically;
use xxhash_rust::xxh3::Xxh3;

use super::{Ids, Tokens};
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"xmctokns";
const VERSION: u32 = 1;
const HEADER: usize = 40;

impl Tokens {
    /// Writes the file aside and renames it.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| {
            let write = |file: &mut dyn Write| {
                file.write_all(MAGIC)?;
                file.write_all(&VERSION.to_le_bytes())?;
                file.write_all(&self.ids.width().to_le_bytes())?;
                file.write_all(&(self.len() as u64).to_le_bytes())?;
                file.write_all(&self.total().to_le_bytes())?;
                file.write_all(&self.checksum().to_le_bytes())?;
                file.write_all(bytemuck::cast_slice(&self.offsets))?;
                file.write_all(self.ids.bytes())
            };
            write(file).map_err(xmc_data::Error::io(path))
        })?;
        Ok(())
    }

    /// Maps a file written by [`Tokens::save`], after one walk over it that compares its checksum.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let header = map.get(..HEADER).filter(|header| header.starts_with(MAGIC));
        let Some(header) = header else {
            return Err(Error::file(path, "not a file of token ids of this program, or truncated"));
        };
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(Error::file(
                path,
                format!(
                    "format version {version}, this program reads {VERSION}: remove it, it will be made again"
                ),
            ));
        }
        let (width, rows, total) = (u32_at(header, 12), u64_at(header, 16), u64_at(header, 24));
        if end_of(width, rows, total) != Some(map.len() as u64) {
            let found = map.len();
            return Err(Error::file(
                path,
                format!(
                    "truncated or damaged: {rows} rows of {total} ids of {width} bytes do not make a file of {found} bytes"
                ),
            ));
        }
        let (rows, total) = (rows as usize, total as usize);
        let ids_at = HEADER + 8 * (rows + 1);
        let ids = match width {
            2 => Ids::Narrow(Buffer::mapped(&map, ids_at, total, path)?),
            _ => Ids::Wide(Buffer::mapped(&map, ids_at, total, path)?),
        };
        let tokens = Tokens { offsets: Buffer::mapped(&map, HEADER, rows + 1, path)?, ids };
        let rising = tokens.offsets.first() == Some(&0)
            && tokens.offsets.is_sorted()
            && tokens.offsets.last() == Some(&(total as u64));
        if !rising || tokens.checksum() != u64_at(header, 32) {
            return Err(Error::file(
                path,
                "damaged: its checksum does not fit its content; remove it, it will be made again",
            ));
        }
        Ok(tokens)
    }

    fn checksum(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(bytemuck::cast_slice(&self.offsets));
        hash.update(self.ids.bytes());
        hash.digest()
    }
}

/// Length of the file that a header promises; none if there can be no such file.
fn end_of(width: u32, rows: u64, total: u64) -> Option<u64> {
    let offsets = rows.checked_add(1)?.checked_mul(8)?;
    let ids = total.checked_mul(u64::from(width)).filter(|_| width == 2 || width == 4)?;
    offsets.checked_add(ids)?.checked_add(HEADER as u64)
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(header: &[u8], at: usize) -> u64 {
    header.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved(tokens: &Tokens) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trn.tokens");
        tokens.save(&path).unwrap();
        (dir, path)
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn rows_come_back_from_memory_and_from_disk(
            rows in proptest::collection::vec(proptest::collection::vec(0u32..70_000, 0..9), 0..20),
        ) {
            let tokens = Tokens::new(&rows);
            prop_assert_eq!((0..tokens.len()).map(|i| tokens.row(i)).collect::<Vec<_>>(), rows.clone());
            let (_dir, path) = saved(&tokens);
            let opened = Tokens::open(&path).unwrap();
            prop_assert_eq!(&opened, &tokens);
            prop_assert_eq!(opened.total() as usize, rows.concat().len());
        }

        #[test]
        fn every_flipped_bit_is_found(at in 0usize..1000, flip in 1u8..) {
            let (_dir, path) = saved(&Tokens::new([vec![101, 5, 102], vec![101, 102], vec![]]));
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            let message = Tokens::open(&path).unwrap_err().to_string();
            prop_assert!(message.contains("trn.tokens: "), "{}", message);
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let (_dir, path) = saved(&Tokens::new([vec![101, 5, 102], vec![100_000]]));
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let message = Tokens::open(&path).unwrap_err().to_string();
            assert!(message.contains("truncated"), "{len} bytes: {message}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let (_dir, path) = saved(&Tokens::new([vec![1]]));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 9;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Tokens::open(&path).unwrap_err().to_string().contains("format version 9"));
    }
}

//! A matrix as one file that is used from the map as it is.
//!
//! ```text
//! 0   magic "XMCCSR\0\0"
//! 8   u32 version, u32 byte-order mark 0x01020304
//! 16  u64 rows, u64 cols, u64 entries nnz
//! 40  indptr u64 [rows + 1], indices u32 [nnz], values f32 [nnz]
//! ```
//! Numbers are little-endian. Opening reads everything once, to check it.

use std::io::Write;
use std::path::Path;

use super::Csr;
use crate::buffer::{Buffer, map_file};
use crate::error::{Error, Result};
use crate::formats::atomic::write_atomically;

const MAGIC: &[u8; 8] = b"XMCCSR\0\0";
const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const HEADER: usize = 40;

impl Csr {
    /// Writes the matrix into one file, aside and renamed.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |out| {
            let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io(path));
            write(MAGIC)?;
            write(&VERSION.to_le_bytes())?;
            write(&BYTE_ORDER.to_le_bytes())?;
            for size in [self.rows(), self.cols(), self.nnz()] {
                write(&(size as u64).to_le_bytes())?;
            }
            write(bytemuck::cast_slice(self.indptr()))?;
            write(bytemuck::cast_slice(self.indices()))?;
            write(bytemuck::cast_slice(self.values()))
        })
    }

    /// Maps a matrix written by [`save`](Self::save).
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let word =
            |at: usize| map.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        if !map.starts_with(MAGIC) {
            return Err(Error::file(path, "not a matrix of xmc (its first bytes are others)"));
        }
        if word(8) as u32 != VERSION || word(8) >> 32 != u64::from(BYTE_ORDER) {
            let found = word(8) as u32;
            let problem = format!("written in format {found}, this program reads {VERSION}, or damaged");
            return Err(Error::file(path, problem));
        }
        let bytes = |rows: u64, entries: u64| {
            let offsets = rows.checked_add(1)?.checked_mul(8)?;
            entries.checked_mul(8)?.checked_add(offsets)?.checked_add(HEADER as u64)
        };
        let (rows, cols, entries) = (word(16), word(24), word(32));
        if bytes(rows, entries) != Some(map.len() as u64) {
            let problem = format!(
                "truncated or damaged: {rows} rows with {entries} entries do not make a file of {} bytes",
                map.len()
            );
            return Err(Error::file(path, problem));
        }
        let (rows, entries) = (rows as usize, entries as usize);
        let indices_at = HEADER + 8 * (rows + 1);
        let matrix = Csr::new(
            rows,
            cols as usize,
            Buffer::mapped(&map, HEADER, rows + 1, path)?,
            Buffer::mapped(&map, indices_at, entries, path)?,
            Buffer::mapped(&map, indices_at + 4 * entries, entries, path)?,
        );
        matrix.map_err(|e| Error::file(path, format!("damaged: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_matrix_comes_back_and_damage_is_refused_without_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let m = Csr::new(3, 4, vec![0, 2, 2, 3], vec![0, 3, 1], vec![1.5, -2.0, 0.25]).unwrap();
        m.save(&path).unwrap();
        assert_eq!(Csr::open(&path).unwrap(), m);
        Csr::empty(0, 0).save(&path).unwrap();
        assert_eq!(Csr::open(&path).unwrap(), Csr::empty(0, 0));

        m.save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let problem = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Csr::open(&path).unwrap_err().to_string()
        };
        assert!(problem(&whole[..whole.len() - 1]).contains("truncated or damaged: 3 rows with 3 entries"));
        assert!(problem(b"thesis").contains("not a matrix"));
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(problem(&with(8, 2)).contains("written in format 2"));
        // A column that does not exist, rows that fall, as many rows as no file has.
        assert!(problem(&with(HEADER + 8 * 4, 9)).contains("damaged"));
        assert!(problem(&with(HEADER + 8, 3)).contains("damaged"));
        assert!(problem(&with(16 + 7, 255)).contains("truncated or damaged"));
        for at in 0..whole.len() {
            fs::write(&path, with(at, 255)).unwrap();
            let _ = Csr::open(&path);
        }
    }
}

//! How does a long computation over many rows keep the blocks that it has finished?
//!
//! In one file that only grows. A record is `u64 bytes, u64 xxh3 of the payload (with the number of the block as seed),
//! payload`; the header says what is computed. A process may die at any moment: whoever opens the file next keeps all
//! whole blocks, cuts a torn last one off and goes on behind it.
//!
//! ```text
//! 0   magic "XMCBLOCK"
//! 8   u64 identity of the computation
//! 16  records
//! ```

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"XMCBLOCK";
const HEADER: u64 = 16;
const RECORD: u64 = 16;
/// A longer block is a damaged length.
const LONGEST: u64 = 1 << 36;

/// An open file of blocks; it is locked as long as it is open.
#[derive(Debug)]
pub(super) struct Blocks {
    path: PathBuf,
    file: File,
    /// Where the payload of each block begins, and how long it is.
    places: Vec<(u64, u64)>,
    end: u64,
}

impl Blocks {
    /// Opens the blocks of the computation `identity` at `path`; those of another one are dropped.
    pub(super) fn open(path: &Path, identity: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::io(path))?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::file(path, "another process writes it: wait for that one, or end it"));
        }
        let mut blocks = Blocks { path: path.to_owned(), file, places: Vec::new(), end: HEADER };
        let mut header = MAGIC.to_vec();
        header.extend(identity.to_le_bytes());
        if blocks.is_of(&header)? {
            blocks.scan()?;
        } else {
            blocks.cut(0)?;
            blocks.file.write_all(&header).map_err(Error::io(path))?;
        }
        let end = blocks.end;
        blocks.cut(end)?;
        Ok(blocks)
    }

    fn is_of(&mut self, header: &[u8]) -> Result<bool> {
        let mut found = Vec::new();
        let read = (&self.file).take(HEADER).read_to_end(&mut found);
        read.map_err(Error::io(&self.path))?;
        Ok(found == header)
    }

    /// Finds all whole blocks.
    fn scan(&mut self) -> Result<()> {
        let size = self.file.metadata().map_err(Error::io(&self.path))?.len();
        let mut payload = Vec::new();
        while size.saturating_sub(self.end) >= RECORD {
            let mut head = [0; RECORD as usize];
            self.file
                .seek(SeekFrom::Start(self.end))
                .and_then(|_| self.file.read_exact(&mut head))
                .map_err(Error::io(&self.path))?;
            let (bytes, hash) = (word(&head, 0), word(&head, 8));
            let begin = self.end + RECORD;
            if bytes > LONGEST || size - begin < bytes {
                return Ok(());
            }
            self.load(begin, bytes, &mut payload)?;
            if xxh3_64_with_seed(&payload, self.places.len() as u64) != hash {
                return Ok(());
            }
            self.places.push((begin, bytes));
            self.end = begin + bytes;
        }
        Ok(())
    }

    fn cut(&mut self, end: u64) -> Result<()> {
        self.file
            .set_len(end)
            .and_then(|()| self.file.seek(SeekFrom::Start(end)))
            .map(|_| ())
            .map_err(Error::io(&self.path))
    }

    fn load(&mut self, begin: u64, bytes: u64, payload: &mut Vec<u8>) -> Result<()> {
        payload.resize(bytes as usize, 0);
        self.file
            .seek(SeekFrom::Start(begin))
            .and_then(|_| self.file.read_exact(payload))
            .map_err(Error::io(&self.path))
    }

    /// Number of whole blocks.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a block; when this returns, the disk has it.
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<()> {
        let mut record = (payload.len() as u64).to_le_bytes().to_vec();
        record.extend(xxh3_64_with_seed(payload, self.places.len() as u64).to_le_bytes());
        record.extend(payload);
        self.file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&record))
            .and_then(|()| self.file.sync_data())
            .map_err(Error::io(&self.path))?;
        self.places.push((self.end + RECORD, payload.len() as u64));
        self.end += record.len() as u64;
        Ok(())
    }

    /// Reads block `i` into `payload`; nothing if there is no such block.
    pub(super) fn read(&mut self, i: usize, payload: &mut Vec<u8>) -> Result<()> {
        payload.clear();
        match self.places.get(i) {
            Some(&(begin, bytes)) => self.load(begin, bytes, payload),
            None => Ok(()),
        }
    }

    /// Removes the file: what came of the blocks is safe elsewhere.
    pub(super) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(Error::io(&self.path))
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) -> Vec<u8> {
        let mut blocks = Blocks::open(path, 7).unwrap();
        for i in 0..4u8 {
            blocks.push(&vec![i; 3 + usize::from(i)]).unwrap();
        }
        drop(blocks);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_blocks_and_goes_on_to_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let whole = write(&path);
        for len in 0..=whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut blocks = Blocks::open(&path, 7).unwrap();
            let mut payload = Vec::new();
            for i in 0..blocks.len() {
                blocks.read(i, &mut payload).unwrap();
                assert_eq!(payload, vec![i as u8; 3 + i]);
            }
            for i in blocks.len()..4 {
                blocks.push(&vec![i as u8; 3 + i]).unwrap();
            }
            drop(blocks);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut to {len} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_ends_what_is_kept_and_another_computation_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let mut bytes = write(&path);
        // In the payload of the second block.
        let at = 16 + 16 + 3 + 16;
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Blocks::open(&path, 7).unwrap().len(), 1);
        write(&path);
        assert_eq!(Blocks::open(&path, 8).unwrap().len(), 0);
    }

    #[test]
    fn two_processes_do_not_write_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let _open = Blocks::open(&path, 7).unwrap();
        assert!(Blocks::open(&path, 7).unwrap_err().to_string().contains("another process"));
    }
}

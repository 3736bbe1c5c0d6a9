//! How did the training go? One JSON object a line: losses of steps and metrics of validations.
//!
//! ```text
//! {"step":12,"epoch":0,"loss":3.1,"lr":0.0001,"norm":2.2,"tokens_per_second":12000,"seconds":31.5}
//! {"step":140,"epoch":1,"seconds":402.1,"validation":{"P@1":41.2,...}}
//! ```

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// A growing file of records.
pub(crate) struct Curves {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Curves {
    /// Continues the file behind its first `bytes`, or where it ends before: what a run wrote after its last checkpoint is
    /// written again.
    pub(crate) fn open(path: &Path, bytes: u64) -> Result<Self> {
        let open = || {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            // Only ever shorter: what is missing would become zeros.
            if file.metadata()?.len() > bytes {
                file.set_len(bytes)?;
            }
            let bytes = file.seek(SeekFrom::End(0))?;
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(Error::io(path))?;
        Ok(Curves { path: path.to_owned(), file: BufWriter::new(file), bytes })
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::Mismatch(e.to_string()))?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line).map_err(Error::io(&self.path))
    }

    /// Writes everything to the disk, as a checkpoint will count on it, and returns how long the file is.
    pub(crate) fn flush(&mut self) -> Result<u64> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_data()).map_err(Error::io(&self.path))?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continued_file_drops_what_came_after_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("curves.jsonl");
        let mut curves = Curves::open(&path, 0).unwrap();
        curves.push(&[1]).unwrap();
        let bytes = curves.flush().unwrap();
        curves.push(&[2]).unwrap();
        drop(curves);
        let mut curves = Curves::open(&path, bytes).unwrap();
        curves.push(&[3]).unwrap();
        drop(curves);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[1]\n[3]\n");
        // A file that lost its end goes on there.
        let mut curves = Curves::open(&path, 100).unwrap();
        curves.push(&[4]).unwrap();
        assert_eq!(curves.flush().unwrap(), 12);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[1]\n[3]\n[4]\n");
    }
}

//! Is this the same data as last time? A hash over everything that training reads, wherever it lies.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_data::dataset::Part;
use xmc_data::{Csr, Strings};
use xmc_nn::hf::weights::Weights;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

/// Bytes of a file that are read at a time.
const PIECE: usize = 1 << 20;

/// Collects content into 64 bits.
pub(crate) struct Fingerprint(Xxh3);

impl Fingerprint {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        Fingerprint(Xxh3::new())
    }

    /// Labels and training rows of `data`; the test rows train nothing.
    pub(crate) fn of(data: &Dataset) -> Self {
        let mut print = Fingerprint::new();
        let Part { texts, features, y, .. } = &data.train;
        print.strings(data.labels.names());
        print.csr(Some(y));
        print.csr(features.as_ref());
        if let Some(texts) = texts {
            print.strings(texts);
        }
        print
    }

    /// Adds a matrix, or that there is none.
    pub(crate) fn csr(&mut self, m: Option<&Csr>) {
        let Some(m) = m else { return self.0.update(b"none") };
        self.0.update(&(m.cols() as u64).to_le_bytes());
        self.0.update(bytemuck::cast_slice(m.indptr()));
        self.0.update(bytemuck::cast_slice(m.indices()));
        self.0.update(bytemuck::cast_slice(m.values()));
    }

    /// Adds a list of ids.
    pub(crate) fn ids(&mut self, ids: &[u32]) {
        self.0.update(&(ids.len() as u64).to_le_bytes());
        self.0.update(bytemuck::cast_slice(ids));
    }

    /// Adds pairs of a filter.
    pub(crate) fn pairs(&mut self, pairs: &[(u32, u32)]) {
        self.0.update(&(pairs.len() as u64).to_le_bytes());
        for &(row, label) in pairs {
            self.0.update(bytemuck::cast_slice(&[row, label]));
        }
    }

    /// Adds the content of a file.
    pub(crate) fn file(&mut self, path: &Path) -> Result<()> {
        let mut read = || {
            let mut file = File::open(path)?;
            self.0.update(&file.metadata()?.len().to_le_bytes());
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(()),
                    n => self.0.update(&piece[..n]),
                }
            }
        };
        read().map_err(Error::io(path))
    }

    /// Adds what the files of an encoder in the folder `dir` hold: sizes, weights and tokenizer.
    pub(crate) fn encoder(&mut self, dir: &Path) -> Result<()> {
        self.file(&dir.join("config.json"))?;
        for file in Weights::open(dir)?.files() {
            self.file(file)?;
        }
        // One of them is enough; opening the tokenizer says so if there is none.
        for path in ["tokenizer.json", "vocab.txt"].map(|name| dir.join(name)) {
            if path.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    /// Adds a value by its JSON.
    pub(crate) fn value(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let json = serde_json::to_vec(value).map_err(|e| Error::Mismatch(e.to_string()))?;
        self.0.update(&json);
        Ok(())
    }

    fn strings(&mut self, strings: &Strings) {
        self.0.update(&(strings.len() as u64).to_le_bytes());
        for text in strings.iter() {
            self.0.update(&(text.len() as u64).to_le_bytes());
            self.0.update(text.as_bytes());
        }
    }

    /// In hexadecimal.
    pub(crate) fn finish(self) -> String {
        format!("{:016x}", self.0.digest())
    }
}

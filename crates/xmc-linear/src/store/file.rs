//! One file per tree: a header and the arrays of every level, used from the map as they are.
//!
//! ```text
//! 0   magic "XMCTREE\0"
//! 8   u32 version, u32 byte-order mark 0x01020304
//! 16  u64 bytes of the whole file
//! 24  u64 bytes of the header
//! 32  header: JSON (see `Header`), padded with zeros to a multiple of 64
//!     sections, each at a multiple of 64
//! ```
//! Numbers are little-endian. The integrity of the content is the business of the model directory, which keeps a
//! checksum for every file; here the structure is checked, and no damage can lead to a read outside the map.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use xmc_data::buffer::map_file;
use xmc_data::formats::atomic::write_atomically;
use xmc_data::{Buffer, Error, Result};

use super::level::{BLOCK, Head, Level, Packing, Precision, Values, Words};
use super::{TreeModel, codebook};
use crate::post_processor::PostProcessor;
use crate::tree::Tree;

const MAGIC: &[u8; 8] = b"XMCTREE\0";
const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const ALIGN: usize = 64;
const FIXED: usize = 32;

/// Where an array stands in the file: offset and length in bytes, from the end of the header.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Section(u64, u64);

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    num_labels: usize,
    sparse_features: usize,
    dense_features: usize,
    bias: f32,
    precision: Precision,
    labels: Section,
    levels: Vec<LevelHeader>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LevelHeader {
    post_processor: PostProcessor,
    keep: usize,
    packing: Packing,
    offsets: Section,
    heads: Section,
    buckets: Section,
    words: Section,
    columns: Section,
    values: Section,
    /// Empty unless the precision is u8.
    codebook: Section,
    bias: Section,
    dense: Section,
}

/// Collects sections in the order they will be written.
#[derive(Default)]
struct Sections<'a> {
    parts: Vec<&'a [u8]>,
    end: usize,
}

impl<'a> Sections<'a> {
    fn add<T: Pod>(&mut self, values: &'a [T]) -> Section {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let start = self.end.next_multiple_of(ALIGN);
        self.end = start + bytes.len();
        self.parts.push(bytes);
        Section(start as u64, bytes.len() as u64)
    }

    /// Weights and their codebook.
    fn add_values(&mut self, values: &'a Values) -> (Section, Section) {
        match values {
            Values::U8(v, book) => (self.add(v), self.add(book)),
            Values::F16(v) => (self.add(v), self.add::<f32>(&[])),
            Values::F32(v) => (self.add(v), self.add::<f32>(&[])),
        }
    }
}

impl TreeModel {
    /// Writes the model into one file, aside and renamed.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut sections = Sections::default();
        let labels = sections.add(self.tree.labels());
        let levels = (self.levels.iter().enumerate())
            .map(|(t, level)| {
                let words = match &level.words {
                    Words::Narrow(words) => sections.add(words),
                    Words::Wide(words) => sections.add(words),
                };
                let (values, codebook) = sections.add_values(&level.values);
                LevelHeader {
                    post_processor: level.post_processor,
                    keep: level.keep,
                    packing: level.packing(),
                    offsets: sections.add(self.tree.offsets(t)),
                    heads: sections.add(&level.heads),
                    buckets: sections.add(&level.buckets),
                    words,
                    columns: sections.add(&level.columns),
                    values,
                    codebook,
                    bias: sections.add(&level.bias),
                    dense: sections.add_values(&level.dense).0,
                }
            })
            .collect();
        let header = Header {
            num_labels: self.tree.num_labels(),
            sparse_features: self.sparse_features,
            dense_features: self.dense_features,
            bias: self.bias,
            precision: self.precision(),
            labels,
            levels,
        };
        let mut header = serde_json::to_vec(&header).map_err(|e| Error::file(path, e.to_string()))?;
        header.resize((FIXED + header.len()).next_multiple_of(ALIGN) - FIXED, b' ');
        let total = FIXED + header.len() + sections.end;
        write_atomically(path, |out| {
            let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io(path));
            write(MAGIC)?;
            write(&VERSION.to_le_bytes())?;
            write(&BYTE_ORDER.to_le_bytes())?;
            write(&(total as u64).to_le_bytes())?;
            write(&(header.len() as u64).to_le_bytes())?;
            write(&header)?;
            let mut at = 0usize;
            for part in &sections.parts {
                write(&[0; ALIGN][..at.next_multiple_of(ALIGN) - at])?;
                write(part)?;
                at = at.next_multiple_of(ALIGN) + part.len();
            }
            Ok(())
        })
    }

    /// Maps a model written by [`save`](Self::save).
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        let (header, base) = read_header(&map, path)?;
        let reader = Reader { map: &map, base, path };
        let mut offsets = Vec::with_capacity(header.levels.len());
        let mut levels = Vec::with_capacity(header.levels.len());
        for h in &header.levels {
            offsets.push(reader.read::<u32>(h.offsets)?.to_vec());
            levels.push(reader.level(h, header.precision)?);
        }
        let labels = reader.read::<u32>(header.labels)?.to_vec();
        let damaged = |e: Error| Error::file(path, format!("damaged: {e}"));
        let model = TreeModel {
            tree: Tree::new(offsets, labels, header.num_labels).map_err(damaged)?,
            levels,
            sparse_features: header.sparse_features,
            dense_features: header.dense_features,
            bias: header.bias,
        };
        model.check().map_err(damaged)?;
        Ok(model)
    }

    /// Number format of the weights.
    pub fn precision(&self) -> Precision {
        match self.levels.first().map(|l| &l.values) {
            Some(Values::F32(_)) => Precision::F32,
            Some(Values::U8(..)) => Precision::U8,
            _ => Precision::F16,
        }
    }

    /// That tree, chunks and arrays fit together.
    fn check(&self) -> Result<()> {
        let wrong =
            |t: usize, what: &str| Err(Error::Shape(format!("level {t}: {what} do not fit the tree")));
        for (t, level) in self.levels.iter().enumerate() {
            if level.heads.len() != self.tree.width(t) + 1 {
                return wrong(t, "chunks");
            }
            if level.bias.len() != self.tree.width(t + 1) {
                return wrong(t, "biases");
            }
            if self.tree.width(t + 1).checked_mul(self.dense_features) != Some(level.dense.len()) {
                return wrong(t, "dense weights");
            }
            let words = match &level.words {
                Words::Narrow(words) => words.len(),
                Words::Wide(words) => words.len(),
            };
            let starts = |h: &Head| [h.buckets, h.rows, h.entries, h.columns];
            let ends =
                [level.buckets.len(), words.saturating_sub(BLOCK), level.values.len(), level.columns.len()];
            if level.heads.last().map(starts) != Some(ends.map(|end| end as u64)) {
                return wrong(t, "weights");
            }
            if matches!(&level.values, Values::U8(_, book) if book.len() != codebook::SIZE) {
                return wrong(t, "codebooks");
            }
            let rising = |a: &Head, b: &Head| starts(a).iter().zip(starts(b)).all(|(a, b)| *a <= b);
            if !level.heads.windows(2).all(|w| rising(&w[0], &w[1]) && w[0].shift <= 16) {
                return wrong(t, "chunk offsets");
            }
            let most = level.packing().most_children();
            if self.tree.offsets(t).windows(2).any(|w| (w[1] - w[0]) as usize > most) {
                return wrong(t, "column ids");
            }
        }
        Ok(())
    }
}

/// Header and the position of the first section.
fn read_header(map: &[u8], path: &Path) -> Result<(Header, usize)> {
    let word = |at: usize| map.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let half = |at: usize| map.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    if map.get(..8) != Some(MAGIC) {
        return Err(Error::file(path, "not a tree model of xmc (its first bytes are others)"));
    }
    match half(8) {
        Some(VERSION) => {}
        Some(v) if v > VERSION => {
            let problem =
                format!("written in format {v}, this program reads up to {VERSION}: use a newer xmc");
            return Err(Error::file(path, problem));
        }
        _ => return Err(Error::file(path, "damaged: no such format version")),
    }
    if half(12) != Some(BYTE_ORDER) {
        return Err(Error::file(path, "damaged, or written with another byte order"));
    }
    if word(16) != Some(map.len() as u64) {
        let expected = word(16).unwrap_or(0);
        return Err(Error::file(path, format!("truncated: {} bytes of {expected}", map.len())));
    }
    let end = word(24).and_then(|len| usize::try_from(len).ok()).and_then(|len| len.checked_add(FIXED));
    let header = end.and_then(|end| map.get(FIXED..end));
    let (Some(end), Some(header)) = (end.filter(|e| e % ALIGN == 0), header) else {
        return Err(Error::file(path, "damaged: the header is longer than the file"));
    };
    match serde_json::from_slice(header) {
        Ok(header) => Ok((header, end)),
        Err(e) => Err(Error::file(path, format!("damaged header: {e}"))),
    }
}

struct Reader<'a> {
    map: &'a Arc<Mmap>,
    base: usize,
    path: &'a Path,
}

impl Reader<'_> {
    fn read<T: Pod>(&self, Section(offset, bytes): Section) -> Result<Buffer<T>> {
        let offset = (offset as usize).saturating_add(self.base);
        Buffer::mapped(self.map, offset, bytes as usize / size_of::<T>(), self.path)
    }

    fn values(&self, h: &LevelHeader, precision: Precision) -> Result<Values> {
        Ok(match precision {
            Precision::U8 => Values::U8(self.read(h.values)?, self.read(h.codebook)?),
            Precision::F16 => Values::F16(self.read(h.values)?),
            Precision::F32 => Values::F32(self.read(h.values)?),
        })
    }

    fn level(&self, h: &LevelHeader, precision: Precision) -> Result<Level> {
        Ok(Level {
            post_processor: h.post_processor,
            keep: h.keep,
            heads: self.read(h.heads)?,
            buckets: self.read(h.buckets)?,
            words: match h.packing {
                Packing::Narrow => Words::Narrow(self.read(h.words)?),
                Packing::Wide => Words::Wide(self.read(h.words)?),
            },
            columns: self.read(h.columns)?,
            values: self.values(h, precision)?,
            bias: self.read(h.bias)?,
            // A codebook is made for sparse weights; beside one, dense weights are f16.
            dense: match precision {
                Precision::F32 => Values::F32(self.read(h.dense)?),
                _ => Values::F16(self.read(h.dense)?),
            },
        })
    }
}

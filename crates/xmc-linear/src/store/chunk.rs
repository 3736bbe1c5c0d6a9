//! From the columns that the solver learned to a packed chunk, and from chunks to a level.

use xmc_data::Buffer;

use super::level::{Bucket, Head, Level, Packing, Precision, Rows, Values, Word, narrow};
use crate::post_processor::PostProcessor;

/// Rows a bucket should hold: short to scan, long enough to pay for its 8 bytes.
const ROWS_PER_BUCKET: usize = 6;

/// The weights of one parent's children, by feature.
#[derive(Clone, Debug, Default)]
pub struct ChunkWeights {
    /// (feature, child, weight), sorted by feature, then child; features and children from 0.
    pub entries: Vec<(u32, u16, f32)>,
    /// `[children]`
    pub bias: Vec<f32>,
    /// `[d_dense, children]`
    pub dense: Vec<f32>,
}

/// A chunk in its final form.
#[derive(Debug)]
pub struct Chunk {
    shift: u32,
    buckets: Vec<Bucket>,
    rows: ChunkRows,
    values: ChunkValues,
    dense: ChunkValues,
    bias: Vec<f32>,
}

#[derive(Debug)]
enum ChunkRows {
    Narrow(Vec<u16>, Vec<u8>),
    Wide(Vec<u32>, Vec<u16>),
}

#[derive(Debug)]
enum ChunkValues {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl ChunkValues {
    fn new(values: impl Iterator<Item = f32>, precision: Precision) -> Self {
        match precision {
            Precision::F16 => ChunkValues::F16(values.map(narrow).collect()),
            Precision::F32 => ChunkValues::F32(values.collect()),
        }
    }
}

impl Chunk {
    /// Packs weights over `sparse_features` features.
    pub fn new(
        weights: &ChunkWeights,
        sparse_features: usize,
        packing: Packing,
        precision: Precision,
    ) -> Self {
        let entries = &weights.entries;
        let rows = entries.chunk_by(|a, b| a.0 == b.0).count();
        let shift = shift_for(sparse_features, rows, packing);
        let (buckets, rows) = match packing {
            Packing::Narrow => {
                let (buckets, words) = pack_rows(entries, sparse_features, shift);
                (buckets, ChunkRows::Narrow(words, entries.iter().map(|e| e.1 as u8).collect()))
            }
            Packing::Wide => {
                let (buckets, words) = pack_rows(entries, sparse_features, shift);
                (buckets, ChunkRows::Wide(words, entries.iter().map(|e| e.1).collect()))
            }
        };
        Chunk {
            shift,
            buckets,
            rows,
            values: ChunkValues::new(entries.iter().map(|e| e.2), precision),
            dense: ChunkValues::new(weights.dense.iter().copied(), precision),
            bias: weights.bias.clone(),
        }
    }
}

/// The shift that puts about `ROWS_PER_BUCKET` rows into a bucket.
fn shift_for(features: usize, rows: usize, packing: Packing) -> u32 {
    let per_bucket = features * ROWS_PER_BUCKET / rows.max(1);
    per_bucket.max(1).ilog2().min(packing.most_shift())
}

/// Buckets (one more than needed, as an end) and row words.
fn pack_rows<W: Word>(entries: &[(u32, u16, f32)], features: usize, shift: u32) -> (Vec<Bucket>, Vec<W>) {
    let mut buckets = Vec::with_capacity((features >> shift) + 2);
    let mut words = Vec::new();
    let mut entry = 0;
    for row in entries.chunk_by(|a, b| a.0 == b.0) {
        let feature = row[0].0;
        let here = Bucket { row: words.len() as u32, entry };
        while buckets.len() <= (feature >> shift) as usize {
            buckets.push(here);
        }
        words.push(W::pack(feature & ((1 << shift) - 1), row.len()));
        entry += row.len() as u32;
    }
    let end = Bucket { row: words.len() as u32, entry };
    while buckets.len() < (features.saturating_sub(1) >> shift) + 2 {
        buckets.push(end);
    }
    (buckets, words)
}

/// Joins the chunks of a level, in the order of its parents.
#[derive(Debug)]
pub struct LevelBuilder {
    heads: Vec<Head>,
    buckets: Vec<Bucket>,
    rows: ChunkRows,
    values: ChunkValues,
    dense: ChunkValues,
    bias: Vec<f32>,
}

impl LevelBuilder {
    /// No chunks yet.
    pub fn new(packing: Packing, precision: Precision) -> Self {
        let empty = || ChunkValues::new(std::iter::empty(), precision);
        LevelBuilder {
            heads: Vec::new(),
            buckets: Vec::new(),
            rows: match packing {
                Packing::Narrow => ChunkRows::Narrow(Vec::new(), Vec::new()),
                Packing::Wide => ChunkRows::Wide(Vec::new(), Vec::new()),
            },
            values: empty(),
            dense: empty(),
            bias: Vec::new(),
        }
    }

    fn end(&self, shift: u32) -> Head {
        let (rows, entries) = match &self.rows {
            ChunkRows::Narrow(words, cols) => (words.len(), cols.len()),
            ChunkRows::Wide(words, cols) => (words.len(), cols.len()),
        };
        let buckets = self.buckets.len() as u64;
        Head { buckets, rows: rows as u64, entries: entries as u64, shift: u64::from(shift) }
    }

    /// Appends the chunk of the next parent; it must have this level's packing and precision.
    pub fn push(&mut self, chunk: Chunk) {
        self.heads.push(self.end(chunk.shift));
        self.buckets.extend(chunk.buckets);
        match (&mut self.rows, chunk.rows) {
            (ChunkRows::Narrow(words, cols), ChunkRows::Narrow(w, c)) => {
                words.extend(w);
                cols.extend(c);
            }
            (ChunkRows::Wide(words, cols), ChunkRows::Wide(w, c)) => {
                words.extend(w);
                cols.extend(c);
            }
            _ => debug_assert!(false, "a level has one packing"),
        }
        for (all, new) in [(&mut self.values, chunk.values), (&mut self.dense, chunk.dense)] {
            match (all, new) {
                (ChunkValues::F16(all), ChunkValues::F16(new)) => all.extend(new),
                (ChunkValues::F32(all), ChunkValues::F32(new)) => all.extend(new),
                _ => debug_assert!(false, "a level has one precision"),
            }
        }
        self.bias.extend(chunk.bias);
    }

    /// The level.
    pub fn finish(mut self, post_processor: PostProcessor, keep: usize) -> Level {
        self.heads.push(self.end(0));
        let values = |v| match v {
            ChunkValues::F16(v) => Values::F16(Buffer::from(v)),
            ChunkValues::F32(v) => Values::F32(Buffer::from(v)),
        };
        Level {
            post_processor,
            keep,
            heads: self.heads.into(),
            buckets: self.buckets.into(),
            rows: match self.rows {
                ChunkRows::Narrow(words, cols) => Rows::Narrow(words.into(), cols.into()),
                ChunkRows::Wide(words, cols) => Rows::Wide(words.into(), cols.into()),
            },
            values: values(self.values),
            bias: self.bias.into(),
            dense: values(self.dense),
        }
    }
}

//! From the columns that the solver learned to a packed chunk, and from chunks to a level.

use xmc_data::Buffer;

use super::codebook;
use super::level::{BLOCK, Bucket, Head, Level, Packing, Precision, Values, Word, Words, narrow};
use crate::post_processor::PostProcessor;

/// Rows a bucket should hold on average: most fit one block, and they pay for its 12 bytes.
const ROWS_PER_BUCKET: usize = 10;

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

/// A chunk in its final form, but for the codebook, which is chosen for a whole level.
#[derive(Debug)]
pub struct Chunk {
    shift: u32,
    buckets: Vec<Bucket>,
    words: PackedWords,
    columns: Vec<u8>,
    values: PackedValues,
    dense: PackedValues,
    bias: Vec<f32>,
}

#[derive(Debug)]
enum PackedWords {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

#[derive(Debug)]
enum PackedValues {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl PackedValues {
    fn new(values: impl Iterator<Item = f32>, half: bool) -> Self {
        if half {
            PackedValues::F16(values.map(narrow).collect())
        } else {
            PackedValues::F32(values.collect())
        }
    }

    fn append(&mut self, new: PackedValues) {
        match (self, new) {
            (PackedValues::F16(all), PackedValues::F16(new)) => all.extend(new),
            (PackedValues::F32(all), PackedValues::F32(new)) => all.extend(new),
            _ => debug_assert!(false, "a level has one precision"),
        }
    }

    fn finish(self) -> Values {
        match self {
            PackedValues::F16(v) => Values::F16(v.into()),
            PackedValues::F32(v) => Values::F32(v.into()),
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
        let children = weights.bias.len();
        let rows = entries.chunk_by(|a, b| a.0 == b.0).count();
        let shift = shift_for(sparse_features, rows, packing);
        let mut columns = Vec::new();
        for row in entries.chunk_by(|a, b| a.0 == b.0) {
            pack_columns(row, children, packing, &mut columns);
        }
        let (buckets, words) = match packing {
            Packing::Narrow => {
                let (buckets, words) = pack_rows(entries, sparse_features, shift, packing, children);
                (buckets, PackedWords::Narrow(words))
            }
            Packing::Wide => {
                let (buckets, words) = pack_rows(entries, sparse_features, shift, packing, children);
                (buckets, PackedWords::Wide(words))
            }
        };
        Chunk {
            shift,
            buckets,
            words,
            columns,
            values: PackedValues::new(entries.iter().map(|e| e.2), precision == Precision::F16),
            dense: PackedValues::new(weights.dense.iter().copied(), precision != Precision::F32),
            bias: weights.bias.clone(),
        }
    }
}

/// The shift that puts about `ROWS_PER_BUCKET` rows into a bucket.
fn shift_for(features: usize, rows: usize, packing: Packing) -> u32 {
    let per_bucket = features * ROWS_PER_BUCKET / rows.max(1);
    per_bucket.max(1).ilog2().min(packing.most_shift())
}

/// Appends the column ids of one row: as a list, or as bits where that is shorter.
fn pack_columns(row: &[(u32, u16, f32)], children: usize, packing: Packing, columns: &mut Vec<u8>) {
    let bits = packing.column_bytes(row.len(), children);
    if bits < packing.list_bytes(row.len()) {
        let start = columns.len();
        columns.resize(start + bits, 0);
        for &(_, c, _) in row {
            columns[start + c as usize / 8] |= 1 << (c % 8);
        }
    } else {
        for &(_, c, _) in row {
            match packing {
                Packing::Narrow => columns.push(c as u8),
                Packing::Wide => columns.extend(c.to_le_bytes()),
            }
        }
    }
}

/// Buckets (one more than needed, as an end) and row words.
fn pack_rows<W: Word>(
    entries: &[(u32, u16, f32)],
    features: usize,
    shift: u32,
    packing: Packing,
    children: usize,
) -> (Vec<Bucket>, Vec<W>) {
    let needed = (features.saturating_sub(1) >> shift) + 2;
    let mut buckets = Vec::with_capacity(needed);
    let mut words = Vec::new();
    let mut here = Bucket::default();
    for row in entries.chunk_by(|a, b| a.0 == b.0) {
        let feature = row[0].0;
        while buckets.len() <= (feature >> shift) as usize {
            buckets.push(here);
        }
        words.push(W::pack(feature & ((1 << shift) - 1), row.len()));
        here.row += 1;
        here.entry += row.len() as u32;
        here.column += packing.column_bytes(row.len(), children) as u32;
    }
    buckets.resize(needed, here);
    (buckets, words)
}

/// Joins the chunks of a level, in the order of its parents.
#[derive(Debug)]
pub struct LevelBuilder {
    precision: Precision,
    heads: Vec<Head>,
    buckets: Vec<Bucket>,
    words: PackedWords,
    columns: Vec<u8>,
    values: PackedValues,
    dense: PackedValues,
    bias: Vec<f32>,
}

impl LevelBuilder {
    /// No chunks yet.
    pub fn new(packing: Packing, precision: Precision) -> Self {
        LevelBuilder {
            precision,
            heads: Vec::new(),
            buckets: Vec::new(),
            words: match packing {
                Packing::Narrow => PackedWords::Narrow(Vec::new()),
                Packing::Wide => PackedWords::Wide(Vec::new()),
            },
            columns: Vec::new(),
            values: PackedValues::new(std::iter::empty(), precision == Precision::F16),
            dense: PackedValues::new(std::iter::empty(), precision != Precision::F32),
            bias: Vec::new(),
        }
    }

    fn end(&self, shift: u32) -> Head {
        let rows = match &self.words {
            PackedWords::Narrow(words) => words.len(),
            PackedWords::Wide(words) => words.len(),
        };
        let entries = match &self.values {
            PackedValues::F16(v) => v.len(),
            PackedValues::F32(v) => v.len(),
        };
        Head {
            buckets: self.buckets.len() as u64,
            rows: rows as u64,
            entries: entries as u64,
            columns: self.columns.len() as u64,
            shift: u64::from(shift),
        }
    }

    /// Appends the chunk of the next parent; it must have this level's packing and precision.
    pub fn push(&mut self, chunk: Chunk) {
        self.heads.push(self.end(chunk.shift));
        self.buckets.extend(chunk.buckets);
        match (&mut self.words, chunk.words) {
            (PackedWords::Narrow(all), PackedWords::Narrow(new)) => all.extend(new),
            (PackedWords::Wide(all), PackedWords::Wide(new)) => all.extend(new),
            _ => debug_assert!(false, "a level has one packing"),
        }
        self.columns.extend(chunk.columns);
        self.values.append(chunk.values);
        self.dense.append(chunk.dense);
        self.bias.extend(chunk.bias);
    }

    /// The level.
    pub fn finish(mut self, post_processor: PostProcessor, keep: usize) -> Level {
        self.heads.push(self.end(0));
        // Blocks are read whole, also the one that begins with the last word.
        match &mut self.words {
            PackedWords::Narrow(words) => words.extend([0; BLOCK]),
            PackedWords::Wide(words) => words.extend([0; BLOCK]),
        }
        let values = match self.values {
            PackedValues::F32(v) if self.precision == Precision::U8 => {
                let book = codebook::choose(&v);
                let places: Vec<u8> = v.iter().map(|&w| codebook::nearest(&book, w)).collect();
                Values::U8(places.into(), book.into())
            }
            values => values.finish(),
        };
        Level {
            post_processor,
            keep,
            heads: self.heads.into(),
            buckets: self.buckets.into(),
            words: match self.words {
                PackedWords::Narrow(words) => Words::Narrow(Buffer::from(words)),
                PackedWords::Wide(words) => Words::Wide(Buffer::from(words)),
            },
            columns: self.columns.into(),
            values,
            bias: self.bias.into(),
            dense: self.dense.finish(),
        }
    }
}

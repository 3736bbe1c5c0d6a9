//! The weights of one level, ready to be searched.

use bytemuck::{Pod, Zeroable};
use half::f16;
use serde::{Deserialize, Serialize};
use xmc_data::Buffer;

use crate::post_processor::PostProcessor;
use crate::prefetch::prefetch;

/// Number format of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 1 byte: the nearest of 256 numbers chosen for each level.
    U8,
    /// 2 bytes, 11 bits of mantissa.
    F16,
    /// 4 bytes, as trained.
    F32,
}

/// How wide a chunk's row words and column ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// u16 words, column ids of 1 byte: at most 255 children, buckets of at most 2^8 features.
    Narrow,
    /// u32 words, column ids of 2 bytes: at most 65,535 children, buckets of at most 2^16 features.
    Wide,
}

impl Packing {
    /// Narrow where the widest parent allows it, unless so many features would need more buckets than rows.
    pub fn for_level(widest: usize, sparse_features: usize) -> Self {
        // 4,096 buckets of 2^8 features are 32 KB in every chunk.
        if widest <= Packing::Narrow.most_children() && sparse_features <= 4096 << 8 {
            Packing::Narrow
        } else {
            Packing::Wide
        }
    }

    /// Most children of one parent.
    pub fn most_children(self) -> usize {
        match self {
            Packing::Narrow => u8::MAX as usize,
            Packing::Wide => u16::MAX as usize,
        }
    }

    /// Bytes of the column ids of a row with `len` entries among `children`: a list of ids, or one bit for every
    /// child where that is shorter.
    pub(crate) fn column_bytes(self, len: usize, children: usize) -> usize {
        self.list_bytes(len).min(children.div_ceil(8))
    }

    /// Bytes of a list of `len` column ids.
    pub(crate) fn list_bytes(self, len: usize) -> usize {
        match self {
            Packing::Narrow => len,
            Packing::Wide => 2 * len,
        }
    }

    /// Largest shift from feature ids to buckets.
    pub fn most_shift(self) -> u32 {
        match self {
            Packing::Narrow => 8,
            Packing::Wide => 16,
        }
    }
}

/// Where a run of features begins within its chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Bucket {
    /// First row word.
    pub row: u32,
    /// First entry.
    pub entry: u32,
    /// First byte of column ids.
    pub column: u32,
}

/// Where a chunk begins within its level; one more entry than chunks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Head {
    /// First bucket.
    pub buckets: u64,
    /// First row word.
    pub rows: u64,
    /// First entry.
    pub entries: u64,
    /// First byte of column ids.
    pub columns: u64,
    /// Feature id to bucket.
    pub shift: u64,
}

/// Row words that are looked at together.
pub(crate) const BLOCK: usize = 16;

/// What a block of row words says of a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Entries of its row, 0 if it has none here.
    pub(crate) len: u32,
    /// Entries of the rows before.
    pub(crate) entries: u32,
    /// Bytes of column ids of the rows before.
    pub(crate) columns: u32,
}

/// A word of a row: the low bits of its feature id and the number of its entries.
pub(crate) trait Word: Pod {
    fn pack(low: u32, len: usize) -> Self;
    /// Finds the row of the feature with the given low bits among the first `count` words of a block; `bits` is the
    /// size of a row of column bits. Without branches: sixteen words cost a few vector instructions, and no guess
    /// of the processor goes wrong.
    fn find(block: &[Self; BLOCK], count: u32, low: u32, bits: u32) -> Found;
}

impl Word for u16 {
    fn pack(low: u32, len: usize) -> Self {
        (low as u16) | ((len as u16) << 8)
    }

    #[inline(always)]
    fn find(block: &[u16; BLOCK], count: u32, low: u32, bits: u32) -> Found {
        let (count, low, bits) = (count.min(BLOCK as u32) as u16, low as u16, bits as u16);
        let (mut found, mut entries, mut columns) = (0u16, 0u16, 0u16);
        for i in 0..BLOCK {
            let (l, len) = (block[i] & 0xff, block[i] >> 8);
            let here = (i as u16) < count;
            let before = if here & (l < low) { u16::MAX } else { 0 };
            entries += len & before;
            columns += (if len < bits { len } else { bits }) & before;
            found |= if here & (l == low) { len } else { 0 };
        }
        Found { len: u32::from(found), entries: u32::from(entries), columns: u32::from(columns) }
    }
}

impl Word for u32 {
    fn pack(low: u32, len: usize) -> Self {
        low | ((len as u32) << 16)
    }

    #[inline(always)]
    fn find(block: &[u32; BLOCK], count: u32, low: u32, bits: u32) -> Found {
        let mut found = Found::default();
        for i in 0..BLOCK {
            let (l, len) = (block[i] & 0xffff, block[i] >> 16);
            let here = (i as u32) < count;
            let before = if here & (l < low) { u32::MAX } else { 0 };
            found.entries += len & before;
            found.columns += (if 2 * len < bits { 2 * len } else { bits }) & before;
            found.len |= if here & (l == low) { len } else { 0 };
        }
        found
    }
}

/// Row words of all chunks of a level.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    /// See [`Packing::Narrow`].
    Narrow(Buffer<u16>),
    /// See [`Packing::Wide`].
    Wide(Buffer<u32>),
}

/// Weights in one of the precisions.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Places in the codebook, and the codebook: 256 numbers.
    U8(Buffer<u8>, Buffer<f32>),
    /// Bits of f16.
    F16(Buffer<u16>),
    /// f32 as trained.
    F32(Buffer<f32>),
}

impl Values {
    /// Number of weights.
    pub(crate) fn len(&self) -> usize {
        match self {
            Values::U8(v, _) => v.len(),
            Values::F16(v) => v.len(),
            Values::F32(v) => v.len(),
        }
    }
}

impl Values {
    /// Bytes of the weights, with their codebook.
    fn bytes(&self) -> usize {
        match self {
            Values::U8(v, codebook) => v.len() + size_of_val(&codebook[..]),
            Values::F16(v) => size_of_val(&v[..]),
            Values::F32(v) => size_of_val(&v[..]),
        }
    }
}

/// f16 bits to f32, exactly, without a conversion instruction, so that it vectorises on any processor.
#[inline]
pub(crate) fn widen(half: u16) -> f32 {
    // Moving the exponent and mantissa into place divides by 2^112.
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | (u32::from(half & 0x8000) << 16))
}

/// f32 to f16 bits, to nearest; what is too large becomes the largest number.
pub(crate) fn narrow(value: f32) -> u16 {
    f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits()
}

/// Weights from level t to t + 1: one chunk for every parent of level t.
#[derive(Clone, Debug)]
pub struct Level {
    /// From margins to scores.
    pub post_processor: PostProcessor,
    /// Nodes kept at this level unless the caller says otherwise: the beam, or k at the last level.
    pub keep: usize,
    /// `[chunks + 1]`
    pub(crate) heads: Buffer<Head>,
    pub(crate) buckets: Buffer<Bucket>,
    pub(crate) words: Words,
    /// Column ids, row after row; see [`Packing::column_bytes`].
    pub(crate) columns: Buffer<u8>,
    pub(crate) values: Values,
    /// `[children]`: weight of the constant feature.
    pub(crate) bias: Buffer<f32>,
    /// Per chunk `[d_dense, children of the chunk]`.
    pub(crate) dense: Values,
}

impl Level {
    /// Stored sparse weights, without biases.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Bytes of its arrays, in memory and on disk.
    pub fn bytes(&self) -> usize {
        let words = match &self.words {
            Words::Narrow(words) => size_of_val(&words[..]),
            Words::Wide(words) => size_of_val(&words[..]),
        };
        let chunks = size_of_val(&self.heads[..]) + size_of_val(&self.buckets[..]) + words;
        chunks + self.columns.len() + self.values.bytes() + size_of_val(&self.bias[..]) + self.dense.bytes()
    }

    /// Asks for the cache line of a weight before it is needed.
    #[inline]
    pub(crate) fn prefetch_weight(&self, at: usize) {
        match &self.values {
            Values::U8(v, _) => prefetch(v, at),
            Values::F16(v) => prefetch(v, at),
            Values::F32(v) => prefetch(v, at),
        }
    }

    /// The packing of its rows.
    pub fn packing(&self) -> Packing {
        match self.words {
            Words::Narrow(_) => Packing::Narrow,
            Words::Wide(_) => Packing::Wide,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_widens_exactly() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_finite() {
                assert_eq!(widen(bits).to_bits(), half.to_f32().to_bits());
                assert_eq!(narrow(half.to_f32()), bits);
            }
        }
        assert_eq!(widen(narrow(1e9)), 65504.0);
    }

    #[test]
    fn a_block_finds_its_features_and_counts_what_lies_before() {
        fn check<W: Word>(lows: [u32; 4], lens: [usize; 4], packing: Packing, children: usize) {
            let mut block = [W::pack(lows[1], 3); BLOCK];
            for i in 0..4 {
                block[i] = W::pack(lows[i], lens[i]);
            }
            let bits = children.div_ceil(8) as u32;
            let (mut entries, mut columns) = (0, 0);
            for i in 0..4 {
                let found = Found { len: lens[i] as u32, entries, columns };
                assert_eq!(W::find(&block, 4, lows[i], bits), found);
                assert_eq!(W::find(&block, i as u32, lows[i], bits), Found { len: 0, ..found });
                entries += lens[i] as u32;
                columns += packing.column_bytes(lens[i], children) as u32;
            }
            assert_eq!(W::find(&block, 4, lows[0] + 1, bits).len, 0);
        }
        check::<u16>([0, 7, 9, 255], [1, 254, 3, 20], Packing::Narrow, 255);
        check::<u32>([5, 300, 4000, 65535], [1, 60000, 3, 700], Packing::Wide, 65535);
    }
}

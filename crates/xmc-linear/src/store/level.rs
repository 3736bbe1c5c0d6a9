//! The weights of one level, ready to be searched.

use bytemuck::{Pod, Zeroable};
use half::f16;
use serde::{Deserialize, Serialize};
use xmc_data::Buffer;

use crate::post_processor::PostProcessor;

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

/// A word of a row: the low bits of its feature id and the number of its entries.
pub(crate) trait Word: Pod {
    fn pack(low: u32, len: usize) -> Self;
    fn low(self) -> u32;
    fn len(self) -> usize;
}

impl Word for u16 {
    fn pack(low: u32, len: usize) -> Self {
        (low as u16) | ((len as u16) << 8)
    }

    #[inline]
    fn low(self) -> u32 {
        u32::from(self & 0xff)
    }

    #[inline]
    fn len(self) -> usize {
        usize::from(self >> 8)
    }
}

impl Word for u32 {
    fn pack(low: u32, len: usize) -> Self {
        low | ((len as u32) << 16)
    }

    #[inline]
    fn low(self) -> u32 {
        self & 0xffff
    }

    #[inline]
    fn len(self) -> usize {
        (self >> 16) as usize
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
    fn words_keep_both_halves() {
        let narrow = <u16 as Word>::pack(255, 254);
        assert_eq!((Word::low(narrow), Word::len(narrow)), (255, 254));
        let wide = <u32 as Word>::pack(65535, 65534);
        assert_eq!((Word::low(wide), Word::len(wide)), (65535, 65534));
    }
}

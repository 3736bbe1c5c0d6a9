//! Which bytes stand for which weights? Blocks as they lie in a GGUF file, and NF4 as QLoRA has it.

use std::fmt;

/// How weights are stored.
///
/// A block is a run of weights of one row that share scales; NF4 alone counts its blocks over the whole matrix, row
/// after row, so that rows may have any length. Numbers are little-endian. Bits per weight in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision `[32]`.
    F32,
    /// IEEE half precision `[16]`.
    F16,
    /// The upper half of an f32 `[16]`.
    Bf16,
    /// 32 weights d q: d f16, q i8 `[8.5]`.
    Q8_0,
    /// 32 weights d (q - 8): d f16, q 4 bits; the low nibbles are the first 16 `[4.5]`.
    Q4_0,
    /// 32 weights d q + m: d and m f16, q 4 bits as in Q4_0 `[5]`.
    Q4_1,
    /// 256 weights in eight parts d s q - e n: d and e f16, s and n 6 bits per part, q 4 bits `[4.5]`.
    Q4K,
    /// 256 weights in sixteen parts d s (q - 32): d f16, s i8 per part, q 6 bits `[6.5625]`.
    Q6K,
    /// 64 weights a LEVELS[q], q 4 bits, the first of two weights in the high nibble; all codes, then all scales a
    /// (Dettmers et al., "QLoRA", 2023) `[4.5]`.
    Nf4 {
        /// Scales are 8-bit codes again, 256 share an f32, and one f32 is added to all `[4.127]`.
        double: bool,
    },
}

/// Weights that can be unpacked by themselves in every format of blocks.
pub(super) const CHUNK: usize = 32;

impl Format {
    /// Weights and bytes of a block of a row; none for NF4.
    pub(super) fn block(self) -> Option<(usize, usize)> {
        match self {
            Format::F32 => Some((1, 4)),
            Format::F16 | Format::Bf16 => Some((1, 2)),
            Format::Q8_0 => Some((32, 34)),
            Format::Q4_0 => Some((32, 18)),
            Format::Q4_1 => Some((32, 20)),
            Format::Q4K => Some((256, 144)),
            Format::Q6K => Some((256, 210)),
            Format::Nf4 { .. } => None,
        }
    }

    /// Bytes of a matrix `[rows, cols]`; none if rows are not whole blocks or the number is beyond all memory.
    pub fn bytes(self, rows: usize, cols: usize) -> Option<usize> {
        match self.block() {
            Some((weights, bytes)) if cols.is_multiple_of(weights) => {
                (cols / weights).checked_mul(bytes)?.checked_mul(rows)
            }
            Some(_) => None,
            None => {
                let weights = rows.checked_mul(cols)?;
                let blocks = weights.div_ceil(super::nf4::BLOCK);
                let scales = match self {
                    Format::Nf4 { double: true } => blocks + 4 * blocks.div_ceil(super::nf4::OUTER) + 4,
                    _ => 4 * blocks,
                };
                weights.div_ceil(2).checked_add(scales)
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            Format::Q8_0 => "Q8_0",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q4K => "Q4_K",
            Format::Q6K => "Q6_K",
            Format::Nf4 { double: false } => "NF4",
            Format::Nf4 { double: true } => "NF4 with double quantisation",
        })
    }
}

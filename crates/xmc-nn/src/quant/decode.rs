//! What are the weights of a block? Unpacked 32 at a time, to the bit what GGUF's own reader says.
//!
//! Products of scales and codes have at most 24 bits but in Q6_K, which rounds its only product: the order of
//! operations below is the only one there is, fused or not.

use half::f16;

use super::format::{CHUNK, Format};

/// The f16 at `at`.
#[inline(always)]
pub(super) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The f32 at `at`.
#[inline(always)]
pub(super) fn single_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Scale and minimum, 6 bits each, of part `part` of a block of Q4_K.
#[inline(always)]
pub(super) fn scale_min(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        (packed[part] & 63, packed[part + 4] & 63)
    } else {
        let (low, high) = (packed[part + 4], [packed[part - 4], packed[part]]);
        (low & 15 | high[0] >> 6 << 4, low >> 4 | high[1] >> 6 << 4)
    }
}

/// Weights `from..from + out.len()` of a row that begins with `row`; `from` is a multiple of 32 and so is their
/// number, where blocks are longer than one weight.
pub(super) fn decode(format: Format, row: &[u8], from: usize, out: &mut [f32]) {
    match format {
        Format::F32 => singles(&row[4 * from..], out),
        Format::F16 => halves(&row[2 * from..], out),
        Format::Bf16 => brains(&row[2 * from..], out),
        Format::Q8_0 => q8_0(&row[from / 32 * 34..], out),
        Format::Q4_0 => q4_0(&row[from / 32 * 18..], out),
        Format::Q4_1 => q4_1(&row[from / 32 * 20..], out),
        Format::Q4K => q4_k(row, from, out),
        Format::Q6K => q6_k(row, from, out),
        // NF4 has no rows; `QuantMatrix` asks `nf4` itself.
        Format::Nf4 { .. } => {}
    }
}

crate::simd! {
    fn singles(bytes: &[u8], out: &mut [f32]) {
        for (v, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *v = f32::from_le_bytes(*b);
        }
    }

    fn halves(bytes: &[u8], out: &mut [f32]) {
        for (v, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *v = f16::from_le_bytes(*b).to_f32();
        }
    }

    fn brains(bytes: &[u8], out: &mut [f32]) {
        for (v, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *v = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }
    }

    fn q8_0(blocks: &[u8], out: &mut [f32]) {
        for (out, block) in out.as_chunks_mut::<CHUNK>().0.iter_mut().zip(blocks.as_chunks::<34>().0) {
            let d = half_at(block, 0);
            for (v, &q) in out.iter_mut().zip(&block[2..]) {
                *v = d * f32::from(q.cast_signed());
            }
        }
    }

    fn q4_0(blocks: &[u8], out: &mut [f32]) {
        for (out, block) in out.as_chunks_mut::<CHUNK>().0.iter_mut().zip(blocks.as_chunks::<18>().0) {
            let d = half_at(block, 0);
            let (low, high) = out.split_at_mut(16);
            for i in 0..16 {
                low[i] = d * (f32::from(block[2 + i] & 15) - 8.0);
                high[i] = d * (f32::from(block[2 + i] >> 4) - 8.0);
            }
        }
    }

    fn q4_1(blocks: &[u8], out: &mut [f32]) {
        for (out, block) in out.as_chunks_mut::<CHUNK>().0.iter_mut().zip(blocks.as_chunks::<20>().0) {
            let (d, m) = (half_at(block, 0), half_at(block, 2));
            let (low, high) = out.split_at_mut(16);
            for i in 0..16 {
                low[i] = d * f32::from(block[4 + i] & 15) + m;
                high[i] = d * f32::from(block[4 + i] >> 4) + m;
            }
        }
    }

    fn q4_k(row: &[u8], from: usize, out: &mut [f32]) {
        for (chunk, out) in (from / CHUNK..).zip(out.as_chunks_mut::<CHUNK>().0) {
            let (block, part) = (&row[chunk / 8 * 144..][..144], chunk % 8);
            let (s, n) = scale_min(&block[4..16], part);
            let (d, m) = (half_at(block, 0) * f32::from(s), half_at(block, 2) * f32::from(n));
            let shift = part % 2 * 4;
            for (v, &q) in out.iter_mut().zip(&block[16 + part / 2 * 32..][..32]) {
                *v = d * f32::from(q >> shift & 15) - m;
            }
        }
    }

    fn q6_k(row: &[u8], from: usize, out: &mut [f32]) {
        for (chunk, out) in (from / CHUNK..).zip(out.as_chunks_mut::<CHUNK>().0) {
            let (block, part) = (&row[chunk / 8 * 210..][..210], chunk % 8);
            let (half, quarter) = (part / 4, part % 4);
            let low = &block[half * 64 + quarter % 2 * 32..][..32];
            let high = &block[128 + half * 32..][..32];
            let d = half_at(block, 208);
            for side in 0..2 {
                let scale = d * f32::from(block[192 + half * 8 + quarter * 2 + side].cast_signed());
                for l in side * 16..side * 16 + 16 {
                    let q = low[l] >> (quarter / 2 * 4) & 15 | (high[l] >> (quarter * 2) & 3) << 4;
                    out[l] = scale * (f32::from(q) - 32.0);
                }
            }
        }
    }
}

/// The first scale of a row's blocks that is not finite; for formats without scales, the first such weight.
pub(super) fn not_finite(format: Format, row: &[u8]) -> Option<f32> {
    let halves = |size: usize, at: &[usize]| {
        let all = row.chunks_exact(size).flat_map(|block| at.iter().map(|&at| half_at(block, at)));
        all.into_iter().find(|d| !d.is_finite())
    };
    match format {
        Format::F32 => row.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).find(|v| !v.is_finite()),
        Format::Bf16 => {
            let weight = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            row.as_chunks::<2>().0.iter().map(weight).find(|v| !v.is_finite())
        }
        Format::F16 => halves(2, &[0]),
        Format::Q8_0 => halves(34, &[0]),
        Format::Q4_0 => halves(18, &[0]),
        Format::Q4_1 => halves(20, &[0, 2]),
        Format::Q4K => halves(144, &[0, 2]),
        Format::Q6K => halves(210, &[208]),
        Format::Nf4 { .. } => None,
    }
}

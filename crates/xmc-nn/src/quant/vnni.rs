//! Products of bytes with AVX-512 VNNI: halves of four blocks in a register, weights unpacked once for up to eight
//! tokens, several rows at once for fewer.
//!
//! The order of additions is that of [`super::bytes`], to the bit.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm512_add_ps, _mm512_and_si512,
    _mm512_castsi128_si512, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_inserti32x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_i32gather_epi32,
    _mm512_mul_ps, _mm512_permute_ps, _mm512_permutexvar_ps, _mm512_set1_epi8, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_shuffle_ps, _mm512_srli_epi16,
    _mm512_srli_epi32, _mm512_storeu_ps, _mm512_xor_si512,
};

use super::bytes::folded;
use super::format::CHUNK;
use super::input::{Bytes, GROUP, QUAD};

/// What can be multiplied so.
pub(super) const Q8_0: u8 = 0;
pub(super) const Q4_0: u8 = 1;
pub(super) const Q4_1: u8 = 2;

/// Bytes from a block to the one that is fetched when it is read, if no row is longer.
const AHEAD: usize = 2048;

/// Bytes of a block.
const fn size(format: u8) -> usize {
    [34, 18, 20][format as usize]
}

/// Whether this processor has the instructions.
pub(super) fn there() -> bool {
    use crate::ops::simd::{Level, level};
    level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni")
}

/// Products of R rows of W, whose bytes follow each other, with the T tokens from `first`.
///
/// # Safety
/// The processor has the instructions: [`there`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn rows<const FORMAT: u8, const R: usize, const T: usize>(
    rows: &[u8],
    x: &Bytes,
    first: usize,
) -> [[f32; T]; R] {
    let row_bytes = rows.len() / R;
    let blocks = row_bytes / size(FORMAT);
    let padded = x.blocks();
    assert!(blocks <= padded && (first + T) * padded <= x.scales.len().min(x.sums.len()));
    assert!((first + T) * padded * CHUNK <= x.codes().len());
    let mut sums = [[_mm512_setzero_ps(); T]; R];
    let mut offsets = [[_mm512_setzero_ps(); T]; R];
    for begin in (0..blocks).step_by(GROUP) {
        let count = GROUP.min(blocks - begin);
        let mut scales = [[_mm512_setzero_ps(); T]; R];
        let group = rows.as_ptr().wrapping_add(begin * size(FORMAT));
        // SAFETY: `count` blocks of every row begin there, and the operands of T tokens have whole groups.
        unsafe {
            for r in 0..R {
                let blocks = group.add(r * row_bytes);
                ahead::<FORMAT>(blocks, R * row_bytes);
                let [d, m] = heads::<FORMAT>(blocks, count);
                for t in 0..T {
                    let at = (first + t) * padded + begin;
                    scales[r][t] = _mm512_mul_ps(d, _mm512_loadu_ps(x.scales.as_ptr().add(at)));
                    let sum = _mm512_loadu_ps(x.sums.as_ptr().add(at));
                    offsets[r][t] = _mm512_fmadd_ps(m, sum, offsets[r][t]);
                }
            }
            for quad in 0..count.div_ceil(QUAD) {
                let lanes = _mm512_loadu_si512(LANES[quad].as_ptr().cast());
                for r in 0..R {
                    let blocks = group.add(r * row_bytes + quad * QUAD * size(FORMAT));
                    let q = if count - quad * QUAD >= QUAD {
                        codes::<FORMAT>([0, 1, 2, 3].map(|i| blocks.add(i * size(FORMAT))))
                    } else {
                        // Blocks that are not there are multiplied with zeros.
                        let last = count - quad * QUAD - 1;
                        codes::<FORMAT>([0, 1, 2, 3].map(|i| blocks.add(last.min(i) * size(FORMAT))))
                    };
                    for t in 0..T {
                        let at = ((first + t) * padded + begin + quad * QUAD) * CHUNK;
                        let p = x.codes().as_ptr().add(at);
                        let zero = _mm512_setzero_si512();
                        let dots = _mm512_dpbusd_epi32(zero, q[0], _mm512_loadu_si512(p.cast()));
                        let dots = _mm512_dpbusd_epi32(dots, q[1], _mm512_loadu_si512(p.add(64).cast()));
                        let scale = _mm512_permutexvar_ps(lanes, scales[r][t]);
                        sums[r][t] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots), sums[r][t]);
                    }
                }
            }
        }
    }
    let mut y = [[0.0; T]; R];
    if R * T == 8 {
        let mut all = [_mm512_setzero_ps(); 8];
        for i in 0..8 {
            all[i] = _mm512_add_ps(sums[i / T][i % T], offsets[i / T][i % T]);
        }
        y.as_flattened_mut().copy_from_slice(&folded8(&all));
        return y;
    }
    for r in 0..R {
        for t in 0..T {
            let mut lanes = [0.0; GROUP];
            // SAFETY: sixteen lanes.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_add_ps(sums[r][t], offsets[r][t])) };
            y[r][t] = folded(lanes);
        }
    }
    y
}

/// [`folded`] of eight at once: halves of two meet in one register, then those of four and of eight.
#[target_feature(enable = "avx512f")]
#[inline]
fn folded8(x: &[__m512; 8]) -> [f32; 8] {
    let halve = |a: __m512, b: __m512| {
        _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b))
    };
    let quarter = |a: __m512, b: __m512| {
        _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b))
    };
    let first = quarter(halve(x[0], x[1]), halve(x[2], x[3]));
    let second = quarter(halve(x[4], x[5]), halve(x[6], x[7]));
    let pairs =
        _mm512_add_ps(_mm512_shuffle_ps::<0x44>(first, second), _mm512_shuffle_ps::<0xee>(first, second));
    let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0xb1>(pairs));
    let mut lanes = [0.0; GROUP];
    // SAFETY: sixteen lanes.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    [0, 4, 8, 12, 2, 6, 10, 14].map(|i| lanes[i])
}

/// Fetches what will be read in a few rows' time: memory is further away than the processor looks ahead by itself.
#[target_feature(enable = "avx512f")]
#[inline]
fn ahead<const FORMAT: u8>(blocks: *const u8, bytes: usize) {
    let then = blocks.wrapping_add(bytes.max(AHEAD));
    for line in 0..(GROUP * size(FORMAT)).div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(then.wrapping_add(64 * line).cast());
    }
}

/// Of quad p of a group: which scale a lane has.
static LANES: [[u32; 16]; 4] = {
    let mut lanes = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        lanes[i / 16][i % 16] = i as u32 / 4;
        i += 1;
    }
    lanes
};

/// Where sixteen blocks begin.
const fn blocks_at(size: usize) -> [u32; 16] {
    let mut places = [0; 16];
    let mut i = 0;
    while i < 16 {
        places[i] = (i * size) as u32;
        i += 1;
    }
    places
}

/// Scales and offsets of `count` blocks, up to sixteen; zero behind them.
///
/// # Safety
/// So many blocks are there.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn heads<const FORMAT: u8>(blocks: *const u8, count: usize) -> [__m512; 2] {
    // SAFETY: the caller's promise; four bytes lie inside each block.
    let heads = unsafe {
        let places = _mm512_loadu_si512(const { blocks_at(size(FORMAT)) }.as_ptr().cast());
        let mask = ((1u32 << count) - 1) as u16;
        _mm512_mask_i32gather_epi32::<1>(_mm512_setzero_si512(), mask, places, blocks.cast())
    };
    let d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads));
    let m = match FORMAT {
        Q8_0 => _mm512_mul_ps(_mm512_set1_ps(-128.0), d),
        Q4_0 => _mm512_mul_ps(_mm512_set1_ps(-8.0), d),
        _ => _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(heads))),
    };
    [d, m]
}

/// Codes of four blocks without sign: the first half of each, then the second.
///
/// # Safety
/// The blocks are there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
#[inline]
unsafe fn codes<const FORMAT: u8>(blocks: [*const u8; QUAD]) -> [__m512i; 2] {
    // SAFETY: the caller's promise; the last byte read is the last of a block.
    unsafe {
        if FORMAT == Q8_0 {
            let sign = _mm512_set1_epi8(-128);
            return [sixteens(blocks, 2), sixteens(blocks, 18)].map(|codes| _mm512_xor_si512(codes, sign));
        }
        let (pairs, low) = (sixteens(blocks, size(FORMAT) - 16), _mm512_set1_epi8(15));
        [_mm512_and_si512(pairs, low), _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), low)]
    }
}

/// 16 bytes from `at` of each block.
///
/// # Safety
/// They are there.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
unsafe fn sixteens(blocks: [*const u8; QUAD], at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = blocks.map(|block| unsafe { _mm_loadu_si128(block.add(at).cast()) });
    let low = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(low, c), d)
}

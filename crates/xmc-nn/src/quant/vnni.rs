//! Products of bytes with AVX-512 VNNI: two blocks in a register, weights unpacked once for up to eight tokens.
//!
//! The order of additions is that of [`super::bytes`], to the bit.

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_ps, _mm512_and_si512, _mm512_castsi256_si512,
    _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_i32gather_epi32,
    _mm512_maskz_loadu_epi8, _mm512_mul_ps, _mm512_permutexvar_epi8, _mm512_permutexvar_ps, _mm512_set1_epi8,
    _mm512_set1_ps, _mm512_setr_epi64, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srli_epi32,
    _mm512_srlv_epi64, _mm512_storeu_ps, _mm512_xor_si512,
};

use super::bytes::folded;
use super::format::CHUNK;
use super::input::{Bytes, GROUP};

/// What can be multiplied so.
pub(super) const Q8_0: u8 = 0;
pub(super) const Q4_0: u8 = 1;
pub(super) const Q4_1: u8 = 2;

/// Bytes of a block.
const fn size(format: u8) -> usize {
    [34, 18, 20][format as usize]
}

/// Whether this processor has the instructions.
pub(super) fn there() -> bool {
    use crate::ops::simd::{Level, level};
    level() == Level::Avx512
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi")
}

/// Products of one row of W with the T tokens from `first`.
///
/// # Safety
/// The processor has the instructions: [`there`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
pub(super) unsafe fn row<const FORMAT: u8, const T: usize>(row: &[u8], x: &Bytes, first: usize) -> [f32; T] {
    let blocks = row.len() / size(FORMAT);
    let padded = x.blocks();
    assert!(blocks <= padded && (first + T) * padded <= x.scales.len().min(x.sums.len()));
    assert!((first + T) * padded * CHUNK <= x.codes.len());
    let mut sums = [_mm512_setzero_ps(); T];
    let mut offsets = [_mm512_setzero_ps(); T];
    for begin in (0..blocks).step_by(GROUP) {
        let count = GROUP.min(blocks - begin);
        // SAFETY: `count` blocks of the row begin there, and the operands of T tokens have whole groups.
        unsafe {
            let group = row.as_ptr().add(begin * size(FORMAT));
            let [d, m] = heads::<FORMAT>(group, count);
            let mut scales = [_mm512_setzero_ps(); T];
            for t in 0..T {
                let at = (first + t) * padded + begin;
                scales[t] = _mm512_mul_ps(d, _mm512_loadu_ps(x.scales.as_ptr().add(at)));
                offsets[t] = _mm512_fmadd_ps(m, _mm512_loadu_ps(x.sums.as_ptr().add(at)), offsets[t]);
            }
            for pair in 0..count.div_ceil(2) {
                let q = codes::<FORMAT>(group.add(2 * pair * size(FORMAT)), count - 2 * pair);
                let lanes = _mm512_loadu_si512(LANES[pair].as_ptr().cast());
                for t in 0..T {
                    let at = ((first + t) * padded + begin + 2 * pair) * CHUNK;
                    let p = _mm512_loadu_si512(x.codes.as_ptr().add(at).cast());
                    let dots = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), q, p));
                    sums[t] = _mm512_fmadd_ps(_mm512_permutexvar_ps(lanes, scales[t]), dots, sums[t]);
                }
            }
        }
    }
    let mut y = [0.0; T];
    for t in 0..T {
        let mut lanes = [0.0; GROUP];
        // SAFETY: sixteen lanes.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_add_ps(sums[t], offsets[t])) };
        y[t] = folded(lanes);
    }
    y
}

/// Of pair p: which scale a lane has.
static LANES: [[u32; 16]; 8] = {
    let mut lanes = [[0; 16]; 8];
    let mut p = 0;
    while p < 8 {
        let mut i = 0;
        while i < 16 {
            lanes[p][i] = 2 * p as u32 + i as u32 / 8;
            i += 1;
        }
        p += 1;
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

/// Where the codes of two blocks of nibbles are, each of them twice.
const fn codes_at(size: usize) -> [u8; 64] {
    let mut places = [0; 64];
    let mut i = 0;
    while i < 64 {
        places[i] = (i / 32 * size + size - 16 + i % 16) as u8;
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

/// Codes of two blocks without sign, or of one and anything.
///
/// # Safety
/// `count` blocks, at least one, are there.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
unsafe fn codes<const FORMAT: u8>(blocks: *const u8, count: usize) -> __m512i {
    // SAFETY: the caller's promise; the mask leaves away what lies behind the last block.
    unsafe {
        if FORMAT == Q8_0 {
            let first = _mm512_castsi256_si512(_mm256_loadu_si256(blocks.add(2).cast()));
            let second = if count > 1 { blocks.add(36) } else { blocks.add(2) };
            let both = _mm512_inserti64x4::<1>(first, _mm256_loadu_si256(second.cast()));
            return _mm512_xor_si512(both, _mm512_set1_epi8(-128));
        }
        let mask = if count > 1 { (1u64 << (2 * size(FORMAT))) - 1 } else { (1 << size(FORMAT)) - 1 };
        let bytes = _mm512_maskz_loadu_epi8(mask, blocks.cast());
        let places = const { codes_at(size(FORMAT)) };
        let twice = _mm512_permutexvar_epi8(_mm512_loadu_si512(places.as_ptr().cast()), bytes);
        let shifted = _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
        _mm512_and_si512(shifted, _mm512_set1_epi8(15))
    }
}

//! How does a strip come from blocks into the tiles of a kernel? In registers, 32 weights at a time.
//!
//! Codes of four bits are looked up among the 16 weights that a block can have at all. Every weight has the bits that
//! [`super::decode`] gives it.

use std::arch::x86_64::{
    __m128i, __m512, __m512i, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_loadu_si128,
    _mm256_loadu_si256, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_loadu_ps,
    _mm512_mul_ps, _mm512_or_si512, _mm512_permutex2var_ps, _mm512_permutexvar_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setr_ps, _mm512_slli_epi32, _mm512_srl_epi32,
    _mm512_srli_epi32, _mm512_sub_epi32, _mm512_sub_ps,
};
use std::ops::Range;

use super::QuantMatrix;
use super::decode::scale_min;
use super::format::{CHUNK, Format};
use super::nf4::LEVELS;
use crate::ops::matmul::{Kernel, Rhs};

/// Whether strips of this matrix can be unpacked here for such a kernel.
pub(super) fn can(w: &QuantMatrix, kernel: Kernel) -> bool {
    !matches!(kernel, Kernel::Vector { .. }) && w.cols.is_multiple_of(CHUNK)
}

/// Lays out rows and columns of W: transposed with `ALONG`, for `y = x W^T`, else as they are, for `dx = dy W`.
///
/// # Safety
/// [`can`] said so for the kernel of `rhs`; rows are there, columns are multiples of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn unpack<const ALONG: bool>(
    w: &QuantMatrix,
    rows: Range<usize>,
    cols: Range<usize>,
    rhs: &mut Rhs,
) {
    let shape = [rows.len(), cols.len()];
    let (first, left) = (rows.start, cols.start);
    let place = |row: usize, col: usize| (first + row, left + col);
    let bytes: &[u8] = &w.blocks;
    macro_rules! blocks {
        ($size:literal, $block:expr) => {{
            let row_bytes = w.cols / CHUNK * $size;
            rhs.unpack::<ALONG>(shape, |row, col| {
                let (row, col) = place(row, col);
                $block(&bytes[row * row_bytes + col / CHUNK * $size..][..$size])
            })
        }};
    }
    macro_rules! chunks {
        ($size:literal, $chunk:expr) => {{
            let row_bytes = w.cols / 256 * $size;
            rhs.unpack::<ALONG>(shape, |row, col| {
                let (row, col) = place(row, col);
                $chunk(&bytes[row * row_bytes + col / 256 * $size..][..$size], col / CHUNK % 8)
            })
        }};
    }
    // SAFETY: the processor has the features of this function; every closure reads inside the slice it cuts.
    unsafe {
        match w.format {
            Format::F32 => blocks!(128, |b: &[u8]| {
                [_mm512_loadu_ps(b.as_ptr().cast()), _mm512_loadu_ps(b.as_ptr().add(64).cast())]
            }),
            Format::F16 => blocks!(64, |b: &[u8]| [0, 32]
                .map(|at| { _mm512_cvtph_ps(_mm256_loadu_si256(b[at..].as_ptr().cast())) })),
            Format::Bf16 => blocks!(64, |b: &[u8]| [0, 32].map(|at| {
                let half = _mm512_cvtepu16_epi32(_mm256_loadu_si256(b[at..].as_ptr().cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(half))
            })),
            Format::Q8_0 => blocks!(34, |b: &[u8]| {
                let d = _mm512_set1_ps(half(b, 0));
                [2, 18].map(|at| _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen(b, at)))))
            }),
            Format::Q4_0 => blocks!(18, |b: &[u8]| {
                let codes = _mm512_sub_ps(count(), _mm512_set1_ps(8.0));
                nibbles(sixteen(b, 2), _mm512_mul_ps(_mm512_set1_ps(half(b, 0)), codes))
            }),
            Format::Q4_1 => blocks!(20, |b: &[u8]| {
                let scaled = _mm512_mul_ps(_mm512_set1_ps(half(b, 0)), count());
                nibbles(sixteen(b, 4), _mm512_add_ps(scaled, _mm512_set1_ps(half(b, 2))))
            }),
            Format::Q4K => chunks!(144, |b: &[u8], part| q4_k(b, part)),
            Format::Q6K => chunks!(210, |b: &[u8], part| q6_k(b, part)),
            Format::Nf4 { .. } => {
                let places = w.places();
                let levels = _mm512_loadu_ps(LEVELS.as_ptr());
                rhs.unpack::<ALONG>(shape, |row, col| {
                    let (row, col) = place(row, col);
                    let at = row * w.cols + col;
                    let scale = _mm512_set1_ps(places.scale(bytes, at / super::nf4::BLOCK));
                    let [odd, even] = nibbles(sixteen(bytes, at / 2), _mm512_mul_ps(scale, levels));
                    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                    let high =
                        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                    [_mm512_permutex2var_ps(even, low, odd), _mm512_permutex2var_ps(even, high, odd)]
                });
            }
        }
    }
}

/// Weights of low and of high nibbles, of the 16 there are.
#[target_feature(enable = "avx512f")]
#[inline]
fn nibbles(codes: __m128i, weights: __m512) -> [__m512; 2] {
    // A look-up reads four bits only.
    let codes = _mm512_cvtepu8_epi32(codes);
    [_mm512_permutexvar_ps(codes, weights), _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), weights)]
}

/// 0, 1, … 15.
#[target_feature(enable = "avx512f")]
#[inline]
fn count() -> __m512 {
    _mm512_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn half(bytes: &[u8], at: usize) -> f32 {
    let bits = i32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn sixteen(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: 16 bytes of a slice of 16.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn q4_k(block: &[u8], part: usize) -> [__m512; 2] {
    let (s, n) = scale_min(&block[4..16], part);
    let d = _mm512_set1_ps(half(block, 0) * f32::from(s));
    let m = _mm512_set1_ps(half(block, 2) * f32::from(n));
    let weights = _mm512_sub_ps(_mm512_mul_ps(d, count()), m);
    let shift = _mm_cvtsi32_si128(if part.is_multiple_of(2) { 0 } else { 4 });
    [0, 16].map(|at| {
        let codes = _mm512_cvtepu8_epi32(sixteen(block, 16 + part / 2 * 32 + at));
        _mm512_permutexvar_ps(_mm512_srl_epi32(codes, shift), weights)
    })
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn q6_k(block: &[u8], part: usize) -> [__m512; 2] {
    let (side, quarter) = (part / 4, part % 4);
    let shift = quarter as u32;
    let d = half(block, 208);
    let bits = |bytes: __m128i, shift: u32, mask: i32| -> __m512i {
        let shifted = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(shift.cast_signed()));
        _mm512_and_si512(shifted, _mm512_set1_epi32(mask))
    };
    [0, 1].map(|i| {
        let low = bits(sixteen(block, side * 64 + quarter % 2 * 32 + i * 16), shift / 2 * 4, 15);
        let high = bits(sixteen(block, 128 + side * 32 + i * 16), shift * 2, 3);
        let codes = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high));
        let scale = d * f32::from(block[192 + side * 8 + quarter * 2 + i].cast_signed());
        let codes = _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, _mm512_set1_epi32(32)));
        _mm512_mul_ps(_mm512_set1_ps(scale), codes)
    })
}

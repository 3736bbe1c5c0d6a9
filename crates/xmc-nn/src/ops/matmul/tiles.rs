//! Lays out tiles of bfloat16 with AVX-512: round, split into planes, transpose.

use std::arch::x86_64::{
    __m256i, __m512, __m512bh, __m512i, _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_permutexvar_epi16, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_store_si512, _mm512_sub_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::layout::{Line, Side, Source, TILE};

/// Largest finite bfloat16.
const LARGEST: f32 = 3.389_531_4e38;

/// Lays out `planes` bfloat16 numbers per value.
///
/// # Safety
/// The processor has AVX-512 (f, bw, vl) and AVX512-BF16.
pub(super) unsafe fn tiles(source: Source<'_>, side: Side, planes: usize, out: &mut [Line]) {
    let along = source.depth_stride == 1;
    // SAFETY: the caller's promise.
    unsafe {
        match (planes, along) {
            (1, true) => fill::<1, true>(source, side, out),
            (1, false) => fill::<1, false>(source, side, out),
            (2, true) => fill::<2, true>(source, side, out),
            (2, false) => fill::<2, false>(source, side, out),
            (_, true) => fill::<3, true>(source, side, out),
            (_, false) => fill::<3, false>(source, side, out),
        }
    }
}

/// With `ALONG` values lie side by side along k, else along lines.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn fill<const PLANES: usize, const ALONG: bool>(source: Source<'_>, side: Side, out: &mut [Line]) {
    let transpose = ALONG == (side == Side::Right);
    let mut tiles = out.as_chunks_mut::<16>().0.iter_mut();
    for line in (0..source.lines).step_by(TILE[0]) {
        let lines = TILE[0].min(source.lines - line);
        for k in (0..source.depth).step_by(TILE[1]) {
            let depth = TILE[1].min(source.depth - k);
            let corner = &source.data[line * source.line_stride + k * source.depth_stride..];
            let rows = if ALONG {
                read_along::<PLANES>(corner, source.line_stride, lines, depth)
            } else {
                read_across::<PLANES>(corner, source.depth_stride, lines, depth)
            };
            for mut plane in rows {
                if transpose {
                    plane = transposed(plane);
                }
                if let Some(tile) = tiles.next() {
                    store(tile, &plane);
                }
            }
        }
    }
}

/// Lays out `planes` bfloat16 numbers per value of a right operand that is unpacked on the way: `read(row, col)` gives
/// 32 values of a matrix W `[rows, cols]`. With `ALONG` the operand is Wᵀ, whose lines are rows of W, else W.
/// `cols` is a multiple of 32.
///
/// # Safety
/// The processor has AVX-512 (f, bw, vl) and AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
pub(super) unsafe fn unpack<const PLANES: usize, const ALONG: bool>(
    [rows, cols]: [usize; 2],
    out: &mut [Line],
    read: impl Fn(usize, usize) -> [__m512; 2],
) {
    let interleave = interleave();
    let tiles = out.as_chunks_mut::<16>().0;
    let steps = if ALONG { cols } else { rows }.div_ceil(TILE[1]);
    for row in (0..rows).step_by(TILE[usize::from(!ALONG)]) {
        for col in (0..cols).step_by(32) {
            if ALONG {
                let mut planes = [[_mm512_setzero_si512(); 16]; PLANES];
                for r in 0..16.min(rows - row) {
                    let [low, high] = read(row + r, col);
                    let packed = split::<PLANES>(low, high);
                    for p in 0..PLANES {
                        planes[p][r] = packed[p];
                    }
                }
                let at = (row / 16 * steps + col / 32) * PLANES;
                for (tile, plane) in tiles[at..].iter_mut().zip(planes) {
                    store(tile, &transposed(plane));
                }
            } else {
                let mut planes = [[[_mm512_setzero_si512(); 16]; PLANES]; 2];
                for r in 0..16.min((rows - row).div_ceil(2)) {
                    let even = read(row + 2 * r, col);
                    let odd = if row + 2 * r + 1 < rows {
                        read(row + 2 * r + 1, col)
                    } else {
                        [_mm512_setzero_ps(); 2]
                    };
                    for half in 0..2 {
                        let packed = split::<PLANES>(even[half], odd[half]);
                        for p in 0..PLANES {
                            planes[half][p][r] = _mm512_permutexvar_epi16(interleave, packed[p]);
                        }
                    }
                }
                for half in 0..2 {
                    let at = ((col / 16 + half) * steps + row / 32) * PLANES;
                    for (tile, plane) in tiles[at..].iter_mut().zip(planes[half]) {
                        store(tile, &plane);
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(tile: &mut [Line; 16], rows: &[__m512i; 16]) {
    for (to, &row) in tile.iter_mut().zip(rows) {
        // SAFETY: a line has the size and alignment of a register.
        unsafe { _mm512_store_si512((&raw mut *to).cast(), row) };
    }
}

/// Places that bring the words of two halves side by side.
#[target_feature(enable = "avx512f")]
#[inline]
fn interleave() -> __m512i {
    let places: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: 64 bytes are read from an array of 64 bytes.
    unsafe { _mm512_loadu_si512(places.as_ptr().cast()) }
}

/// Row r of a tile from 32 values of line r.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn read_along<const PLANES: usize>(
    data: &[f32],
    stride: usize,
    lines: usize,
    depth: usize,
) -> [[__m512i; 16]; PLANES] {
    let mut planes = [[_mm512_setzero_si512(); 16]; PLANES];
    for r in 0..lines {
        let values = &data[r * stride..][..depth];
        let rest = &values[depth.min(16)..];
        let packed = split::<PLANES>(read(values), read(rest));
        for p in 0..PLANES {
            planes[p][r] = packed[p];
        }
    }
    planes
}

/// Row r of a tile from the values k = 2 r and 2 r + 1 of 16 lines, side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn read_across<const PLANES: usize>(
    data: &[f32],
    stride: usize,
    lines: usize,
    depth: usize,
) -> [[__m512i; 16]; PLANES] {
    let interleave = interleave();
    let mut planes = [[_mm512_setzero_si512(); 16]; PLANES];
    for r in 0..depth.div_ceil(2) {
        let even = read(&data[2 * r * stride..][..lines]);
        let odd = if 2 * r + 1 < depth {
            read(&data[(2 * r + 1) * stride..][..lines])
        } else {
            _mm512_setzero_ps()
        };
        let packed = split::<PLANES>(even, odd);
        for p in 0..PLANES {
            planes[p][r] = _mm512_permutexvar_epi16(interleave, packed[p]);
        }
    }
    planes
}

/// The first 16 values, zero where there are fewer.
#[target_feature(enable = "avx512f")]
#[inline]
fn read(values: &[f32]) -> __m512 {
    let mask = if values.len() >= 16 { 0xffff } else { (1u16 << values.len()) - 1 };
    // SAFETY: the mask leaves away what lies behind the slice.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

/// The planes of 32 values: x = p[0] + p[1] + p[2], each rounded to nearest from what the ones before left.
///
/// A finite x too large for bfloat16 must not become infinite, for infinity minus infinity would be NaN: with more than
/// one plane it is limited first. Infinite x give infinities and NaN, as they are; NaN stay NaN.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
fn split<const PLANES: usize>(mut low: __m512, mut high: __m512) -> [__m512i; PLANES] {
    let mut planes = [_mm512_setzero_si512(); PLANES];
    for p in 0..PLANES {
        let rounded = if p == 0 && PLANES > 1 { pack(limit(low), limit(high)) } else { pack(low, high) };
        planes[p] = rounded;
        if p + 1 < PLANES {
            low = _mm512_sub_ps(low, widen(_mm512_castsi512_si256(rounded)));
            high = _mm512_sub_ps(high, widen(_mm512_extracti64x4_epi64::<1>(rounded)));
        }
    }
    planes
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn pack(low: __m512, high: __m512) -> __m512i {
    let packed = _mm512_cvtne2ps_pbh(high, low);
    // SAFETY: both are 64 bytes without meaning of their own.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(packed) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn limit(x: __m512) -> __m512 {
    // The second operand wins where one is NaN.
    _mm512_max_ps(_mm512_set1_ps(-LARGEST), _mm512_min_ps(_mm512_set1_ps(LARGEST), x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn widen(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

/// Transposes 16 x 16 words of 32 bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(mut r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in (0..16).step_by(4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // Now lane l of r[4 i + j] holds rows 4 i.. of column 4 l + j.
    for j in 0..4 {
        let even =
            [_mm512_shuffle_i32x4::<0x88>(r[j], r[4 + j]), _mm512_shuffle_i32x4::<0x88>(r[8 + j], r[12 + j])];
        let odd =
            [_mm512_shuffle_i32x4::<0xdd>(r[j], r[4 + j]), _mm512_shuffle_i32x4::<0xdd>(r[8 + j], r[12 + j])];
        t[j] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        t[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        t[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    t
}

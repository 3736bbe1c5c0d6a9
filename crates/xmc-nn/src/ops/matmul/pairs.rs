//! Products of pairs of bfloat16 in registers of AVX-512, on the tiles of [`super::tiles`].

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
};

use super::blocks::{Block, Target, Walk};
use super::layout::Line;

/// C = A B over operands in tiles of one plane.
///
/// # Safety
/// The processor has AVX-512 (f) and AVX512-BF16; `a` and `b` hold `steps` tiles for all lines; the target is as
/// [`Walk::run`] wants it.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn product(a: &[Line], b: &[Line], steps: usize, target: &Target) {
    // 24 KiB of B stay in the first cache.
    let walk = Walk { block: [8, 32], piece: [8, 16], steps, pass: 12, row_bytes: steps * size_of::<Line>() };
    let kernel = |block: &Block| {
        let [i, j] = block.at;
        let a = &a[i / 16 * steps * 16..][..steps * 16];
        let b0 = &b[j / 16 * steps * 16..][..steps * 16];
        // SAFETY: the features are those of this function; C has room for the pieces.
        unsafe {
            if block.pieces[1] == 2 {
                let b1 = &b[(j / 16 + 1) * steps * 16..][..steps * 16];
                sums::<2>(block, a, i % 16, [b0, b1]);
            } else {
                sums::<1>(block, a, i % 16, [b0]);
            }
        }
    };
    // SAFETY: the caller's promise.
    unsafe { walk.run(target, kernel) };
}

/// Eight rows (from `first` in their tiles) and C tiles of columns.
///
/// # Safety
/// As [`product`], and the block's C has room for 8 rows and 16 C columns.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn sums<const C: usize>(block: &Block, a: &[Line], first: usize, b: [&[Line]; C]) {
    let mut sums = [[_mm512_setzero_ps(); C]; 8];
    // SAFETY: C has room; lines are whole registers; every index stays below 16 steps.
    unsafe {
        if block.load {
            for i in 0..8 {
                for j in 0..C {
                    sums[i][j] = _mm512_loadu_ps(block.c.add(i * block.stride + j * 16));
                }
            }
        }
        for step in block.steps.clone() {
            let rows = a[step * 16 + first..][..8].as_ptr().cast::<i32>();
            for pair in 0..16 {
                let mut columns = [_mm512_setzero_si512(); C];
                for j in 0..C {
                    columns[j] = _mm512_load_si512(b[j].as_ptr().add(step * 16 + pair).cast());
                }
                for i in 0..8 {
                    let factor = bf16(_mm512_set1_epi32(rows.add(i * 16 + pair).read()));
                    for j in 0..C {
                        sums[i][j] = _mm512_dpbf16_ps(sums[i][j], factor, bf16(columns[j]));
                    }
                }
            }
        }
        for i in 0..8 {
            for j in 0..C {
                _mm512_storeu_ps(block.c.add(i * block.stride + j * 16), sums[i][j]);
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn bf16(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes without meaning of their own.
    unsafe { std::mem::transmute(x) }
}

//! Products in f32 with the widest registers there are, on panels of 8 rows and 32 columns.

use super::blocks::{Block, Target, Walk};
use super::layout::{Line, PANEL};
use crate::ops::simd::{Level, level};

/// Sums of one block.
type Kernel = unsafe fn(&Block, &[f32], &[f32]);

/// C = A B over operands in panels of depth `k`.
///
/// # Safety
/// The target is as [`Walk::run`] wants it.
pub(super) unsafe fn product(a: &[Line], b: &[Line], k: usize, target: &Target) {
    let kernel: Kernel = match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2,
        _ => portable,
    };
    // SAFETY: the caller's promise.
    unsafe { run(a, b, k, target, kernel) };
}

/// # Safety
/// The target is as [`Walk::run`] wants it, and the processor can run the kernel.
unsafe fn run(a: &[Line], b: &[Line], k: usize, target: &Target, kernel: Kernel) {
    let (a, b) = (bytemuck::cast_slice::<Line, f32>(a), bytemuck::cast_slice::<Line, f32>(b));
    // 32 KiB of B stay in the first cache.
    let walk = Walk { block: PANEL, piece: PANEL, steps: k, pass: 256, row_bytes: k * size_of::<f32>() };
    let sums = |block: &Block| {
        let depth = block.steps.len();
        let a = &a[block.at[0] * k + block.steps.start * PANEL[0]..][..depth * PANEL[0]];
        let b = &b[block.at[1] * k + block.steps.start * PANEL[1]..][..depth * PANEL[1]];
        // SAFETY: the kernel was chosen by `level`; the block's C has room for a whole piece.
        unsafe { kernel(block, a, b) };
    };
    // SAFETY: the caller's promise.
    unsafe { walk.run(target, sums) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(block: &Block, a: &[f32], b: &[f32]) {
    use std::arch::x86_64::{
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; PANEL[0]];
    // SAFETY: the block's C has room for 8 rows of 32; a step of B is two registers.
    unsafe {
        if block.load {
            for i in 0..PANEL[0] {
                for j in 0..2 {
                    sums[i][j] = _mm512_loadu_ps(block.c.add(i * block.stride + j * 16));
                }
            }
        }
        for (a, b) in a.as_chunks::<{ PANEL[0] }>().0.iter().zip(b.as_chunks::<{ PANEL[1] }>().0) {
            let columns = [_mm512_loadu_ps(b.as_ptr()), _mm512_loadu_ps(b.as_ptr().add(16))];
            for i in 0..PANEL[0] {
                for j in 0..2 {
                    sums[i][j] = _mm512_fmadd_ps(_mm512_set1_ps(a[i]), columns[j], sums[i][j]);
                }
            }
        }
        for i in 0..PANEL[0] {
            for j in 0..2 {
                _mm512_storeu_ps(block.c.add(i * block.stride + j * 16), sums[i][j]);
            }
        }
    }
}

/// Four rows and 16 columns at a time: more sums than that do not fit into 16 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(block: &Block, a: &[f32], b: &[f32]) {
    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };
    for (top, left) in [(0, 0), (4, 0), (0, 16), (4, 16)] {
        // SAFETY: the block's C has room for 8 rows of 32; a step of B is four registers.
        unsafe {
            let c = block.c.add(top * block.stride + left);
            let mut sums = [[_mm256_setzero_ps(); 2]; 4];
            if block.load {
                for i in 0..4 {
                    for j in 0..2 {
                        sums[i][j] = _mm256_loadu_ps(c.add(i * block.stride + j * 8));
                    }
                }
            }
            for (a, b) in a.as_chunks::<{ PANEL[0] }>().0.iter().zip(b.as_chunks::<{ PANEL[1] }>().0) {
                let b = b.as_ptr().add(left);
                let columns = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                for i in 0..4 {
                    for j in 0..2 {
                        sums[i][j] = _mm256_fmadd_ps(_mm256_set1_ps(a[top + i]), columns[j], sums[i][j]);
                    }
                }
            }
            for i in 0..4 {
                for j in 0..2 {
                    _mm256_storeu_ps(c.add(i * block.stride + j * 8), sums[i][j]);
                }
            }
        }
    }
}

/// Four rows and 8 columns at a time, in plain code.
unsafe fn portable(block: &Block, a: &[f32], b: &[f32]) {
    for top in (0..PANEL[0]).step_by(4) {
        for left in (0..PANEL[1]).step_by(8) {
            // SAFETY: the block's C has room for 8 rows of 32.
            let at = |i: usize| unsafe { block.c.add((top + i) * block.stride + left).cast::<[f32; 8]>() };
            let mut sums = [[0f32; 8]; 4];
            if block.load {
                // SAFETY: as above; what lies there is numbers.
                sums = std::array::from_fn(|i| unsafe { at(i).read_unaligned() });
            }
            for (a, b) in a.as_chunks::<{ PANEL[0] }>().0.iter().zip(b.as_chunks::<{ PANEL[1] }>().0) {
                for i in 0..4 {
                    for j in 0..8 {
                        sums[i][j] += a[top + i] * b[left + j];
                    }
                }
            }
            for i in 0..4 {
                // SAFETY: as above.
                unsafe { at(i).write_unaligned(sums[i]) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::matmul::layout::{Side, Source, panels, room};
    use crate::ops::matmul::{self as products, View};

    /// The instructions that `level` did not choose, against those that it chose.
    #[test]
    fn all_instruction_sets_agree() {
        let (m, k, n) = (21, 300, 45);
        let values =
            |n: usize, seed: usize| (0..n).map(|i| ((i * 37 + seed) % 101) as f32 - 50.0).collect::<Vec<_>>();
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let (mut lhs, mut rhs) = (Vec::new(), Vec::new());
        let any = products::Kernel::Vector { rounded: false };
        let (left, right) = (View::new(&a, m, k), View::new(&b, k, n));
        panels(Source::lhs(left), Side::Left, false, room(any, Side::Left, m, k, &mut lhs));
        panels(Source::rhs(right), Side::Right, false, room(any, Side::Right, n, k, &mut rhs));
        let mut kernels: Vec<Kernel> = vec![portable];
        #[cfg(target_arch = "x86_64")]
        {
            kernels.extend((level() != Level::Portable).then_some(avx2 as Kernel));
            kernels.extend((level() == Level::Avx512).then_some(avx512 as Kernel));
        }
        for kernel in kernels {
            for add in [false, true] {
                let mut c = vec![7.0; m * n];
                let target = Target { rows: 0..m, cols: n, c: c.as_mut_ptr(), stride: n, add };
                // SAFETY: C is [m, n], and kernels that are not there were left out.
                unsafe { run(&lhs, &rhs, k, &target, kernel) };
                for i in 0..m {
                    for j in 0..n {
                        // Whole numbers: every sum is exact.
                        let sum: f32 = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
                        assert_eq!(c[i * n + j], sum + if add { 7.0 } else { 0.0 }, "{i} {j}");
                    }
                }
            }
        }
    }
}

use proptest::prelude::*;

use super::*;

/// Numbers like those of a normal distribution, from a counter.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    (0..n).map(|_| (0..6).map(|_| uniform()).sum::<f64>() as f32).collect()
}

/// A matrix [rows, cols] inside a wider one, or the transposed of one.
fn matrix(rows: usize, cols: usize, transposed: bool, seed: u64) -> (Vec<f32>, usize) {
    let (outer, inner) = if transposed { (cols, rows) } else { (rows, cols) };
    let stride = inner + (seed % 3) as usize;
    (normal(outer * stride, seed), stride)
}

fn view(data: &[f32], rows: usize, cols: usize, stride: usize, transposed: bool) -> View<'_> {
    if transposed {
        View::strided(data, cols, rows, stride).t()
    } else {
        View::strided(data, rows, cols, stride)
    }
}

fn at(view: View<'_>, i: usize, j: usize) -> f64 {
    view.data[i * view.row_stride + j * view.col_stride] as f64
}

/// Largest error of factors and sums, relative to the product of the norms of a row and a column.
fn tolerance(kernel: Kernel) -> f64 {
    match kernel {
        Kernel::Amx { planes: 1 } | Kernel::Avx512Bf16 | Kernel::Vector { rounded: true } => 8e-3,
        Kernel::Amx { planes: 2 } => 5e-5,
        _ => 5e-7,
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_kernel_multiplies(
        (m, k, n) in prop_oneof![(1..80usize, 1..90usize, 1..80usize), (1..40usize, 380..800usize, 1..40usize)],
        (ta, tb, add) in (any::<bool>(), any::<bool>(), any::<bool>()),
        seed in 0..1000u64,
        cut in (0.0..1.0f64, 0.0..1.0f64),
    ) {
        let ((a_data, a_stride), (b_data, b_stride)) = (matrix(m, k, ta, seed), matrix(k, n, tb, seed + 1));
        let (a, b) = (view(&a_data, m, k, a_stride, ta), view(&b_data, k, n, b_stride, tb));
        let stride = n + 3;
        let start = normal(m * stride, seed + 2);
        for kernel in Kernel::available() {
            let (mut lhs, mut rhs) = (Lhs::with(kernel), Rhs::with(kernel));
            // What was there before must leave no trace.
            lhs.fill(View::new(&vec![f32::NAN; 40 * 70], 40, 70));
            rhs.fill(View::new(&vec![f32::NAN; 40 * 70], 40, 70));
            lhs.fill(a);
            rhs.fill(b);
            let mut c = start.clone();
            product(&lhs, &rhs, 0..m, &mut c, stride, add);
            for i in 0..m {
                let a_norm = norm((0..k).map(|l| at(a, i, l)));
                for j in 0..n {
                    let before = if add { start[i * stride + j] as f64 } else { 0.0 };
                    let want = before + (0..k).map(|l| at(a, i, l) * at(b, l, j)).sum::<f64>();
                    let scale = a_norm * norm((0..k).map(|l| at(b, l, j))) + before.abs();
                    let error = (c[i * stride + j] as f64 - want).abs();
                    prop_assert!(error <= tolerance(kernel) * scale, "{kernel:?} {i} {j}: {error} of {scale}");
                }
                prop_assert_eq!(&c[i * stride + n..(i + 1) * stride], &start[i * stride + n..(i + 1) * stride]);
            }
            // Any range of rows gives the same bits.
            let mut ends = [(cut.0 * (m + 1) as f64) as usize, (cut.1 * (m + 1) as f64) as usize];
            ends.sort_unstable();
            let mut part = start[ends[0] * stride..].to_vec();
            part.truncate((ends[1] - ends[0]) * stride);
            product(&lhs, &rhs, ends[0]..ends[1], &mut part, stride, add);
            prop_assert_eq!(&part[..], &c[ends[0] * stride..ends[1] * stride], "{:?} {:?}", kernel, ends);
        }
    }
}

#[test]
fn nothing_times_nothing() {
    for kernel in Kernel::available() {
        for (m, k, n) in [(0, 3, 3), (3, 0, 3), (3, 3, 0)] {
            let (mut lhs, mut rhs) = (Lhs::with(kernel), Rhs::with(kernel));
            lhs.fill(View::new(&vec![1.0; m * k], m, k));
            rhs.fill(View::new(&vec![1.0; k * n], k, n));
            let mut c = vec![7.0; m * n];
            product(&lhs, &rhs, 0..m, &mut c, n, true);
            assert!(c.iter().all(|&v| v == 7.0));
            product(&lhs, &rhs, 0..m, &mut c, n, false);
            assert!(c.iter().all(|&v| v == 0.0));
        }
    }
}

#[test]
fn large_values_stay_finite_and_others_stay_what_they_are() {
    for kernel in Kernel::available() {
        let one = |x: f32| {
            let (mut lhs, mut rhs) = (Lhs::with(kernel), Rhs::with(kernel));
            lhs.fill(View::new(&[x], 1, 1));
            rhs.fill(View::new(&[0.25], 1, 1));
            let mut c = [0.0];
            product(&lhs, &rhs, 0..1, &mut c, 1, false);
            c[0]
        };
        assert!(one(f32::NAN).is_nan(), "{kernel:?}");
        assert!(!one(f32::INFINITY).is_finite(), "{kernel:?}");
        assert!(one(3e38).is_finite(), "{kernel:?}");
        let exact = matches!(kernel, Kernel::Amx { planes: 3 } | Kernel::Vector { rounded: false });
        if exact {
            assert_eq!(one(f32::MAX), f32::MAX / 4.0, "{kernel:?}");
            assert_eq!(one(1.234_567_8), 1.234_567_8 / 4.0);
        }
    }
}

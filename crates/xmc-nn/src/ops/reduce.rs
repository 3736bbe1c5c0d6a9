//! Sums over rows, columns and whole vectors, in a fixed order.

use super::half::Element;
use super::simd::{LANES, fma, total};

crate::simd! {
    /// Adds `bias [cols]` to every row of `x [rows, cols]`.
    pub fn add_bias(x: &mut [f32], bias: &[f32]) {
        for row in x.chunks_exact_mut(bias.len().max(1)) {
            for (v, b) in row.iter_mut().zip(bias) {
                *v += b;
            }
        }
    }

    /// out[j] += sum of x[i, j] over the rows of `x [rows, cols]`, in their order; cols = `out.len()`.
    pub fn column_sums(x: &[f32], out: &mut [f32]) {
        for row in x.chunks_exact(out.len().max(1)) {
            for (sum, v) in out.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }

    /// y += a x.
    pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        axpy_to::<FUSED, f32>(a, x, y);
    }

    /// [`axpy`] with an x of bf16.
    pub fn axpy_bf16(a: f32, x: &[u16], y: &mut [f32]) {
        axpy_to::<FUSED, u16>(a, x, y);
    }

    /// y += a[0] x[0] + … + a[3] x[3], in this order: y passes through registers once for four vectors.
    pub fn axpy4(a: &[f32; 4], x: &[&[f32]; 4], y: &mut [f32]) {
        axpy4_to::<FUSED, f32>(a, x, y);
    }

    /// [`axpy4`] with x of bf16.
    pub fn axpy4_bf16(a: &[f32; 4], x: &[&[u16]; 4], y: &mut [f32]) {
        axpy4_to::<FUSED, u16>(a, x, y);
    }

    /// x *= a.
    pub fn scale(x: &mut [f32], a: f32) {
        for v in x {
            *v *= a;
        }
    }

    /// Sum of x[i] y[i].
    pub fn dot(x: &[f32], y: &[f32]) -> f32 {
        dot_lanes::<FUSED, f32>(x, y)
    }

    /// [`dot`] with a y of bf16.
    pub fn dot_bf16(x: &[f32], y: &[u16]) -> f32 {
        dot_lanes::<FUSED, u16>(x, y)
    }

    /// Sums of x[i] y[0][i], …, x[i] y[3][i], each as [`dot`] would add it up: x is loaded once for four vectors of the
    /// same length, and eight sums at a time hide how long one addition takes.
    pub fn dot4(x: &[f32], y: &[&[f32]; 4]) -> [f32; 4] {
        dot4_lanes::<FUSED, f32>(x, y)
    }

    /// [`dot4`] with y of bf16.
    pub fn dot4_bf16(x: &[f32], y: &[&[u16]; 4]) -> [f32; 4] {
        dot4_lanes::<FUSED, u16>(x, y)
    }

    /// Sum of x[i]^2, in f64.
    pub fn sum_squares(x: &[f32]) -> f64 {
        let mut sums = [0f64; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                sums[lane] += block[lane] as f64 * block[lane] as f64;
            }
        }
        let tail: f64 = rest.iter().map(|&v| v as f64 * v as f64).sum();
        sums.iter().sum::<f64>() + tail
    }
}

#[inline(always)]
fn axpy_to<const FUSED: bool, E: Element>(a: f32, x: &[E], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = fma::<FUSED>(a, x.widen(), *y);
    }
}

#[inline(always)]
fn axpy4_to<const FUSED: bool, E: Element>(a: &[f32; 4], x: &[&[E]; 4], y: &mut [f32]) {
    let first_three = x[0].iter().zip(x[1]).zip(x[2]);
    for (y, (((&x0, &x1), &x2), &x3)) in y.iter_mut().zip(first_three.zip(x[3])) {
        let sum = fma::<FUSED>(a[1], x1.widen(), fma::<FUSED>(a[0], x0.widen(), *y));
        *y = fma::<FUSED>(a[3], x3.widen(), fma::<FUSED>(a[2], x2.widen(), sum));
    }
}

#[inline(always)]
fn dot4_lanes<const FUSED: bool, E: Element>(x: &[f32], y: &[&[E]; 4]) -> [f32; 4] {
    let (x, rest) = x.as_chunks::<LANES>();
    let [(y0, rest0), (y1, rest1), (y2, rest2), (y3, rest3)] = y.map(|y| y.as_chunks::<LANES>());
    // Not an array of them: that would live in memory, lane by lane.
    let (mut s0, mut s1, mut s2, mut s3) = ([0f32; LANES], [0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for ((((x, y0), y1), y2), y3) in x.iter().zip(y0).zip(y1).zip(y2).zip(y3) {
        add_products::<FUSED, E>(x, y0, &mut s0);
        add_products::<FUSED, E>(x, y1, &mut s1);
        add_products::<FUSED, E>(x, y2, &mut s2);
        add_products::<FUSED, E>(x, y3, &mut s3);
    }
    [
        total::<FUSED>(&s0) + dot_lanes::<FUSED, E>(rest, rest0),
        total::<FUSED>(&s1) + dot_lanes::<FUSED, E>(rest, rest1),
        total::<FUSED>(&s2) + dot_lanes::<FUSED, E>(rest, rest2),
        total::<FUSED>(&s3) + dot_lanes::<FUSED, E>(rest, rest3),
    ]
}

#[inline(always)]
fn add_products<const FUSED: bool, E: Element>(x: &[f32; LANES], y: &[E; LANES], sums: &mut [f32; LANES]) {
    for lane in 0..LANES {
        sums[lane] = fma::<FUSED>(x[lane], y[lane].widen(), sums[lane]);
    }
}

/// Sum of x[i] y[i] inside a function that is compiled for several instruction sets.
///
/// Ends of vectors get running sums of their own: single lanes would force all of them out of registers.
#[inline(always)]
pub(super) fn dot_lanes<const FUSED: bool, E: Element>(x: &[f32], y: &[E]) -> f32 {
    let (mut sums, mut ends) = ([0f32; LANES], [0f32; END]);
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x.iter().zip(y) {
        add_products::<FUSED, E>(x, y, &mut sums);
    }
    let (x, x_rest) = x_rest.as_chunks::<END>();
    let (y, y_rest) = y_rest.as_chunks::<END>();
    for (x, y) in x.iter().zip(y) {
        for lane in 0..END {
            ends[lane] = fma::<FUSED>(x[lane], y[lane].widen(), ends[lane]);
        }
    }
    let mut last = 0.0;
    for (&x, &y) in x_rest.iter().zip(y_rest) {
        last = fma::<FUSED>(x, y.widen(), last);
    }
    total::<FUSED>(&sums) + (end_total(&ends) + last)
}

/// Sum of x[i] inside a function that is compiled for several instruction sets.
#[inline(always)]
pub(super) fn sum_lanes<const FUSED: bool>(x: &[f32]) -> f32 {
    let (mut sums, mut ends) = ([0f32; LANES], [0f32; END]);
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] += block[lane];
        }
    }
    let (blocks, rest) = rest.as_chunks::<END>();
    for block in blocks {
        for lane in 0..END {
            ends[lane] += block[lane];
        }
    }
    total::<FUSED>(&sums) + (end_total(&ends) + rest.iter().sum::<f32>())
}

/// Largest of x inside a function that is compiled for several instruction sets. A NaN may be passed over.
#[inline(always)]
pub(super) fn max_lanes<const FUSED: bool>(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (mut largest, mut ends) = ([f32::NEG_INFINITY; LANES], [f32::NEG_INFINITY; END]);
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            largest[lane] = larger(block[lane], largest[lane]);
        }
    }
    let (blocks, rest) = rest.as_chunks::<END>();
    for block in blocks {
        for lane in 0..END {
            ends[lane] = larger(block[lane], ends[lane]);
        }
    }
    let last = rest.iter().fold(f32::NEG_INFINITY, |a, &b| larger(b, a));
    larger(super::simd::largest::<FUSED>(&largest), larger(end_fold(&ends, larger), last))
}

/// Running sums of the end of a vector.
const END: usize = 8;

/// Sum of the running sums of an end.
#[inline(always)]
fn end_total(ends: &[f32; END]) -> f32 {
    end_fold(ends, |a, b| a + b)
}

#[inline(always)]
fn end_fold(e: &[f32; END], f: impl Fn(f32, f32) -> f32) -> f32 {
    f(f(f(e[0], e[4]), f(e[2], e[6])), f(f(e[1], e[5]), f(e[3], e[7])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn sums_are_those_of_f64_at_every_length() {
        for n in [0, 1, 31, 32, 33, 100, 1000] {
            let (x, y) = (values(n, 1), values(n, 2));
            let want: f64 = x.iter().zip(&y).map(|(&a, &b)| a as f64 * b as f64).sum();
            assert!((dot(&x, &y) as f64 - want).abs() < 1e-4, "{n}");
            let want: f64 = x.iter().map(|&a| a as f64 * a as f64).sum();
            assert!((sum_squares(&x) - want).abs() < 1e-9);
            let want: f64 = x.iter().map(|&a| a as f64).sum();
            assert!((sum_lanes::<false>(&x) as f64 - want).abs() < 1e-4);
            assert_eq!(max_lanes::<false>(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    #[test]
    fn four_vectors_at_a_time_are_four_vectors_one_by_one() {
        for n in [1, 31, 32, 33, 100, 385] {
            let (x, y) = (values(n, 1), [2, 3, 4, 5].map(|seed| values(n, seed)));
            let four = y.each_ref().map(Vec::as_slice);
            assert_eq!(dot4(&x, &four), four.map(|y| dot(&x, y)));
            let (mut sum, mut want) = (x.clone(), x.clone());
            let a = [0.5, -1.0, 2.0, 0.3];
            axpy4(&a, &four, &mut sum);
            a.iter().zip(four).for_each(|(&a, y)| axpy(a, y, &mut want));
            assert_eq!(sum, want);
        }
    }

    #[test]
    fn rows_and_columns() {
        let mut x = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        add_bias(&mut x, &[10.0, 20.0, 30.0]);
        assert_eq!(x, [11.0, 22.0, 33.0, 14.0, 25.0, 36.0]);
        let mut sums = vec![1.0, 0.0, 0.0];
        column_sums(&x, &mut sums);
        assert_eq!(sums, [26.0, 47.0, 69.0]);
        axpy(2.0, &[1.0, 1.0, 2.0], &mut sums);
        scale(&mut sums, 0.5);
        assert_eq!(sums, [14.0, 24.5, 36.5]);
        add_bias(&mut [], &[]);
        column_sums(&[], &mut []);
    }
}

//! The dense part of a product: every dense feature adds its row of weights to the margins of all children.
//!
//! A margin takes its features one after the other, so its bits are the same at any width of vectors; four features at
//! a time only spare three of four trips of the margins to memory and back. The loops are compiled once for each
//! instruction set and chosen at run time: widening sixteen f16 weights costs as many instructions as widening four.

use crate::store::widen;

/// Features taken together.
const GROUP: usize = 4;

/// Adds `x[f] * weights[f][c]` to every margin c; weights `[x.len(), margins.len()]`.
macro_rules! dense_product {
    ($name:ident, $weight:ty, $widen:expr) => {
        pub(super) fn $name(margins: &mut [f32], x: &[f32], weights: &[$weight]) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512(margins: &mut [f32], x: &[f32], weights: &[$weight]) {
                    add(margins, x, weights, $widen);
                }
                #[target_feature(enable = "avx2")]
                fn avx2(margins: &mut [f32], x: &[f32], weights: &[$weight]) {
                    add(margins, x, weights, $widen);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has the features that the function was compiled for.
                    return unsafe { avx512(margins, x, weights) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2(margins, x, weights) };
                }
            }
            add(margins, x, weights, $widen);
        }
    };
}

dense_product!(add_f32, f32, |w| w);
dense_product!(add_f16, u16, widen);

#[inline(always)]
fn add<V: Copy>(margins: &mut [f32], x: &[f32], weights: &[V], widen: impl Fn(V) -> f32) {
    let children = margins.len();
    if children == 0 {
        return;
    }
    let (groups, rest) = x.as_chunks::<GROUP>();
    let mut rows = weights.chunks_exact(children);
    for x in groups {
        let (Some(a), Some(b), Some(c), Some(d)) = (rows.next(), rows.next(), rows.next(), rows.next())
        else {
            return;
        };
        for ((((margin, &a), &b), &c), &d) in margins.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let sum = *margin + x[0] * widen(a);
            let sum = sum + x[1] * widen(b);
            let sum = sum + x[2] * widen(c);
            *margin = sum + x[3] * widen(d);
        }
    }
    for (&x, row) in rest.iter().zip(rows) {
        for (margin, &w) in margins.iter_mut().zip(row) {
            *margin += x * widen(w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::narrow;

    #[test]
    fn every_width_gives_the_bits_of_one_feature_after_the_other() {
        let number = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        for (children, width) in [(1, 384), (5, 7), (16, 3), (100, 386), (255, 4), (3, 0)] {
            let x: Vec<f32> = (0..width).map(number).collect();
            let half: Vec<u16> = (0..width * children).map(|i| narrow(number(i + 7))).collect();
            let full: Vec<f32> = half.iter().map(|&w| widen(w)).collect();
            let start: Vec<f32> = (0..children).map(|c| number(c + 3)).collect();
            let (mut f16, mut f32, mut slow) = (start.clone(), start.clone(), start);
            add_f16(&mut f16, &x, &half);
            add_f32(&mut f32, &x, &full);
            for (f, x) in x.iter().enumerate() {
                for (c, margin) in slow.iter_mut().enumerate() {
                    *margin += x * full[f * children + c];
                }
            }
            assert_eq!((&f16, &f32), (&slow, &slow));
        }
    }
}

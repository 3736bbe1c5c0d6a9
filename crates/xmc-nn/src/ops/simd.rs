//! How does one plain Rust function become fast on every processor? Compiled three times, chosen at run time.
//!
//! [`simd!`](crate::simd) takes a function whose loops vectorise by themselves and compiles its body for AVX-512, for AVX2 with FMA
//! and for the processor the program was built for. Reductions keep [`LANES`] running sums, so their order is fixed
//! by the code and not by the width of a register.

/// Running sums of a reduction: two registers of AVX-512, four of AVX2.
pub const LANES: usize = 32;

/// The widest instructions that this processor has and this crate is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 (f, bw, dq, vl).
    Avx512,
}

/// Asks the processor; a few nanoseconds after the first time.
#[inline]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if fma && wide {
            return Level::Avx512;
        }
        if fma {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// Compiles one function for several instruction sets and chooses among them at run time.
///
/// Inside the body the constant `FUSED` says whether [`fma`] is one instruction. Functions called by
/// the body must be `#[inline(always)]`, else they are not compiled for the wider instructions.
///
/// ```
/// xmc_nn::simd! {
///     /// Squares all values.
///     pub fn square(x: &mut [f32]) {
///         for v in x {
///             *v *= *v;
///         }
///     }
/// }
/// let mut x = [1.0, 2.0, 3.0];
/// square(&mut x);
/// assert_eq!(x, [1.0, 4.0, 9.0]);
/// ```
#[macro_export]
macro_rules! simd {
    ($(
        $(#[$attribute:meta])*
        $visible:vis fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        $visible fn $name($($arg: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn plain<const FUSED: bool>($($arg: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $kind),*) $(-> $result)? {
                plain::<true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $kind),*) $(-> $result)? {
                plain::<true>($($arg),*)
            }

            match $crate::ops::simd::level() {
                // SAFETY: the processor has the features that the function was compiled for.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                // Every aarch64 processor multiplies and adds in one instruction.
                _ => plain::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    )*};
}

/// `a b + c`, rounded once where that is one instruction and twice elsewhere (where it would be a call).
#[inline(always)]
pub fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// c[0] + c[1] x + c[2] x^2 + …, by Horner's rule.
#[inline(always)]
pub fn polynomial<const FUSED: bool, const N: usize>(x: f32, c: &[f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = fma::<FUSED>(sum, x, c[i]);
    }
    sum
}

/// Running sums that begin at `start`.
pub type Sums = [f32; LANES];

/// Sum of the lanes: halves onto halves, in the same order on every processor. `FUSED` is that of the body of `simd!`.
#[inline(always)]
pub(crate) fn total<const FUSED: bool>(lanes: &Sums) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if FUSED {
        // SAFETY: on this architecture `simd!` sets `FUSED` only in what it compiles for AVX2 and wider.
        return unsafe { avx2::total(lanes) };
    }
    fold(lanes, |a, b| a + b)
}

/// Largest of the lanes. A NaN may be passed over. `FUSED` as above.
#[inline(always)]
pub(crate) fn largest<const FUSED: bool>(lanes: &Sums) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if FUSED {
        // SAFETY: as above.
        return unsafe { avx2::largest(lanes) };
    }
    fold(lanes, |a, b| if a > b { a } else { b })
}

#[inline(always)]
fn fold(lanes: &Sums, operation: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = operation(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The compiler folds lanes one by one; these do it in registers.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm_add_ps, _mm_cvtss_f32, _mm_max_ps, _mm_movehdup_ps, _mm_movehl_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_max_ps,
    };

    use super::Sums;

    macro_rules! fold {
        ($name:ident, $eight:ident, $four:ident) => {
            #[target_feature(enable = "avx2")]
            #[inline]
            pub(super) fn $name(lanes: &Sums) -> f32 {
                // SAFETY: four times eight lanes.
                let part = |i: usize| unsafe { _mm256_loadu_ps(lanes.as_ptr().add(8 * i)) };
                let eight = $eight($eight(part(0), part(2)), $eight(part(1), part(3)));
                let four = $four(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = $four(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32($four(two, _mm_movehdup_ps(two)))
            }
        };
    }

    fold!(total, _mm256_add_ps, _mm_add_ps);
    fold!(largest, _mm256_max_ps, _mm_max_ps);
}

#[cfg(test)]
mod tests {
    use super::*;

    simd! {
        fn plus_one(x: &mut [f32]) {
            for v in x {
                *v = fma::<FUSED>(*v, 1.0, 1.0);
            }
        }
        fn one_more(x: f32) -> f32 {
            fma::<FUSED>(x, 1.0, 1.0)
        }
    }

    #[test]
    fn a_function_is_compiled_and_chosen() {
        let mut x = [1.0, 2.0, f32::INFINITY];
        plus_one(&mut x);
        assert_eq!(x, [2.0, 3.0, f32::INFINITY]);
        assert_eq!(one_more(4.0), 5.0);
    }

    simd! {
        fn folded(lanes: &Sums) -> [f32; 2] {
            [total::<FUSED>(lanes), largest::<FUSED>(lanes)]
        }
    }

    #[test]
    fn folding_takes_every_lane_once_in_the_same_order_everywhere() {
        let lanes: Sums = std::array::from_fn(|i| 1.0 / (i * 7 % 32 + 1) as f32);
        assert_eq!(folded(&lanes), [total::<false>(&lanes), largest::<false>(&lanes)]);
        assert_eq!(largest::<false>(&lanes), 1.0);
        let lanes: Sums = std::array::from_fn(|i| i as f32);
        assert_eq!(folded(&lanes), [496.0, 31.0]);
    }

    #[test]
    fn polynomials_begin_with_the_constant() {
        assert_eq!(polynomial::<false, 3>(2.0, &[1.0, 10.0, 100.0]), 421.0);
        assert_eq!(polynomial::<true, 3>(2.0, &[1.0, 10.0, 100.0]), 421.0);
    }
}

//! The loops over values, compiled for several instruction sets; all give the same bits.

use super::quantize::from_bf16;

/// Running sums of a dot product.
const LANES: usize = 64;

/// Scores compared at once.
const GROUP: usize = 64;

/// Makes of each plain function versions for AVX-512 and AVX2, and one that takes the best at run time.
macro_rules! versions {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn portable($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) { portable($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) { portable($($arg),*) }
                if is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has the features that the function was compiled for.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable($($arg),*);
        }
    )*};
}

versions! {
    /// `scores[j] = <query, row j>` for rows of as many values as the query has. This is the exact score.
    fn dots(query: &[f32], rows: &[f32], scores: &mut [f32]) {
        for (row, score) in rows.chunks_exact(query.len()).zip(scores) {
            *score = dot(query, row, |v| v);
        }
    }

    /// The same for rows in bf16.
    fn dots_bf16(query: &[f32], rows: &[u16], scores: &mut [f32]) {
        for (row, score) in rows.chunks_exact(query.len()).zip(scores) {
            *score = dot(query, row, from_bf16);
        }
    }

    /// Sums of products of codes, exact as long as |query| * 127 summed fits i32.
    fn dots_codes(query: &[i16], rows: &[i8], sums: &mut [i32]) {
        for (row, sum) in rows.chunks_exact(query.len()).zip(sums) {
            *sum = query.iter().zip(row).map(|(&q, &c)| i32::from(q) * i32::from(c)).sum();
        }
    }

    /// Appends the positions of all scores that are at least `floor`.
    fn at_least(scores: &[f32], floor: f32, found: &mut Vec<u32>) {
        for (n, group) in scores.chunks(GROUP).enumerate() {
            // Survivors are rare: one test for the whole group first.
            if group.iter().fold(false, |any, &s| any | (s >= floor)) {
                let above = group.iter().enumerate().filter(|(_, s)| **s >= floor);
                found.extend(above.map(|(i, _)| (n * GROUP + i) as u32));
            }
        }
    }

    /// bf16 to f32.
    fn widen(values: &[u16], out: &mut [f32]) {
        for (out, &v) in out.iter_mut().zip(values) {
            *out = from_bf16(v);
        }
    }

    /// Codes to f32.
    fn widen_codes(codes: &[i8], out: &mut [f32]) {
        for (out, &c) in out.iter_mut().zip(codes) {
            *out = f32::from(c);
        }
    }

    /// `scores[j] *= scales[j]`
    fn scale(scores: &mut [f32], scales: &[f32]) {
        for (score, scale) in scores.iter_mut().zip(scales) {
            *score *= scale;
        }
    }
}

/// 64 running sums, each product and each sum rounded, then added in halves.
#[inline(always)]
fn dot<T: Copy>(query: &[f32], row: &[T], value: impl Fn(T) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (query, query_rest) = query.as_chunks::<LANES>();
    let (row, row_rest) = row.as_chunks::<LANES>();
    for (query, row) in query.iter().zip(row) {
        for lane in 0..LANES {
            sums[lane] += query[lane] * value(row[lane]);
        }
    }
    for (sum, (q, r)) in sums.iter_mut().zip(query_rest.iter().zip(row_rest)) {
        *sum += q * value(*r);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

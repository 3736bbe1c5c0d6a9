//! What does a decoder remember of the tokens so far? Keys and values of every layer, so that a new token is all that has
//! to be computed.
//!
//! A [`Cache`] is one sequence. Of every layer and head it has the values `[capacity, d]` and the keys the other way round,
//! `[d, capacity]`: scores of 32 positions then lie side by side and need no sums across lanes. Keys are stored as they
//! are multiplied, rotated to their positions. f32 costs `8 layers kv_heads d` bytes a token, for SmolLM2-135M 46 KB; a
//! step reads them once, which is little beside the weights until sequences have some thousand tokens.

use std::marker::PhantomData;
use std::ops::Range;

use crate::ops::simd::{LANES, fma};
use crate::ops::softmax::softmax_rows;

/// Queries that are taken at once; a key and a value are then read once for all of them.
const GROUP: usize = 4;

/// Keys and values of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

impl Cache {
    /// Forgets everything and makes room for `capacity` tokens. Memory is kept and grows only if it must.
    pub(crate) fn reset(&mut self, layers: usize, kv_heads: usize, head_dim: usize, capacity: usize) {
        // Whole registers, and an odd number of lines of the processor's cache: else the same places of it would have to
        // hold all rows of the keys.
        let capacity = capacity.next_multiple_of(LANES) + LANES / 2;
        let size = layers * kv_heads * head_dim * capacity;
        for numbers in [&mut self.keys, &mut self.values] {
            if numbers.len() < size {
                numbers.resize(size, 0.0);
            }
        }
        (self.kv_heads, self.head_dim, self.capacity, self.len) = (kv_heads, head_dim, capacity, 0);
    }

    /// Tokens so far: the position of the next one.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Says that `count` more tokens were written to all layers.
    pub(crate) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Writes keys and values of the tokens from the first free position on: rows of `kv_heads d` numbers, `stride` apart.
    /// They count once [`Cache::advance`] has been called.
    pub(crate) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32], stride: usize) {
        let (width, d, capacity) = (self.kv_heads * self.head_dim, self.head_dim, self.capacity);
        let rows = keys.chunks(stride.max(1)).zip(values.chunks(stride.max(1)));
        for ((keys, values), position) in rows.zip(self.len..capacity) {
            for head in 0..self.kv_heads {
                let first = (layer * self.kv_heads + head) * capacity * d;
                let part = head * d..(head + 1) * d;
                put(&keys[..width][part.clone()], &mut self.keys[first..][..d * capacity], position);
                self.values[first + position * d..][..d].copy_from_slice(&values[..width][part]);
            }
        }
    }

    /// The cache for threads that each work on other heads.
    pub(crate) fn shared(&mut self) -> SharedCache<'_> {
        SharedCache {
            keys: Shared::new(&mut self.keys),
            values: Shared::new(&mut self.values),
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            capacity: self.capacity,
            len: self.len,
        }
    }
}

/// A cache whose heads are handed to different threads.
pub(crate) struct SharedCache<'a> {
    keys: Shared<'a>,
    values: Shared<'a>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    len: usize,
}

impl SharedCache<'_> {
    /// Position of the token that is being computed.
    pub(crate) fn position(&self) -> usize {
        self.len
    }

    /// Adds `key [d]` and `value [d]` of the new token to a head; what all positions then give the queries
    /// `[group, d]`, divided by sqrt(d) already, goes to `out [group, d]`.
    ///
    /// # Safety
    /// No other thread uses this head of this layer meanwhile.
    pub(crate) unsafe fn attend(
        &self,
        layer: usize,
        head: usize,
        [key, value]: [&[f32]; 2],
        queries: &[f32],
        out: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let d = self.head_dim;
        assert!(self.len < self.capacity && key.len() == d && value.len() == d);
        assert!(queries.len() == out.len() && queries.len().is_multiple_of(d));
        let first = (layer * self.kv_heads + head) * self.capacity * d;
        let all = first..first + self.capacity * d;
        // SAFETY: the caller's promise.
        let (keys, values) = unsafe { (self.keys.part(all.clone()), self.values.part(all)) };
        put(key, keys, self.len);
        values[self.len * d..][..d].copy_from_slice(value);
        let visible = self.len + 1;
        let stride = visible.next_multiple_of(LANES);
        for (queries, out) in queries.chunks(GROUP * d).zip(out.chunks_mut(GROUP * d)) {
            scores.resize(queries.len() / d * stride, 0.0);
            multiply_keys(queries, keys, self.capacity, d, scores);
            for scores in scores.chunks_exact_mut(stride) {
                softmax_rows(&mut scores[..visible], visible);
            }
            add_values(scores, stride, &values[..visible * d], d, out);
        }
    }
}

/// Writes a key `[d]` to its position of `keys [d, capacity]`.
fn put(key: &[f32], keys: &mut [f32], position: usize) {
    let capacity = keys.len() / key.len().max(1);
    for (&value, row) in key.iter().zip(keys.chunks_exact_mut(capacity)) {
        row[position] = value;
    }
}

crate::simd! {
    /// `scores [group, stride]` = `queries [group, d]` times `keys [d, capacity]`, as many positions as there is room for.
    fn multiply_keys(queries: &[f32], keys: &[f32], capacity: usize, d: usize, scores: &mut [f32]) {
        match queries.len() / d {
            1 => keys_of::<FUSED, 1>(queries, keys, capacity, d, scores),
            2 => keys_of::<FUSED, 2>(queries, keys, capacity, d, scores),
            3 => keys_of::<FUSED, 3>(queries, keys, capacity, d, scores),
            _ => keys_of::<FUSED, 4>(queries, keys, capacity, d, scores),
        }
    }

    /// `out [group, d]` = `scores [group, stride]` times `values [positions, d]`.
    fn add_values(scores: &[f32], stride: usize, values: &[f32], d: usize, out: &mut [f32]) {
        match out.len() / d {
            1 => values_of::<FUSED, 1>(scores, stride, values, d, out),
            2 => values_of::<FUSED, 2>(scores, stride, values, d, out),
            3 => values_of::<FUSED, 3>(scores, stride, values, d, out),
            _ => values_of::<FUSED, 4>(scores, stride, values, d, out),
        }
    }
}

/// The scores of G queries, [`LANES`] positions at a time.
#[inline(always)]
fn keys_of<const FUSED: bool, const G: usize>(
    queries: &[f32],
    keys: &[f32],
    capacity: usize,
    d: usize,
    scores: &mut [f32],
) {
    let stride = scores.len() / G;
    for first in (0..stride).step_by(LANES) {
        let mut sums = [[0f32; LANES]; G];
        for (i, row) in keys.chunks_exact(capacity).enumerate() {
            let Some(row) = row[first..].first_chunk::<LANES>() else { return };
            for g in 0..G {
                let q = queries[g * d + i];
                for lane in 0..LANES {
                    sums[g][lane] = fma::<FUSED>(q, row[lane], sums[g][lane]);
                }
            }
        }
        for g in 0..G {
            scores[g * stride + first..][..LANES].copy_from_slice(&sums[g]);
        }
    }
}

/// The sums of values for G queries, [`LANES`] columns at a time, then what is left one by one.
#[inline(always)]
fn values_of<const FUSED: bool, const G: usize>(
    scores: &[f32],
    stride: usize,
    values: &[f32],
    d: usize,
    out: &mut [f32],
) {
    let whole = d / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let mut sums = [[0f32; LANES]; G];
        for (j, row) in values.chunks_exact(d).enumerate() {
            let Some(row) = row[first..].first_chunk::<LANES>() else { return };
            for g in 0..G {
                let p = scores[g * stride + j];
                for lane in 0..LANES {
                    sums[g][lane] = fma::<FUSED>(p, row[lane], sums[g][lane]);
                }
            }
        }
        for g in 0..G {
            out[g * d + first..][..LANES].copy_from_slice(&sums[g]);
        }
    }
    for g in 0..G {
        for column in whole..d {
            let mut sum = 0.0;
            for (j, row) in values.chunks_exact(d).enumerate() {
                sum = fma::<FUSED>(scores[g * stride + j], row[column], sum);
            }
            out[g * d + column] = sum;
        }
    }
}

/// Numbers of which threads write different parts.
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a part is used by one thread at a time, as `part` demands.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(numbers: &'a mut [f32]) -> Self {
        Shared { start: numbers.as_mut_ptr(), len: numbers.len(), owner: PhantomData }
    }

    /// Some of the numbers.
    ///
    /// # Safety
    /// Nobody else uses them as long as the result lives.
    #[expect(clippy::mut_from_ref, reason = "parts of different tasks do not overlap")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [f32] {
        // SAFETY: inside, and the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(range.clone()), range.len()) }
    }

    /// Where the numbers of `range` begin.
    pub(crate) fn at(&self, range: Range<usize>) -> *mut f32 {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: inside.
        unsafe { self.start.add(range.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn a_new_token_attends_to_all_before_it_and_to_itself() {
        for (heads, d, group, tokens) in [(3, 8, 2, 11), (1, 36, 3, 70), (2, 64, 6, 40)] {
            attends(2, heads, d, group, tokens);
        }
    }

    fn attends(layers: usize, heads: usize, d: usize, group: usize, tokens: usize) {
        let mut cache = Cache::default();
        cache.reset(layers, heads, d, tokens);
        let (keys, rows) = (values(tokens * heads * d, 1), values(tokens * heads * d, 2));
        let width = heads * d;
        // The first six at once, the others one by one.
        for layer in 0..layers {
            cache.write(layer, &keys[..6 * width], &rows[..6 * width], width);
        }
        cache.advance(6);
        for t in 6..tokens {
            for (layer, head) in (0..layers).flat_map(|l| (0..heads).map(move |h| (l, h))) {
                let queries = values(group * d, t + layer + head);
                let mut out = vec![f32::NAN; group * d];
                let at = t * width + head * d..t * width + head * d + d;
                // SAFETY: one thread.
                unsafe {
                    let pair = [&keys[at.clone()], &rows[at]];
                    cache.shared().attend(layer, head, pair, &queries, &mut out, &mut Vec::new());
                }
                for (query, out) in queries.chunks(d).zip(out.chunks(d)) {
                    let part = |all: &[f32], j: usize| all[j * width + head * d..][..d].to_vec();
                    let score = |j: usize| {
                        let dot: f64 = query.iter().zip(part(&keys, j)).map(|(a, b)| f64::from(a * b)).sum();
                        dot.exp()
                    };
                    let sum: f64 = (0..=t).map(score).sum();
                    for i in 0..d {
                        let want: f64 = (0..=t).map(|j| score(j) / sum * f64::from(part(&rows, j)[i])).sum();
                        assert!((f64::from(out[i]) - want).abs() < 1e-5, "{t} {layer} {head}");
                    }
                }
            }
            cache.advance(1);
        }
        // Used again, nothing of before is seen.
        cache.reset(1, 1, 4, 2);
        let mut out = [0.0; 4];
        // SAFETY: one thread.
        unsafe { cache.shared().attend(0, 0, [&[1.0; 4], &[7.0; 4]], &[1.0; 4], &mut out, &mut Vec::new()) };
        assert_eq!(out, [7.0; 4]);
    }
}

//! What does a decoder remember of the tokens so far? Keys and values of every layer, so that a new token is all that has
//! to be computed.
//!
//! A [`Cache`] is one sequence: keys and values `[layers, kv_heads, capacity, d]` each. Keys are stored as they are
//! multiplied, rotated to their positions. f32 costs `8 layers kv_heads d` bytes a token, for SmolLM2-135M 46 KB; a
//! step reads them once, which is little beside the weights until sequences have some thousand tokens.

use std::marker::PhantomData;
use std::ops::Range;

use crate::ops::reduce::{axpy, axpy4, dot, dot4};
use crate::ops::softmax::softmax_rows;

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
        let (width, d) = (self.kv_heads * self.head_dim, self.head_dim);
        for (rows, numbers) in [(keys, &mut self.keys), (values, &mut self.values)] {
            for (row, position) in rows.chunks(stride.max(1)).zip(self.len..self.capacity) {
                for (head, part) in row[..width].chunks_exact(d).enumerate() {
                    let at = ((layer * self.kv_heads + head) * self.capacity + position) * d;
                    numbers[at..at + d].copy_from_slice(part);
                }
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
        assert!(self.len < self.capacity && key.len() == d && value.len() == d && queries.len() == out.len());
        let first = (layer * self.kv_heads + head) * self.capacity * d;
        let all = first..first + (self.len + 1) * d;
        // SAFETY: the caller's promise.
        let (keys, values) = unsafe { (self.keys.part(all.clone()), self.values.part(all)) };
        keys[self.len * d..].copy_from_slice(key);
        values[self.len * d..].copy_from_slice(value);
        scores.resize(self.len + 1, 0.0);
        for (query, out) in queries.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            attend(query, keys, values, scores, out);
        }
    }
}

/// `out [d]` = softmax(query keys^T) values over all positions.
fn attend(query: &[f32], keys: &[f32], values: &[f32], scores: &mut [f32], out: &mut [f32]) {
    let d = query.len();
    let (fours, rest) = scores.as_chunks_mut::<4>();
    let tail = fours.len() * 4;
    for (scores, keys) in fours.iter_mut().zip(keys.chunks_exact(4 * d)) {
        *scores = dot4(query, &quarters(keys));
    }
    for (score, key) in rest.iter_mut().zip(keys[tail * d..].chunks_exact(d)) {
        *score = dot(query, key);
    }
    let positions = scores.len();
    softmax_rows(scores, positions);
    out.fill(0.0);
    let (fours, rest) = scores.as_chunks::<4>();
    for (scores, values) in fours.iter().zip(values.chunks_exact(4 * d)) {
        axpy4(scores, &quarters(values), out);
    }
    for (&score, value) in rest.iter().zip(values[tail * d..].chunks_exact(d)) {
        axpy(score, value, out);
    }
}

/// Four rows that lie one after the other.
fn quarters(rows: &[f32]) -> [&[f32]; 4] {
    let d = rows.len() / 4;
    [&rows[..d], &rows[d..2 * d], &rows[2 * d..3 * d], &rows[3 * d..]]
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
        let (layers, heads, d, group, tokens) = (2, 3, 8, 2, 11);
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

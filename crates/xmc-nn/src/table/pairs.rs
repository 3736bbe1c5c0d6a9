//! How do texts meet the labels listed for them, without a copy of the labels' weights?
//!
//! A few texts go through the labels together, one stretch of labels after the other, so that weights which texts share come
//! from memory once. Of a stretch a text takes its labels: margins first, then the slopes of the loss, then
//! dx += slope w while the weights are still in the cache. The weights of the labels that come next are asked
//! for meanwhile.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::ops::half::Element;

/// Texts of a task: they share the weights that one of them brings into the cache.
const TEXTS: usize = 8;

/// Bytes of a column of the labels that a text takes of a stretch, in the mean: 24 KB of weights with 384 columns.
const COLUMN: usize = 64;

/// The most labels that a text takes at a time.
const MOST: usize = 64;

/// Which labels each text is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// Labels of text i are `indptr[i]..indptr[i + 1]` of `ids`, `[b + 1]`.
    pub indptr: &'a [usize],
    /// Labels, rising within a text.
    pub ids: &'a [u32],
}

impl Pairs<'_> {
    /// That they are pairs of `b` texts and some of `l` labels.
    pub(crate) fn check(&self, b: usize, l: usize) -> Result<()> {
        let n = self.ids.len();
        let rising = self.indptr.is_sorted() && self.indptr.first() == Some(&0);
        if self.indptr.len() != b + 1 || !rising || self.indptr[b] != n {
            return Err(Error::Shape(format!(
                "{n} labels of texts with {} offsets for {b} texts; expected {} offsets rising from 0 to {n}",
                self.indptr.len(),
                b + 1
            )));
        }
        for (i, ends) in self.indptr.windows(2).enumerate() {
            let ids = &self.ids[ends[0]..ends[1]];
            if !ids.is_sorted_by(|a, b| a < b) || ids.last().is_some_and(|&id| id as usize >= l) {
                return Err(Error::Shape(format!("labels of text {i} must rise and lie below {l}")));
            }
        }
        Ok(())
    }
}

/// Weights of labels as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a, E> {
    /// Of label l from `l * stride` on, `dim` of them.
    pub(crate) weights: &'a [E],
    pub(crate) stride: usize,
    pub(crate) dim: usize,
    /// Of label l at `l * bias_stride`.
    pub(crate) biases: &'a [f32],
    pub(crate) bias_stride: usize,
}

/// Labels of one text of a task that are taken at once.
struct Take {
    /// Of the task.
    text: usize,
    pairs: Range<usize>,
}

impl<'a, E: Element> Rows<'a, E> {
    /// For each few pairs of a text: their margins in `z`, then `slope(text, first pair, z)`, which makes them slopes and
    /// returns a loss, then `dx [b, dim]` += slope w. Returns the sum of losses of each task; `dx` may be empty.
    pub(crate) fn walk(
        &self,
        x: &[f32],
        pairs: &Pairs<'_>,
        z: &mut [f32],
        dx: &mut [f32],
        slope: impl Fn(usize, usize, &mut [f32]) -> f64 + Sync,
    ) -> Vec<f64> {
        let b = pairs.indptr.len() - 1;
        let labels = self.biases.len().div_ceil(self.bias_stride);
        let mean = COLUMN / size_of::<E>();
        let width = (mean * labels * b).div_ceil(pairs.ids.len().max(1)).clamp(mean, labels.max(mean));
        let (mut z, mut dx) = (z, dx);
        let mut tasks = Vec::with_capacity(b.div_ceil(TEXTS));
        for first in (0..b).step_by(TEXTS) {
            let end = (first + TEXTS).min(b);
            let (task_z, task_dx);
            (task_z, z) = z.split_at_mut(pairs.indptr[end] - pairs.indptr[first]);
            (task_dx, dx) = dx.split_at_mut(((end - first) * self.dim).min(dx.len()));
            tasks.push((first..end, task_z, task_dx));
        }
        let tasks = tasks.into_par_iter().with_max_len(1);
        tasks.map(|(texts, z, dx)| self.texts(x, pairs, width, texts, z, dx, &slope)).collect()
    }

    /// The walk of one task.
    #[expect(clippy::too_many_arguments, reason = "one task of the walk")]
    fn texts(
        &self,
        x: &[f32],
        pairs: &Pairs<'_>,
        width: usize,
        texts: Range<usize>,
        z: &mut [f32],
        dx: &mut [f32],
        slope: &impl Fn(usize, usize, &mut [f32]) -> f64,
    ) -> f64 {
        let from = pairs.indptr[texts.start];
        let takes = takes(&pairs.indptr[texts.start..=texts.end], pairs.ids, width);
        let mut losses = vec![0.0; texts.len()];
        for (i, take) in takes.iter().enumerate() {
            let ids = &pairs.ids[take.pairs.clone()];
            let next = takes.get(i + 1).map_or(&[][..], |next| &pairs.ids[next.pairs.clone()]);
            let z = &mut z[take.pairs.start - from..take.pairs.end - from];
            let text = texts.start + take.text;
            self.margins(&x[text * self.dim..][..self.dim], ids, next, z);
            losses[take.text] += slope(text, take.pairs.start, z);
            if !dx.is_empty() {
                let dx = &mut dx[take.text * self.dim..][..self.dim];
                add_terms(ids.iter().zip(z.iter()).map(|(&id, &slope)| (slope, self.label(id))), dx);
            }
        }
        losses.iter().sum()
    }

    /// z of the labels `ids`; asks for the weights of `next`.
    fn margins(&self, x: &[f32], ids: &[u32], next: &[u32], z: &mut [f32]) {
        let mut next = next.iter();
        let (ids, rest) = ids.as_chunks::<4>();
        let (z, z_rest) = z.as_chunks_mut::<4>();
        for (ids, z) in ids.iter().zip(z) {
            next.by_ref().take(4).for_each(|&id| prefetch(self.label(id)));
            let sums = E::dot4(x, &ids.map(|id| self.label(id)));
            *z = std::array::from_fn(|k| sums[k] + self.bias(ids[k]));
        }
        for (&id, z) in rest.iter().zip(z_rest) {
            *z = E::dot(x, self.label(id)) + self.bias(id);
        }
        next.for_each(|&id| prefetch(self.label(id)));
    }

    fn label(&self, id: u32) -> &'a [E] {
        &self.weights[id as usize * self.stride..][..self.dim]
    }

    fn bias(&self, id: u32) -> f32 {
        self.biases[id as usize * self.bias_stride]
    }
}

/// The order in which a task takes the labels of its texts: by stretches of `width` labels, texts in order within one.
fn takes(indptr: &[usize], ids: &[u32], width: usize) -> Vec<Take> {
    let mut next = indptr[..indptr.len() - 1].to_vec();
    let mut takes = Vec::new();
    // The lowest label that is still to come for any of these texts.
    let lowest = |next: &[usize]| {
        let waiting = next.iter().zip(&indptr[1..]).filter(|(at, end)| at < end);
        waiting.map(|(&at, _)| ids[at] as usize).min()
    };
    while let Some(lowest) = lowest(&next) {
        let end = lowest / width * width + width;
        for (text, at) in next.iter_mut().enumerate() {
            let rest = &ids[*at..indptr[text + 1]];
            let n = rest.iter().take_while(|&&id| (id as usize) < end).count();
            for start in (*at..*at + n).step_by(MOST) {
                takes.push(Take { text, pairs: start..(start + MOST).min(*at + n) });
            }
            *at += n;
        }
    }
    takes
}

/// The gradient of a label: `dw` += sum of slope x over some of the texts `x [b, d]`, in their order; returns that of the
/// bias.
pub(crate) fn add_up(x: &[f32], texts: &[u32], slopes: &[f32], dw: &mut [f32]) -> f32 {
    let d = dw.len();
    let terms = texts.iter().zip(slopes).map(|(&text, &slope)| (slope, &x[text as usize * d..][..d]));
    add_terms(terms, dw);
    slopes.iter().sum()
}

/// y += a x for all terms (a, x) with an a that is not 0, in their order, four at a time.
fn add_terms<'a, E: Element>(terms: impl Iterator<Item = (f32, &'a [E])>, y: &mut [f32]) {
    let mut waiting: ([f32; 4], [&[E]; 4]) = ([0.0; 4], [&[]; 4]);
    let mut n = 0;
    for (a, x) in terms.filter(|(a, _)| *a != 0.0) {
        (waiting.0[n], waiting.1[n]) = (a, x);
        n += 1;
        if n == 4 {
            E::axpy4(&waiting.0, &waiting.1, y);
            n = 0;
        }
    }
    for (&a, x) in waiting.0.iter().zip(waiting.1).take(n) {
        E::axpy(a, x, y);
    }
}

/// Asks for the cache lines of a row before they are needed.
#[inline]
pub(super) fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        for line in row.chunks(64 / size_of::<T>().max(1)) {
            // SAFETY: a prefetch of a valid address reads nothing that the program can see.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

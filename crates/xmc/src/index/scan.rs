//! How are few queries answered? By one walk over the labels, which waits for memory and not for arithmetic.
//!
//! Labels in f32 and bf16 are scored exactly at once. Codes are a quarter of the bytes of f32: integer products of the
//! codes and a 12-bit query find candidates, and the bf16 copy ranks these.

use std::ops::Range;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::bound::Bound;
use super::embeddings::{LabelEmbeddings, Values};
use super::select::{Band, Best};
use super::{Batch, Ranked, kernels};

/// Values a parallel task walks over: some milliseconds, so that threads are not woken for less.
const TASK: usize = 1 << 22;

/// Labels scored before a selection; with 384 dimensions in f32 they stay in the second-level cache for all queries.
const BLOCK: usize = 256;

/// Queries that share a walk.
const GROUP: usize = 8;

/// Exact scores of all labels for the queries that are still open.
pub(super) fn search_exact(batch: &Batch<'_>, labels: &LabelEmbeddings, results: &mut [Option<Ranked>]) {
    for group in Batch::open(results).chunks(GROUP) {
        let parts = over_labels(labels, |range| walk_exact(batch, group, labels, range));
        for (&i, best) in group.iter().zip(merged(parts, Best::merge)) {
            results[i] = Some(best.rank());
        }
    }
}

fn walk_exact(
    batch: &Batch<'_>,
    group: &[usize],
    labels: &LabelEmbeddings,
    range: Range<usize>,
) -> Vec<Best> {
    let mut best = vec![Best::new(batch.k); group.len()];
    let mut scores = vec![0f32; BLOCK];
    let mut found = Vec::new();
    for start in range.clone().step_by(BLOCK) {
        let scores = &mut scores[..BLOCK.min(range.end - start)];
        for (best, &i) in best.iter_mut().zip(group) {
            labels.scores(batch.rows[i], start, scores);
            found.clear();
            kernels::at_least(scores, best.floor(), &mut found);
            for &at in &found {
                let label = start as u32 + at;
                if !batch.excludes(i, label) {
                    best.push(label, scores[at as usize]);
                }
            }
        }
    }
    best
}

/// Candidates by their codes, ranked by exact score; queries with too many stay open.
pub(super) fn search_codes(batch: &Batch<'_>, labels: &LabelEmbeddings, results: &mut [Option<Ranked>]) {
    let Values::Int8 { codes, scales, .. } = &labels.values else { return };
    let mut query_codes = Vec::with_capacity(batch.rows.len() * labels.dim);
    let queries: Vec<(Bound, f32)> =
        batch.rows.iter().map(|row| Bound::coded(row, &mut query_codes)).collect();
    let walk = Walk { batch, labels, codes, scales, queries: &queries, query_codes: &query_codes };
    let parts = over_labels(labels, |range| walk.candidates(range));
    for (i, band) in merged(parts, Band::merge).into_iter().enumerate() {
        results[i] = band.rank(|chosen| labels.scores_of(batch.rows[i], chosen));
    }
}

struct Walk<'a> {
    batch: &'a Batch<'a>,
    labels: &'a LabelEmbeddings,
    codes: &'a [i8],
    scales: &'a [f32],
    queries: &'a [(Bound, f32)],
    query_codes: &'a [i16],
}

impl Walk<'_> {
    fn candidates(&self, range: Range<usize>) -> Vec<Band> {
        let d = self.labels.dim;
        let mut bands = vec![Band::new(self.batch.k, f32::NEG_INFINITY); self.queries.len()];
        let (mut sums, mut scores, mut found) = (vec![0i32; BLOCK], vec![0f32; BLOCK], Vec::new());
        for start in range.clone().step_by(BLOCK) {
            let block = start..(start + BLOCK).min(range.end);
            let (sums, scores) = (&mut sums[..block.len()], &mut scores[..block.len()]);
            let (norm, residual) = self.labels.largest(&block);
            for (i, band) in bands.iter_mut().enumerate() {
                let (bound, query_scale) = self.queries[i];
                let query = &self.query_codes[i * d..(i + 1) * d];
                kernels::dots_codes(query, &self.codes[block.start * d..block.end * d], sums);
                for ((score, &sum), scale) in scores.iter_mut().zip(&*sums).zip(&self.scales[block.clone()]) {
                    *score = sum as f32 * (query_scale * scale);
                }
                found.clear();
                kernels::at_least(scores, band.floor() - bound.error(norm, residual), &mut found);
                keep(self.batch, i, self.labels, start, scores, &found, bound, band);
            }
        }
        bands
    }
}

/// Pushes what was `found` among the scores of the labels from `start`.
#[allow(clippy::too_many_arguments)] // One loop of two callers.
pub(super) fn keep(
    batch: &Batch<'_>,
    i: usize,
    labels: &LabelEmbeddings,
    start: usize,
    scores: &[f32],
    found: &[u32],
    bound: Bound,
    band: &mut Band,
) {
    for &at in found {
        let label = start + at as usize;
        let score = scores[at as usize];
        let error = bound.error(labels.norms[label], labels.residuals[label]);
        if score + error >= band.floor() && !batch.excludes(i, label as u32) {
            band.push(label as u32, score - error, score + error);
        }
    }
}

/// Calls `walk` for ranges of labels whose size depends on the dimensions alone; parallel if there are several.
fn over_labels<T: Send>(labels: &LabelEmbeddings, walk: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let size = (TASK / labels.dim.max(1)).max(BLOCK).next_multiple_of(BLOCK);
    let range = |n: usize| n * size..((n + 1) * size).min(labels.rows());
    match labels.rows().div_ceil(size) {
        1 => vec![walk(range(0))],
        tasks => (0..tasks).into_par_iter().map(|n| walk(range(n))).collect(),
    }
}

/// Joins the selections of all parts, for each query.
pub(super) fn merged<T>(parts: Vec<Vec<T>>, merge: impl Fn(&mut T, T)) -> Vec<T> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        for (all, part) in all.iter_mut().zip(part) {
            merge(all, part);
        }
    }
    all
}

//! A row times a chunk: the margins of all children of one parent.
//!
//! First the features that the chunk knows are looked up (see [`crate::store`]), then their rows are added to the
//! accumulators: two short loops keep many cache misses under way at once.

use super::Query;
use crate::store::{Bucket, Level, Rows, TreeModel, Values, Word, widen};

/// Accumulators, and the rows found for a query.
#[derive(Debug, Default)]
pub(super) struct Product {
    margins: Vec<f32>,
    hits: Vec<Hit>,
}

/// A feature that query and chunk share: where its entries are, and the query's value.
#[derive(Clone, Copy, Debug)]
struct Hit {
    start: usize,
    len: usize,
    value: f32,
}

/// Column ids index accumulators that are as long as the id type can count, so no index can be out of range.
trait Column: Copy {
    const SPAN: usize;
    fn add<V: Copy>(sums: &mut [f32], columns: &[Self], weights: &[V], value: f32, widen: impl Fn(V) -> f32);
}

impl Column for u8 {
    const SPAN: usize = 1 << 8;

    #[inline]
    fn add<V: Copy>(sums: &mut [f32], columns: &[u8], weights: &[V], value: f32, widen: impl Fn(V) -> f32) {
        let Some(sums) = sums.first_chunk_mut::<{ 1 << 8 }>() else { return };
        for (&c, &w) in columns.iter().zip(weights) {
            sums[c as usize] += value * widen(w);
        }
    }
}

impl Column for u16 {
    const SPAN: usize = 1 << 16;

    #[inline]
    fn add<V: Copy>(sums: &mut [f32], columns: &[u16], weights: &[V], value: f32, widen: impl Fn(V) -> f32) {
        let Some(sums) = sums.first_chunk_mut::<{ 1 << 16 }>() else { return };
        for (&c, &w) in columns.iter().zip(weights) {
            sums[c as usize] += value * widen(w);
        }
    }
}

impl Product {
    /// Margins of the children of `node` of level `t`, in order.
    pub(super) fn margins(&mut self, model: &TreeModel, t: usize, node: usize, query: Query) -> &[f32] {
        let level = &model.levels[t];
        let children = model.tree.children(t, node);
        let width = children.len();
        match &level.rows {
            Rows::Narrow(words, columns) => {
                self.sparse(level, node, words, columns, width, query);
            }
            Rows::Wide(words, columns) => self.sparse(level, node, words, columns, width, query),
        }
        let margins = &mut self.margins[..width];
        if !query.dense.is_empty() {
            let start = children.start * model.dense_features;
            match &level.dense {
                Values::F16(w) => add_dense(margins, query.dense, w.get(start..).unwrap_or(&[]), widen),
                Values::F32(w) => add_dense(margins, query.dense, w.get(start..).unwrap_or(&[]), |w| w),
            }
        }
        for (margin, bias) in margins.iter_mut().zip(level.bias.get(children).unwrap_or(&[])) {
            *margin += model.bias * bias;
        }
        margins
    }

    /// Sets the margins to the sparse part of the product.
    fn sparse<W: Word, C: Column>(
        &mut self,
        level: &Level,
        node: usize,
        words: &[W],
        columns: &[C],
        width: usize,
        query: Query,
    ) {
        self.margins.resize(self.margins.len().max(C::SPAN), 0.0);
        self.margins[..width].fill(0.0);
        self.hits.clear();
        // A model that was checked when opened has all of these; a damaged map must not panic.
        let (Some(head), Some(end)) = (level.heads.get(node), level.heads.get(node + 1)) else { return };
        let buckets = level.buckets.get(head.buckets as usize..end.buckets as usize).unwrap_or(&[]);
        let words = words.get(head.rows as usize..end.rows as usize).unwrap_or(&[]);
        let range = head.entries as usize..end.entries as usize;
        let columns = columns.get(range.clone()).unwrap_or(&[]);
        find(buckets, words, head.shift as u32, query, &mut self.hits);
        match &level.values {
            Values::F16(w) => self.add(columns, w.get(range).unwrap_or(&[]), widen),
            Values::F32(w) => self.add(columns, w.get(range).unwrap_or(&[]), |w| w),
        }
    }

    #[inline]
    fn add<C: Column, V: Copy>(&mut self, columns: &[C], weights: &[V], widen: impl Fn(V) -> f32 + Copy) {
        for hit in &self.hits {
            let range = hit.start..hit.start + hit.len;
            if let (Some(columns), Some(weights)) = (columns.get(range.clone()), weights.get(range)) {
                C::add(&mut self.margins, columns, weights, hit.value, widen);
            }
        }
    }
}

/// Looks up the features of the query.
#[inline]
fn find<W: Word>(buckets: &[Bucket], words: &[W], shift: u32, query: Query, hits: &mut Vec<Hit>) {
    let mask = (1u32 << shift) - 1;
    for (feature, value) in query.sparse.iter() {
        let at = (feature >> shift) as usize;
        let Some(&[bucket, next]) = buckets.get(at..at + 2) else { continue };
        let low = feature & mask;
        let mut start = bucket.entry as usize;
        for word in words.get(bucket.row as usize..next.row as usize).unwrap_or(&[]) {
            if word.low() >= low {
                if word.low() == low {
                    hits.push(Hit { start, len: word.len(), value });
                }
                break;
            }
            start += word.len();
        }
    }
}

/// Adds dense features: one row of weights for each.
#[inline]
fn add_dense<V: Copy>(margins: &mut [f32], dense: &[f32], weights: &[V], widen: impl Fn(V) -> f32) {
    for (&x, row) in dense.iter().zip(weights.chunks_exact(margins.len().max(1))) {
        for (margin, &w) in margins.iter_mut().zip(row) {
            *margin += x * widen(w);
        }
    }
}

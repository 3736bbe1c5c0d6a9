//! A row times a chunk: the margins of all children of one parent.
//!
//! First the features that the chunk knows are looked up (see [`crate::store`]), then their rows are added to the
//! accumulators: two short loops keep many cache misses under way at once.

use super::Query;
use crate::store::{Bucket, Level, Packing, TreeModel, Values, Word, Words, widen};

/// Accumulators for the most children a parent can have, so that no column id is out of range.
const NARROW: usize = 1 << 8;
const WIDE: usize = 1 << 16;

/// Accumulators, and the rows found for a query.
#[derive(Debug, Default)]
pub(super) struct Product {
    margins: Vec<f32>,
    hits: Vec<Hit>,
}

/// A feature that query and chunk share: where its entries are, and the query's value.
#[derive(Clone, Copy, Debug)]
struct Hit {
    column: u32,
    entry: u32,
    len: u32,
    value: f32,
}

/// The part of a level that one chunk is.
struct Chunk<'a> {
    buckets: &'a [Bucket],
    shift: u32,
    columns: &'a [u8],
    packing: Packing,
    children: usize,
}

impl Product {
    /// Margins of the children of `node` of level `t`, in order.
    pub(super) fn margins(&mut self, model: &TreeModel, t: usize, node: usize, query: Query) -> &[f32] {
        let level = &model.levels[t];
        let children = model.tree.children(t, node);
        self.sparse(level, node, children.len(), query);
        let margins = &mut self.margins[..children.len()];
        if !query.dense.is_empty() {
            let start = children.start * model.dense_features;
            match &level.dense {
                Values::F32(w) => add_dense(margins, query.dense, w.get(start..).unwrap_or(&[]), |w| w),
                Values::F16(w) => add_dense(margins, query.dense, w.get(start..).unwrap_or(&[]), widen),
                Values::U8(..) => {}
            }
        }
        for (margin, bias) in margins.iter_mut().zip(level.bias.get(children).unwrap_or(&[])) {
            *margin += model.bias * bias;
        }
        margins
    }

    /// Sets the margins to the sparse part of the product.
    fn sparse(&mut self, level: &Level, node: usize, children: usize, query: Query) {
        let packing = level.packing();
        let span = if packing == Packing::Narrow { NARROW } else { WIDE };
        self.margins.resize(self.margins.len().max(span), 0.0);
        self.margins[..children].fill(0.0);
        self.hits.clear();
        // A model that was checked when opened has all of these; a damaged map must not panic.
        let (Some(head), Some(end)) = (level.heads.get(node), level.heads.get(node + 1)) else { return };
        let chunk = Chunk {
            buckets: level.buckets.get(head.buckets as usize..end.buckets as usize).unwrap_or(&[]),
            shift: head.shift as u32,
            columns: level.columns.get(head.columns as usize..end.columns as usize).unwrap_or(&[]),
            packing,
            children,
        };
        let rows = head.rows as usize..end.rows as usize;
        match &level.words {
            Words::Narrow(words) => chunk.find(words.get(rows).unwrap_or(&[]), query, &mut self.hits),
            Words::Wide(words) => chunk.find(words.get(rows).unwrap_or(&[]), query, &mut self.hits),
        }
        let entries = head.entries as usize..end.entries as usize;
        match &level.values {
            Values::U8(w, book) => {
                if let Some(book) = book.first_chunk::<{ 1 << 8 }>() {
                    self.add(&chunk, w.get(entries).unwrap_or(&[]), |w| book[w as usize]);
                }
            }
            Values::F16(w) => self.add(&chunk, w.get(entries).unwrap_or(&[]), widen),
            Values::F32(w) => self.add(&chunk, w.get(entries).unwrap_or(&[]), |w| w),
        }
    }

    /// Adds the rows that were found.
    #[inline]
    fn add<V: Copy>(&mut self, chunk: &Chunk, weights: &[V], weight: impl Fn(V) -> f32 + Copy) {
        match chunk.packing {
            Packing::Narrow => {
                let Some(sums) = self.margins.first_chunk_mut::<NARROW>() else { return };
                for hit in &self.hits {
                    let Some((columns, weights)) = chunk.row(hit, weights) else { continue };
                    if columns.len() == chunk.packing.list_bytes(weights.len()) {
                        for (&c, &w) in columns.iter().zip(weights) {
                            sums[c as usize] += hit.value * weight(w);
                        }
                    } else {
                        add_bits(sums, columns, weights, hit.value, weight);
                    }
                }
            }
            Packing::Wide => {
                let Some(sums) = self.margins.first_chunk_mut::<WIDE>() else { return };
                for hit in &self.hits {
                    let Some((columns, weights)) = chunk.row(hit, weights) else { continue };
                    if columns.len() == chunk.packing.list_bytes(weights.len()) {
                        for (c, &w) in columns.as_chunks().0.iter().zip(weights) {
                            sums[u16::from_le_bytes(*c) as usize] += hit.value * weight(w);
                        }
                    } else {
                        add_bits(sums, columns, weights, hit.value, weight);
                    }
                }
            }
        }
    }
}

impl Chunk<'_> {
    /// Looks up the features of the query.
    #[inline]
    fn find<W: Word>(&self, words: &[W], query: Query, hits: &mut Vec<Hit>) {
        let mask = (1u32 << self.shift) - 1;
        for (feature, value) in query.sparse.iter() {
            let at = (feature >> self.shift) as usize;
            let Some(&[bucket, next]) = self.buckets.get(at..at + 2) else { continue };
            let low = feature & mask;
            let (mut entry, mut column) = (bucket.entry, bucket.column);
            for word in words.get(bucket.row as usize..next.row as usize).unwrap_or(&[]) {
                if word.low() >= low {
                    if word.low() == low {
                        hits.push(Hit { column, entry, len: word.len() as u32, value });
                    }
                    break;
                }
                entry += word.len() as u32;
                column += self.packing.column_bytes(word.len(), self.children) as u32;
            }
        }
    }

    /// Column ids and weights of a row.
    #[inline]
    fn row<'b, V>(&'b self, hit: &Hit, weights: &'b [V]) -> Option<(&'b [u8], &'b [V])> {
        let (column, entry, len) = (hit.column as usize, hit.entry as usize, hit.len as usize);
        let bytes = self.packing.column_bytes(len, self.children);
        Some((self.columns.get(column..column + bytes)?, weights.get(entry..entry + len)?))
    }
}

/// Adds a row whose columns are the bits that are set.
#[inline]
fn add_bits<const SPAN: usize, V: Copy>(
    sums: &mut [f32; SPAN],
    bits: &[u8],
    weights: &[V],
    value: f32,
    weight: impl Fn(V) -> f32,
) {
    let mut weights = weights.iter();
    for (base, bytes) in bits.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let mut word = u64::from_le_bytes(word);
        while word != 0 {
            let Some(&w) = weights.next() else { return };
            // SPAN is a power of two: the mask only tells the compiler that the index is in range.
            sums[(64 * base + word.trailing_zeros() as usize) & (SPAN - 1)] += value * weight(w);
            word &= word - 1;
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

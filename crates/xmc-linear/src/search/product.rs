//! A row times a chunk: the margins of all children of one parent.
//!
//! Three short loops over the query's features: read their buckets, find their rows, add those to the accumulators
//! (see [`crate::store`] for the layout). A model is larger than the near caches and every step depends on the one
//! before, so a loop of its own for each step, without branches to mispredict, keeps many misses under way at once.

use xmc_data::Row;

use super::{Query, dense};
use crate::prefetch::prefetch;
use crate::store::{BLOCK, Bucket, Level, LevelView, Packing, Values, Word, Words, widen};

/// Accumulators for the most children a parent can have, so that no column id is out of range.
const NARROW: usize = 1 << 8;
const WIDE: usize = 1 << 16;

/// Accumulators, and the rows found for a query: what one thread needs to compute margins.
#[derive(Debug, Default)]
pub struct MarginScratch {
    margins: Vec<f32>,
    searches: Vec<Search>,
    hits: Vec<Hit>,
}

/// Where the row of one feature of the query has to be looked for.
#[derive(Clone, Copy, Debug)]
struct Search {
    low: u32,
    value: f32,
    bucket: Bucket,
    rows: u32,
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
    columns: &'a [u8],
    packing: Packing,
    children: usize,
}

impl MarginScratch {
    /// Margins of the children of `parent`, in order.
    pub(crate) fn margins(&mut self, of: LevelView, parent: usize, query: Query) -> &[f32] {
        let children = of.children(parent);
        self.sparse(of.level, parent, children.len(), query);
        let margins = &mut self.margins[..children.len()];
        if !query.dense.is_empty() {
            add_dense(margins, of, children.start, query.dense);
        }
        for (margin, bias) in margins.iter_mut().zip(of.level.bias.get(children).unwrap_or(&[])) {
            *margin += of.bias * bias;
        }
        margins
    }

    /// What the margin of the `child`-th child of `parent` is made of: the share of the constant feature, that of the
    /// dense block, and that of every sparse feature, in the order of the query.
    pub(crate) fn shares(
        &mut self,
        of: LevelView,
        parent: usize,
        child: usize,
        query: Query,
    ) -> (f32, f32, Vec<(u32, f32)>) {
        let children = of.children(parent);
        let bias = of.bias * of.level.bias.get(children.start + child).copied().unwrap_or(0.0);
        let one =
            |i: usize| Row { indices: &query.sparse.indices[i..=i], values: &query.sparse.values[i..=i] };
        let mut terms = Vec::new();
        for i in 0..query.sparse.len() {
            self.sparse(of.level, parent, children.len(), Query::from(one(i)));
            terms.push((query.sparse.indices[i], self.margins[child]));
        }
        self.margins[..children.len()].fill(0.0);
        add_dense(&mut self.margins[..children.len()], of, children.start, query.dense);
        (bias, self.margins[child], terms)
    }

    /// Sets the margins to the sparse part of the product.
    fn sparse(&mut self, level: &Level, node: usize, children: usize, query: Query) {
        let packing = level.packing();
        let span = if packing == Packing::Narrow { NARROW } else { WIDE };
        self.margins.resize(self.margins.len().max(span), 0.0);
        self.margins[..children].fill(0.0);
        // A model that was checked when opened has all of these; a damaged map must not panic.
        let (Some(head), Some(end)) = (level.heads.get(node), level.heads.get(node + 1)) else { return };
        let chunk = Chunk {
            columns: level.columns.get(head.columns as usize..end.columns as usize).unwrap_or(&[]),
            packing,
            children,
        };
        let buckets = level.buckets.get(head.buckets as usize..end.buckets as usize).unwrap_or(&[]);
        match &level.words {
            Words::Narrow(words) => {
                let words = words.get(head.rows as usize..).unwrap_or(&[]);
                self.read_buckets(buckets, head.shift as u32, words, query);
                self.find_rows(words, &chunk, |entry| level.prefetch_weight(head.entries as usize + entry));
            }
            Words::Wide(words) => {
                let words = words.get(head.rows as usize..).unwrap_or(&[]);
                self.read_buckets(buckets, head.shift as u32, words, query);
                self.find_rows(words, &chunk, |entry| level.prefetch_weight(head.entries as usize + entry));
            }
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

    /// Reads the bucket of every feature of the query.
    fn read_buckets<W: Word>(&mut self, buckets: &[Bucket], shift: u32, words: &[W], query: Query) {
        self.searches.clear();
        let mask = (1u32 << shift) - 1;
        self.searches.extend(query.sparse.iter().filter_map(|(feature, value)| {
            let at = (feature >> shift) as usize;
            let &[bucket, next] = buckets.get(at..at + 2)? else { return None };
            prefetch(words, bucket.row as usize);
            Some(Search { low: feature & mask, value, bucket, rows: next.row.wrapping_sub(bucket.row) })
        }));
    }

    /// Finds the rows of the features in their buckets; `words` are those from the chunk's first to the level's last.
    #[inline]
    fn find_rows<W: Word>(&mut self, words: &[W], chunk: &Chunk, prefetch_weight: impl Fn(usize)) {
        let bits = chunk.children.div_ceil(8) as u32;
        self.hits.clear();
        for search in &self.searches {
            let Bucket { mut row, mut entry, mut column } = search.bucket;
            let mut left = search.rows;
            while let Some(block) = words.get(row as usize..).and_then(|w| w.first_chunk::<BLOCK>()) {
                let found = W::find(block, left, search.low, bits);
                (entry, column) = (entry.wrapping_add(found.entries), column.wrapping_add(found.columns));
                if found.len > 0 {
                    self.hits.push(Hit { column, entry, len: found.len, value: search.value });
                    prefetch(chunk.columns, column as usize);
                    prefetch_weight(entry as usize);
                }
                if left <= BLOCK as u32 || found.len > 0 {
                    break;
                }
                left -= BLOCK as u32;
                row += BLOCK as u32;
            }
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

/// Adds the dense part of the product to the margins of the children from `first` on.
fn add_dense(margins: &mut [f32], of: LevelView, first: usize, row: &[f32]) {
    let weights = first * of.dense_features..(first + margins.len()) * of.dense_features;
    match &of.level.dense {
        Values::F32(w) => dense::add_f32(margins, row, w.get(weights).unwrap_or(&[])),
        Values::F16(w) => dense::add_f16(margins, row, w.get(weights).unwrap_or(&[])),
        Values::U8(..) => {}
    }
}

//! How often does each term occur in each text? The first pass of learning a vocabulary, and the only one over texts.
//!
//! Fixed chunks of rows number their terms on their own, in parallel, so each works within its core's cache. Time is
//! O(occurrences); a chunk keeps 8 bytes for every distinct term of every row.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::analyze::{Analysis, Analyzer};
use super::intern::{Interner, Terms, key_within, spread};
use crate::strings::Strings;

/// Most texts of a chunk, and about the most bytes: its vocabulary should fit the cache of one core.
const CHUNK_ROWS: usize = 4096;
const CHUNK_BYTES: usize = 1 << 24;
/// Terms that the table of a chunk has room for at first.
const CHUNK_TERMS: usize = 1 << 14;

/// Parts of the hash space, by its four highest bits: vocabularies are merged part by part.
pub(super) const PARTS: usize = 16;

/// Terms of some consecutive texts under numbers of their own.
pub(super) struct Chunk {
    pub(super) terms: Terms,
    /// Texts of the chunk that each term occurs in.
    pub(super) df: Vec<u32>,
    /// All occurrences of each term.
    pub(super) total: Vec<u64>,
    /// Numbers of the terms of each part.
    pub(super) parts: Vec<Vec<u32>>,
    /// Where each row ends in `ids` and `counts`.
    pub(super) ends: Vec<usize>,
    /// Distinct terms of each row, in the order of their first occurrence.
    pub(super) ids: Vec<u32>,
    /// How often each occurs in its row.
    pub(super) counts: Vec<f32>,
}

/// Counts the terms of all texts, chunk by chunk.
pub(super) fn count(analyzer: &Analyzer, texts: &Strings) -> Vec<Chunk> {
    let n = texts.len();
    let average = 1 + texts.bytes() as usize / n.max(1);
    let rows = (CHUNK_BYTES / average).clamp(1, CHUNK_ROWS);
    let chunk = |i: usize| Chunk::new(analyzer, texts, i * rows, n.min((i + 1) * rows));
    (0..n.div_ceil(rows)).into_par_iter().map(chunk).collect()
}

impl Chunk {
    fn new(analyzer: &Analyzer, texts: &Strings, start: usize, end: usize) -> Self {
        let mut memory = Analysis::default();
        let mut interner = Interner::with_room(CHUNK_TERMS);
        let (mut ends, mut ids, mut counts) = (Vec::with_capacity(end - start), Vec::new(), Vec::new());
        for row in start..end {
            let first = ids.len();
            analyzer.terms(texts.get(row), &mut memory, |bytes, from, to| {
                let (id, place) = interner.entry(key_within(bytes, from, to), &bytes[from..to]);
                // The note of a term is its place in the last row that had it: still there means counted already.
                let at = first + *place as usize;
                if ids.get(at) == Some(&id) {
                    counts[at] += 1.0;
                } else {
                    *place = (ids.len() - first) as u32;
                    ids.push(id);
                    counts.push(1.0);
                }
            });
            ends.push(ids.len());
        }
        let terms = interner.into_terms();
        let (mut df, mut total) = (vec![0u32; terms.len()], vec![0u64; terms.len()]);
        for (&id, &count) in ids.iter().zip(&counts) {
            df[id as usize] += 1;
            total[id as usize] += count as u64;
        }
        let mut parts = vec![Vec::new(); PARTS];
        for id in 0..terms.len() {
            parts[part_of(terms.key(id))].push(id as u32);
        }
        ids.shrink_to_fit();
        counts.shrink_to_fit();
        Chunk { terms, df, total, parts, ends, ids, counts }
    }
}

fn part_of(key: u64) -> usize {
    (spread(key) >> 60) as usize
}

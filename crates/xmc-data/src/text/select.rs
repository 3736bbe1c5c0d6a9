//! Which terms get a column, and which one? The second pass of learning a vocabulary.
//!
//! Chunk vocabularies are merged in parallel over the parts of the hash space; terms outside the limits go; the rest
//! are numbered by falling document frequency, equal ones by rising bytes. Frequencies are whole numbers and the order
//! is total, so the outcome does not depend on threads.

use std::cmp::Ordering;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::config::{AnalyzerKind, MaxFeaturesBy, VectorizerConfig};
use super::count::{Chunk, PARTS};
use super::intern::{Interner, Terms};
use super::vocabulary::Vocabulary;
use super::weigh::idf;
use crate::error::{Error, Result};

/// Mark of a term without a column.
pub(super) const NO_COLUMN: u32 = u32::MAX;

/// What learning found out about the terms.
pub(super) struct Selected {
    /// The terms that are kept.
    pub(super) vocabulary: Vocabulary,
    /// Inverse document frequency of each.
    pub(super) idf: Vec<f32>,
    /// For each chunk, the column of each of its terms, or [`NO_COLUMN`].
    pub(super) columns: Vec<Vec<u32>>,
}

/// Merges, limits and numbers the terms of `n` texts.
pub(super) fn select(config: &VectorizerConfig, n: usize, chunks: &[Chunk]) -> Result<Selected> {
    let parts: Vec<Part> = (0..PARTS).into_par_iter().map(|part| Part::merge(part, chunks)).collect();
    let candidates = ranked(config, n, &parts);
    if candidates.is_empty() || candidates.len() >= NO_COLUMN as usize {
        let (kept, seen) = (candidates.len(), parts.iter().map(|p| p.terms.len()).sum::<usize>());
        return Err(Error::Shape(format!(
            "{kept} of {seen} terms in {n} texts are within `min_df`, `max_df` and `max_features`: 1 to {} are needed",
            NO_COLUMN - 1
        )));
    }
    let terms: Vec<&[u8]> = candidates.iter().map(|c| c.term).collect();
    let vocabulary = Vocabulary::new(terms.into_iter())
        .ok_or_else(|| Error::Shape("the terms together are longer than 4 GiB: raise `min_df`".to_owned()))?;
    let mut columns_of_parts: Vec<Vec<u32>> = parts.iter().map(|p| vec![NO_COLUMN; p.terms.len()]).collect();
    for (column, c) in candidates.iter().enumerate() {
        columns_of_parts[c.part as usize][c.id as usize] = column as u32;
    }
    let columns = (0..chunks.len())
        .into_par_iter()
        .map(|chunk| {
            let mut columns = vec![NO_COLUMN; chunks[chunk].terms.len()];
            for (number, part) in parts.iter().enumerate() {
                for (&local, &id) in chunks[chunk].parts[number].iter().zip(&part.of_chunks[chunk]) {
                    columns[local as usize] = columns_of_parts[number][id as usize];
                }
            }
            columns
        })
        .collect();
    let idf = candidates.iter().map(|c| idf(config, n, c.df)).collect();
    Ok(Selected { vocabulary, idf, columns })
}

/// All terms of one part of the hash space.
struct Part {
    terms: Terms,
    df: Vec<u32>,
    total: Vec<u64>,
    /// For each chunk the numbers here of its terms, in the order of its own list of this part.
    of_chunks: Vec<Vec<u32>>,
}

impl Part {
    fn merge(part: usize, chunks: &[Chunk]) -> Self {
        let room = chunks.iter().map(|chunk| chunk.parts[part].len()).max().unwrap_or(0);
        let mut interner = Interner::with_room(room);
        let (mut df, mut total) = (Vec::new(), Vec::new());
        let mut of_chunks = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let numbers = chunk.parts[part].iter().map(|&local| {
                let local = local as usize;
                let (id, _) = interner.entry(chunk.terms.key(local), chunk.terms.term(local));
                if id as usize == df.len() {
                    df.push(0);
                    total.push(0);
                }
                df[id as usize] += chunk.df[local];
                total[id as usize] += chunk.total[local];
                id
            });
            of_chunks.push(numbers.collect());
        }
        Part { terms: interner.into_terms(), df, total, of_chunks }
    }
}

/// A term that may get a column.
struct Candidate<'a> {
    term: &'a [u8],
    /// The first eight bytes as a number: most comparisons end here.
    prefix: u64,
    df: u32,
    part: u32,
    id: u32,
}

/// The terms within the limits, in column order.
fn ranked<'a>(config: &VectorizerConfig, n: usize, parts: &'a [Part]) -> Vec<Candidate<'a>> {
    let limits = config.min_df.of(n)..=config.max_df.of(n);
    let mut candidates: Vec<Candidate> = parts
        .par_iter()
        .enumerate()
        .flat_map_iter(|(number, part)| {
            let limits = limits.clone();
            let kept = (0..part.terms.len()).filter(move |&id| limits.contains(&f64::from(part.df[id])));
            kept.map(move |id| Candidate::new(part, number, id))
        })
        .collect();
    if config.max_features > 0 && config.max_features < candidates.len() {
        match config.max_features_by {
            MaxFeaturesBy::Count => {
                let total = |c: &Candidate| parts[c.part as usize].total[c.id as usize];
                let order =
                    |a: &Candidate, b: &Candidate| total(b).cmp(&total(a)).then_with(|| a.by_bytes(b));
                candidates.par_sort_unstable_by(order);
            }
            MaxFeaturesBy::Df => {
                let words = config.analyzer == AnalyzerKind::Word;
                candidates.par_sort_unstable_by(|a, b| b.df.cmp(&a.df).then_with(|| b.by_length(a, words)));
            }
        }
        candidates.truncate(config.max_features);
    }
    candidates.par_sort_unstable_by(|a, b| b.df.cmp(&a.df).then_with(|| a.by_bytes(b)));
    candidates
}

impl<'a> Candidate<'a> {
    fn new(part: &'a Part, number: usize, id: usize) -> Self {
        let term = part.terms.term(id);
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(term) {
            *to = *from;
        }
        Candidate {
            term,
            prefix: u64::from_be_bytes(first),
            df: part.df[id],
            part: number as u32,
            id: id as u32,
        }
    }

    fn by_bytes(&self, other: &Self) -> Ordering {
        self.prefix.cmp(&other.prefix).then_with(|| self.term.cmp(other.term))
    }

    /// Shorter n-grams first, equally long ones word by word.
    fn by_length(&self, other: &Self, words: bool) -> Ordering {
        let length = |c: &Self| match std::str::from_utf8(c.term) {
            Ok(term) if words => term.split(' ').count(),
            Ok(term) => term.chars().count(),
            Err(_) => 0,
        };
        length(self).cmp(&length(other)).then_with(|| {
            if words {
                self.term.split(|&b| b == b' ').cmp(other.term.split(|&b| b == b' '))
            } else {
                self.by_bytes(other)
            }
        })
    }
}

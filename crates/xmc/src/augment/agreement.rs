//! How far do synthetic texts agree with pairs that are known, and how far does one matrix agree with another?
//!
//! * coverage: how many true targets of a source lie among the k nearest of any of its synthetic texts;
//! * confirmation: of the pairs that neighbours suggest, how many were known already, by cosine: where few are, tau is low;
//! * difference: pairs and values of two matrices.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

use super::mapping::Mapping;
use crate::error::{Error, Result};

/// Bins of the cosines from -1 to 1.
const BINS: usize = 40;

/// Pairs of each side that a difference names.
const EXAMPLES: usize = 5;

/// True targets near synthetic texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Neighbours of each synthetic text that count.
    pub k: usize,
    /// Sources with a true target.
    pub sources: usize,
    /// Mean number of true targets of a source that are covered.
    pub covered: f64,
    /// Mean number of true targets of a source.
    pub of: f64,
    /// Covered true targets among all of them.
    pub share: f64,
}

impl Coverage {
    /// Of the true pairs `truth [n, L]`, with `k` neighbours or as many as there are.
    pub fn new(mapping: &Mapping<'_>, truth: &Csr, k: usize) -> Result<Self> {
        let truth = mapping.by_source(truth)?;
        let (mut covered, mut sources, mut near) = (0, 0, Vec::new());
        for i in 0..truth.rows() {
            let row = truth.row(i);
            if row.is_empty() {
                continue;
            }
            sources += 1;
            mapping.near(i, k, f32::NEG_INFINITY, &mut near);
            covered += near.iter().filter(|(target, _)| row.indices.binary_search(target).is_ok()).count();
        }
        let mean = |count: usize| count as f64 / sources.max(1) as f64;
        let share = covered as f64 / truth.nnz().max(1) as f64;
        Ok(Coverage { k, sources, covered: mean(covered), of: mean(truth.nnz()), share })
    }
}

/// Suggested pairs with a cosine from `from` to less than `to`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Lower edge.
    pub from: f64,
    /// Upper edge; the last bin includes it.
    pub to: f64,
    /// Pairs of a source and a target; each counts once, with its largest cosine.
    pub pairs: usize,
    /// Those that were known.
    pub known: usize,
    /// known / pairs
    pub rate: f64,
}

/// Confirmation by cosine, from the lowest bin that holds something.
pub fn confirmation(mapping: &Mapping<'_>, known: &Csr, k: usize) -> Result<Vec<Confirmation>> {
    let known = mapping.by_source(known)?;
    let mut counts = [[0usize; 2]; BINS];
    let mut near = Vec::new();
    for i in 0..known.rows() {
        let row = known.row(i);
        mapping.near(i, k, f32::NEG_INFINITY, &mut near);
        for &(target, sigma) in &near {
            // A sigma at an edge belongs to the bin above, also where rounding left it a little below.
            let bin = ((f64::from(sigma) + 1e-7) * BINS as f64) as usize;
            let count = &mut counts[bin.min(BINS - 1)];
            count[0] += 1;
            count[1] += usize::from(row.indices.binary_search(&target).is_ok());
        }
    }
    let edge = |i: usize| 2.0 * i as f64 / BINS as f64 - 1.0;
    let bins = counts.iter().enumerate().filter(|(_, count)| count[0] > 0);
    Ok(bins
        .map(|(i, &[pairs, known])| {
            let rate = known as f64 / pairs as f64;
            Confirmation { from: edge(i), to: edge(i + 1), pairs, known, rate }
        })
        .collect())
}

/// Two matrices of the same shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Pairs that both have.
    pub both: usize,
    /// Pairs that only the first has.
    pub only_first: usize,
    /// Pairs that only the second has.
    pub only_second: usize,
    /// both / (both + only_first + only_second); 1 if neither has any.
    pub jaccard: f64,
    /// Largest difference of values of pairs that both have.
    pub largest: f32,
    /// The first few (row, label, value) that only the first has.
    pub first_examples: Vec<(usize, u32, f32)>,
    /// The same of the second.
    pub second_examples: Vec<(usize, u32, f32)>,
}

impl Difference {
    /// Compares two matrices.
    pub fn new(first: &Csr, second: &Csr) -> Result<Self> {
        if (first.rows(), first.cols()) != (second.rows(), second.cols()) {
            let [a, b] = [first, second].map(|m| format!("[{}, {}]", m.rows(), m.cols()));
            return Err(Error::Mismatch(format!("a matrix {a} cannot be compared with a matrix {b}")));
        }
        let (mut both, mut largest) = (0, 0f32);
        let (mut first_examples, mut second_examples) = (Vec::new(), Vec::new());
        for (i, (a, b)) in first.iter().zip(second.iter()).enumerate() {
            for (label, value) in a.iter() {
                match b.indices.binary_search(&label) {
                    Ok(at) => {
                        both += 1;
                        largest = largest.max((value - b.values[at]).abs());
                    }
                    Err(_) if first_examples.len() < EXAMPLES => first_examples.push((i, label, value)),
                    Err(_) => {}
                }
            }
            if second_examples.len() < EXAMPLES {
                let missing = b.iter().filter(|(label, _)| a.indices.binary_search(label).is_err());
                second_examples.extend(missing.map(|(label, value)| (i, label, value)));
                second_examples.truncate(EXAMPLES);
            }
        }
        let (only_first, only_second) = (first.nnz() - both, second.nnz() - both);
        let all = both + only_first + only_second;
        let jaccard = if all == 0 { 1.0 } else { both as f64 / all as f64 };
        Ok(Difference { both, only_first, only_second, jaccard, largest, first_examples, second_examples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::mapping::matrix;
    use crate::augment::{Direction, Neighbours};

    #[test]
    fn coverage_counts_the_union_over_the_texts_of_a_source() {
        let neighbours = Neighbours { k: 3, ids: vec![1, 2, 9, 2, 3, -1], cosines: vec![0.9; 6] };
        let mapping = Mapping::new(Direction::Instance, &[0, 2], &neighbours, 10).unwrap();
        let truth = matrix(&[&[(2, 1.0), (3, 1.0), (9, 1.0)]], 10);
        let two = Coverage::new(&mapping, &truth, 2).unwrap();
        assert_eq!((two.covered, two.of, two.sources), (2.0, 3.0, 1));
        assert_eq!(Coverage::new(&mapping, &truth, 100).unwrap().covered, 3.0);
        let message = Coverage::new(&mapping, &matrix(&[&[]], 4), 2).unwrap_err().to_string();
        assert!(message.contains("does not fit 1 sources and 10 targets"), "{message}");
    }

    #[test]
    fn a_suggested_pair_counts_once_with_its_largest_cosine() {
        let neighbours = Neighbours { k: 2, ids: vec![0, 1, 1, 2], cosines: vec![0.95, 0.6, 0.9, -1.0] };
        let mapping = Mapping::new(Direction::Label, &[0, 2, 2], &neighbours, 3).unwrap();
        let known = matrix(&[&[(0, 1.0)], &[], &[(1, 1.0)]], 2);
        let bins = confirmation(&mapping, &known, 2).unwrap();
        let found: Vec<_> = bins.iter().map(|b| (b.pairs, b.known)).collect();
        assert_eq!(found, [(1, 0), (1, 0), (1, 1)]);
        assert!((bins[0].from + 1.0).abs() < 1e-9 && (bins[1].from - 0.9).abs() < 1e-9, "{bins:?}");
    }

    #[test]
    fn the_difference_of_two_matrices_names_pairs_and_the_largest_change() {
        let a = matrix(&[&[(0, 1.0), (1, 0.8)], &[(2, 0.9)]], 3);
        let b = matrix(&[&[(0, 1.0), (1, 0.75)], &[(0, 0.5), (1, 1.0)]], 3);
        let d = Difference::new(&a, &b).unwrap();
        assert_eq!((d.both, d.only_first, d.only_second), (2, 1, 2));
        assert!((d.jaccard - 0.4).abs() < 1e-12 && (d.largest - 0.05).abs() < 1e-6);
        assert_eq!(d.first_examples, [(1, 2, 0.9)]);
        assert_eq!(d.second_examples, [(1, 0, 0.5), (1, 1, 1.0)]);
        assert!(Difference::new(&a, &Csr::empty(2, 4)).is_err());
        assert_eq!(Difference::new(&a, &a).unwrap().jaccard, 1.0);
    }
}

//! Which pairs are added to the matrix, and with which values?
//!
//! ```text
//! sigma(g, j) = (cosine + 1) / 2                                   linear: tau 0.8 is a cosine of 0.6
//! C_i  = targets j among the first K neighbours of a text g of source i, with sigma(g, j) >= tau
//! A_ij = max over g of sigma(g, j), transposed where sources are labels
//! Y'   = min(Y + A, 1)                                             original pairs of value 1 stay as they are
//! ```
//!
//! With K = 10 and tau = 0.8 this is the release of SKIM. Beyond it, all off by default: a text must be among the nearest
//! of the target too ([`super::mutual`]), new pairs are capped ([`super::caps`]), and rows that are also test rows get none
//! ([`super::leaks`]).
//!
//! Sources are walked through one at a time, O(K texts of the source); what stays is one record for each new pair. The same
//! bits at any number of threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xmc_data::{Csr, CsrBuilder};

use super::caps::{Dropped, cap};
use super::leaks::Guard;
use super::mapping::{Candidate, Mapping, sigma};
use super::mutual::Mutual;
use super::provenance::Pair;
use crate::error::{Error, Result};

/// Sources that one task walks through.
const SOURCES: usize = 1024;

/// Which pairs are added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildConfig {
    /// Neighbours of a text that count.
    pub k: usize,
    /// Least sigma of a pair; above 1 none is added.
    pub tau: f32,
    /// A text must have one of the so many largest cosines that any text has with the target; 0: it need not.
    pub mutual: usize,
    /// Most new pairs of a label, the best; 0: any number.
    pub max_per_label: usize,
    /// Most new pairs of a row, the best; 0: any number.
    pub max_per_row: usize,
    /// Most new pairs in all, the best; 0: any number.
    pub budget: usize,
}

impl Default for BuildConfig {
    fn default() -> Self {
        BuildConfig { k: 10, tau: 0.8, mutual: 0, max_per_label: 0, max_per_row: 0, budget: 0 }
    }
}

impl BuildConfig {
    /// Refuses what has no meaning.
    pub fn check_values(&self) -> Result<()> {
        if self.tau.is_finite() && self.tau > 0.0 {
            return Ok(());
        }
        let expected = "a number above 0: it is (cosine + 1) / 2, and above 1 nothing is added";
        Err(xmc_data::Error::config("tau", self.tau, expected).into())
    }
}

/// An augmented matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The matrix `[n, L]`.
    pub y: Csr,
    /// Where each new pair comes from, by row, then label.
    pub pairs: Vec<Pair>,
    /// What was added.
    pub report: BuildReport,
}

/// What was added, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildReport {
    /// How.
    pub settings: BuildConfig,
    /// Pairs of the original.
    pub original: usize,
    /// Pairs that synthetic texts suggest.
    pub suggested: usize,
    /// Those that the original has.
    pub confirmed: usize,
    /// Those that were added.
    pub new: usize,
    /// Those that were not, because of caps.
    pub dropped: Dropped,
    /// Rows with a new pair.
    pub rows_gained: usize,
    /// Labels with a new pair.
    pub labels_gained: usize,
    /// Values above 1 of the original, which are now 1.
    pub clipped: usize,
}

/// Adds what the neighbours say to `y [n, L]`.
///
/// # Errors
/// If `y` does not fit the mapping, or a setting has no meaning.
pub fn build(mapping: &Mapping<'_>, y: &Csr, config: &BuildConfig, guard: &Guard) -> Result<Built> {
    config.check_values()?;
    let known = mapping.by_source(y)?;
    let mutual = Mutual::new(mapping, config);
    let tasks: Vec<Found> = (0..mapping.sources().div_ceil(SOURCES))
        .into_par_iter()
        .map(|task| {
            let mut found = Found::default();
            let end = mapping.sources().min((task + 1) * SOURCES);
            (task * SOURCES..end).for_each(|i| found.source(i, mapping, &known, config, &mutual, guard));
            found
        })
        .collect();
    let (mut new, mut confirmed) = (Vec::new(), Vec::new());
    for task in tasks {
        new.extend(task.new);
        confirmed.extend(task.confirmed);
    }
    let suggested = new.len() + confirmed.len();
    let dropped = cap(&mut new, config);
    new.sort_unstable_by_key(|pair| (pair.row, pair.label));
    confirmed.sort_unstable_by_key(|&(row, label, _)| (row, label));
    let merged = merge(y, &new, &confirmed)?;
    let distinct = |ids: &mut dyn Iterator<Item = u32>| {
        let mut ids: Vec<u32> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    };
    let report = BuildReport {
        settings: config.clone(),
        original: y.nnz(),
        suggested,
        confirmed: confirmed.len(),
        new: new.len(),
        dropped,
        rows_gained: distinct(&mut new.iter().map(|pair| pair.row)),
        labels_gained: distinct(&mut new.iter().map(|pair| pair.label)),
        clipped: y.values().iter().filter(|&&value| value > 1.0).count(),
    };
    Ok(Built { y: merged, pairs: new, report })
}

/// What some sources suggest.
#[derive(Default)]
struct Found {
    new: Vec<Pair>,
    /// Row, label, value.
    confirmed: Vec<(u32, u32, f32)>,
    candidates: Vec<Candidate>,
}

impl Found {
    fn source(
        &mut self,
        i: usize,
        mapping: &Mapping<'_>,
        known: &Csr,
        config: &BuildConfig,
        mutual: &Mutual,
        guard: &Guard,
    ) {
        let had = known.row(i);
        best(mapping, i, config, mutual, guard, &mut self.candidates);
        for found in &self.candidates {
            let (row, label) = mapping.place(i as u32, found.target);
            // A cosine a little above 1 is rounding.
            let value = sigma(found.cosine).min(1.0);
            if had.indices.binary_search(&found.target).is_ok() {
                self.confirmed.push((row, label, value));
            } else if !guard.blocks_row(row) {
                let &Candidate { text, rank, cosine, .. } = found;
                self.new.push(Pair { row, label, text, rank, cosine, value });
            }
        }
    }
}

/// The best candidate of source `i` for each of its targets, targets rising: largest cosine, then first rank, then first
/// text.
fn best(
    mapping: &Mapping<'_>,
    i: usize,
    config: &BuildConfig,
    mutual: &Mutual,
    guard: &Guard,
    into: &mut Vec<Candidate>,
) {
    into.clear();
    into.extend(mapping.candidates(i, config.k).filter(|found| {
        sigma(found.cosine) >= config.tau && mutual.allows(found) && !guard.blocks_text(found.text)
    }));
    into.sort_unstable_by(|a, b| {
        let nearer = || b.cosine.total_cmp(&a.cosine);
        a.target.cmp(&b.target).then_with(nearer).then(a.rank.cmp(&b.rank)).then(a.text.cmp(&b.text))
    });
    into.dedup_by_key(|found| found.target);
}

/// min(Y + A, 1), row by row; both lists are sorted by row and label.
fn merge(y: &Csr, new: &[Pair], confirmed: &[(u32, u32, f32)]) -> Result<Csr> {
    let mut merged = CsrBuilder::new();
    let (mut new, mut confirmed) = (new.iter().peekable(), confirmed.iter().peekable());
    let mut row = Vec::new();
    for i in 0..y.rows() {
        row.clear();
        row.extend(y.row(i).iter());
        while let Some(&(_, label, value)) = confirmed.next_if(|pair| pair.0 as usize == i) {
            if let Ok(at) = row.binary_search_by_key(&label, |pair| pair.0) {
                row[at].1 += value;
            }
        }
        for pair in &mut row {
            pair.1 = pair.1.min(1.0);
        }
        while let Some(pair) = new.next_if(|pair| pair.row as usize == i) {
            row.push((pair.label, pair.value));
        }
        merged.push(row.iter().copied());
    }
    merged.finish(y.cols()).map_err(Error::from)
}

//! How much memory will a training need? Asked before the work, answered within a half or so.
//!
//! Texts and rows stay in memory throughout. On top come, one after the other, the features of all labels (while trees
//! are grown) and the weights with the working space of every thread (while rankers are trained); the larger counts.
//! What depends on how features overlap is counted on a sample of labels.

use xmc_data::dataset::Dataset;
use xmc_data::text::AnalyzerKind;
use xmc_data::{Csr, Strings};
use xmc_linear::cluster::Method;
use xmc_linear::ranker::PerLevel;
use xmc_linear::subproblem::SubProblem;

use super::config::XrLinearConfig;
use crate::error::{Error, Result};

/// Labels in the sample.
const SAMPLE: usize = 400;

/// The program itself, its threads and buffers.
const PROGRAM: u64 = 16 << 20;

// Measured on five data sets of 90 to 114,000 labels, where the estimate was 0.9 to 1.5 times the true peak.

/// Growing a tree: bytes for each feature of a label, and for each label.
const GROWING: (u64, u64) = (24, 500);

/// Training rankers: bytes of the weights of all levels, while they are collected, for each feature of a label.
const WEIGHTS: u64 = 20;

pub(in crate::methods) const TEXTS: &str = "the texts";
pub(in crate::methods) const FEWER_ROWS: &str = "train on fewer rows";

/// Something that takes memory, and what makes it smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::methods) struct Part {
    pub(in crate::methods) name: &'static str,
    pub(in crate::methods) bytes: u64,
    pub(in crate::methods) advice: &'static str,
}

/// Refuses to make features of texts if they would not fit: about one term for every six bytes, or every byte.
pub(super) fn check_texts(data: &Dataset, config: &XrLinearConfig, max_memory: Option<u64>) -> Result<()> {
    compare(&of_texts(data, config), max_memory)
}

/// The texts and their terms.
pub(in crate::methods) fn of_texts(data: &Dataset, config: &XrLinearConfig) -> Vec<Part> {
    let bytes = texts(data);
    let terms = config.vectorizer.iter().map(|vectorizer| {
        let [shortest, longest] = vectorizer.ngram_range;
        let of_one_length = if vectorizer.analyzer == AnalyzerKind::Word { bytes / 6 } else { bytes };
        of_one_length * (longest - shortest + 1) as u64
    });
    let features = terms.sum::<u64>() * 8;
    vec![
        Part { name: TEXTS, bytes, advice: FEWER_ROWS },
        Part {
            name: "the terms of the texts",
            bytes: features,
            advice: "use a shorter vectorizer.ngram_range",
        },
    ]
}

/// Refuses to train if it would not fit; `x` `[n, d]` are the training rows.
pub(super) fn check(data: &Dataset, x: &Csr, config: &XrLinearConfig, max_memory: Option<u64>) -> Result<()> {
    if max_memory.is_none() { Ok(()) } else { compare(&parts(data, x, 0, config), max_memory) }
}

/// An error if the parts do not fit together; it names the biggest.
pub(in crate::methods) fn compare(parts: &[Part], max_memory: Option<u64>) -> Result<()> {
    let Some(allowed) = max_memory else { return Ok(()) };
    let program = Part { name: "the program itself", bytes: PROGRAM, advice: "allow more memory" };
    let parts = || parts.iter().chain(std::iter::once(&program));
    let needed = parts().map(|part| part.bytes).fold(0, u64::saturating_add);
    match parts().max_by_key(|part| part.bytes) {
        Some(part) if needed > allowed => {
            let (part, part_bytes, advice) = (part.name, part.bytes, part.advice);
            Err(Error::Memory { needed, allowed, part, part_bytes, advice })
        }
        _ => Ok(()),
    }
}

/// Texts, rows, labels and what growing trees or training rankers adds, on rows `x [n, d]` with `dense` values beside.
pub(in crate::methods) fn parts(data: &Dataset, x: &Csr, dense: usize, config: &XrLinearConfig) -> Vec<Part> {
    let part = |name, bytes, advice| Part { name, bytes, advice };
    let sides = std::iter::once(&data.train).chain(&data.test);
    let given: u64 = sides.filter_map(|side| side.features.as_ref()).map(Csr::bytes).sum();
    let l = data.labels.len() as u64;
    let labels = Overlap::of(&data.train.y.transpose(), x);
    // Dense rows of all labels: as they are made, and a copy for the groups.
    let beside = l * 4 * dense as u64;
    let growing = labels.features * GROWING.0 + l * GROWING.1 + 2 * beside;
    let weights = match config.ranker.max_nonzeros {
        PerLevel::All(most) if most > 0 => labels.features.min(l.saturating_mul(most as u64)),
        _ => labels.features,
    } * WEIGHTS
        + 2 * beside;
    let leaf = config.cluster.max_leaf_size as u64;
    let threads = rayon::current_num_threads() as u64;
    let scratch = labels.scratch(leaf, x, dense) * threads;
    let centroids = match config.cluster.method {
        Method::Balanced => 0,
        Method::Unbalanced => {
            centroids(x.cols() as u64, config.cluster.unbalanced_branching as u64, l, threads)
        }
    };
    let mut parts = vec![
        part(TEXTS, texts(data), FEWER_ROWS),
        part(
            "the features of the rows",
            x.bytes() + given,
            "raise vectorizer.min_df or set vectorizer.max_features",
        ),
        // The labels of every level, by rows and by nodes, and the names in the data and in the model.
        part(
            "the labels",
            6 * data.train.y.bytes() + 2 * data.labels.names().bytes(),
            "train on fewer rows or labels",
        ),
    ];
    if growing.saturating_add(centroids) > weights + scratch {
        let advice = "set vectorizer.max_features, so that labels have fewer features";
        parts.push(part("the features of the labels", growing, advice));
        parts.push(part("the centroids of the groups", centroids, "lower cluster.unbalanced_branching"));
    } else {
        parts.push(part(
            "the weights of the rankers",
            weights,
            "set ranker.max_nonzeros or vectorizer.max_features",
        ));
        parts.push(part(
            "the working space of the threads",
            scratch,
            "lower cluster.max_leaf_size or --threads",
        ));
    }
    parts
}

/// Bytes of k-means with at most k of l groups over d features: centroids stand in blocks of 32, and every thread adds
/// up one.
fn centroids(d: u64, k: u64, l: u64, threads: u64) -> u64 {
    let columns = k.min(l).div_ceil(32).saturating_mul(32).saturating_add(threads);
    d.saturating_mul(4).saturating_mul(columns)
}

/// Bytes of the texts of both sides.
pub(in crate::methods) fn texts(data: &Dataset) -> u64 {
    let sides = std::iter::once(&data.train).chain(&data.test);
    sides.filter_map(|side| side.texts.as_ref()).map(Strings::bytes).sum()
}

/// How many features the rows of labels have together.
struct Overlap {
    /// Distinct features of the rows of a label, summed over all labels.
    features: u64,
    /// Rows and entries of the largest label.
    rows: u64,
    entries: u64,
}

impl Overlap {
    /// Counts on labels spread evenly over all; `by_label` is `[L, n]`.
    fn of(by_label: &Csr, x: &Csr) -> Self {
        let step = by_label.rows().div_ceil(SAMPLE).max(1);
        let mut last_seen = vec![usize::MAX; x.cols()];
        let mut overlap = Overlap { features: 0, rows: 0, entries: 0 };
        for label in (0..by_label.rows()).step_by(step) {
            for &row in by_label.row(label).indices {
                for &feature in x.row(row as usize).indices {
                    let seen = &mut last_seen[feature as usize];
                    overlap.features += u64::from(*seen != label);
                    *seen = label;
                }
            }
        }
        let sampled = by_label.rows().div_ceil(step).max(1);
        overlap.features = (overlap.features as f64 * by_label.rows() as f64 / sampled as f64) as u64;
        overlap.rows = by_label.iter().map(|row| row.len()).max().unwrap_or(0) as u64;
        overlap.entries = overlap.rows * (x.nnz() / x.rows().max(1)) as u64;
        overlap
    }

    /// Working space of one thread on the largest leaf: its rows are at most those of all its labels.
    fn scratch(&self, leaf: u64, x: &Csr, dense: usize) -> u64 {
        let (rows, entries) = (self.rows.saturating_mul(leaf), self.entries.saturating_mul(leaf));
        let (rows, entries) = (rows.min(x.rows() as u64), entries.min(x.nnz() as u64));
        SubProblem::bytes(rows, entries, x.cols() as u64, dense as u64) + 4 * (x.rows() + x.cols()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::centroids;

    #[test]
    fn centroids_come_in_blocks_and_are_no_more_than_the_labels() {
        assert_eq!(centroids(1000, 33, 500, 2), 4 * 1000 * (64 + 2));
        assert_eq!(centroids(1000, u64::MAX, 20, 2), 4 * 1000 * (32 + 2));
        assert_eq!(centroids(u64::MAX, 100, 100, 1), u64::MAX);
    }
}

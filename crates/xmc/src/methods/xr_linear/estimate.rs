//! How much memory will a training need? Asked before the work, answered within a factor of about 1.5.
//!
//! Texts and rows stay in memory throughout. On top come, one after the other, the features of all labels (while trees
//! are grown) and the weights with the working space of every thread (while rankers are trained); the larger counts.
//! What depends on how features overlap is counted on a sample of labels.

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_linear::subproblem::SubProblem;

use super::config::XrLinearConfig;
use crate::error::{Error, Result};

/// Labels in the sample.
const SAMPLE: usize = 400;

/// Bytes of one entry of a sparse matrix: id and value.
const ENTRY: u64 = 8;

/// The program itself, its threads and buffers.
const PROGRAM: u64 = 16 << 20;

/// Bytes of a stored weight with its share of ids and pointers, in f16 or f32; measured, rounded up.
const WEIGHT: u64 = 6;

/// Something that takes memory, and what makes it smaller.
struct Part {
    name: &'static str,
    bytes: u64,
    advice: &'static str,
}

/// Refuses to train if an estimate is above `max_memory`; `x` `[n, d]` are the training rows.
pub(super) fn check(data: &Dataset, x: &Csr, config: &XrLinearConfig, max_memory: Option<u64>) -> Result<()> {
    let Some(allowed) = max_memory else { return Ok(()) };
    let parts = parts(data, x, config);
    let needed = PROGRAM + parts.iter().map(|part| part.bytes).sum::<u64>();
    match parts.iter().max_by_key(|part| part.bytes) {
        Some(part) if needed > allowed => {
            let (part, part_bytes, advice) = (part.name, part.bytes, part.advice);
            Err(Error::Memory { needed, allowed, part, part_bytes, advice })
        }
        _ => Ok(()),
    }
}

fn parts(data: &Dataset, x: &Csr, config: &XrLinearConfig) -> Vec<Part> {
    let sides = std::iter::once(&data.train).chain(&data.test);
    let texts = sides.clone().filter_map(|part| part.texts.as_ref()).map(xmc_data::Strings::bytes).sum();
    let given: u64 = sides.filter_map(|part| part.features.as_ref()).map(Csr::bytes).sum();
    let y = &data.train.y;
    let labels = Overlap::of(&y.transpose(), x);
    // Positives of every level, by rows and by nodes.
    let targets = 6 * y.bytes();
    let weights = labels.features * WEIGHT;
    let leaf = config.cluster.max_leaf_size as u64;
    let scratch = labels.scratch(leaf, x) * rayon::current_num_threads() as u64;
    let mut parts = vec![
        Part { name: "the texts", bytes: texts, advice: "train on fewer rows" },
        Part {
            name: "the features of the rows",
            bytes: x.bytes() + given,
            advice: "raise vectorizer.min_df or set vectorizer.max_features",
        },
        Part { name: "the labels of the rows", bytes: targets, advice: "train on fewer rows" },
    ];
    let trees = labels.features * ENTRY;
    if trees > weights + scratch {
        let advice = "set vectorizer.max_features, so that labels have fewer features";
        parts.push(Part { name: "the features of the labels", bytes: trees, advice });
    } else {
        let advice = "raise ranker.threshold or set ranker.max_nonzeros";
        parts.push(Part { name: "the weights of the rankers", bytes: weights, advice });
        let advice = "lower cluster.max_leaf_size or --threads";
        parts.push(Part { name: "the working space of the threads", bytes: scratch, advice });
    }
    parts
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
    fn scratch(&self, leaf: u64, x: &Csr) -> u64 {
        let (rows, entries) = (self.rows * leaf, self.entries * leaf);
        let (rows, entries) = (rows.min(x.rows() as u64), entries.min(x.nnz() as u64));
        SubProblem::bytes(rows, entries, x.cols() as u64, 0) + 4 * (x.rows() + x.cols()) as u64
    }
}

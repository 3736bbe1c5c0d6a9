//! How much is kept? Labels, pairs and rows are three different shares.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

use super::config::{RatioOf, SampleConfig};
use super::order::Order;

/// A part and the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What is kept.
    pub kept: u64,
    /// Of how much.
    pub of: u64,
}

impl Volume {
    /// The share that is kept; 1 of nothing.
    pub fn share(self) -> f64 {
        if self.of == 0 { 1.0 } else { self.kept as f64 / self.of as f64 }
    }
}

/// How labels were hashed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buckets {
    /// Bits of a hash (minhash: words of it).
    pub bits: u32,
    /// Buckets that hold labels.
    pub buckets: u64,
    /// c: labels that every bucket gives, if it has so many.
    pub quota: u64,
    /// r: buckets that give one more.
    pub extra: u64,
    /// Share of the buckets of which a label is taken.
    pub coverage: f64,
}

/// What a sample is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Labels, of those that training rows have.
    pub labels: Volume,
    /// Pairs of a row and a sampled label, of all pairs.
    pub pairs: Volume,
    /// Rows with a sampled label, of those with a label.
    pub documents: Volume,
    /// Labels that no training row has: they are never sampled.
    pub labels_without_rows: u64,
    /// Pairs that are trained on, after the limit of positives and with orphans.
    pub trained_pairs: u64,
    /// Rows that are trained on, with orphans.
    pub trained_documents: u64,
    /// How labels were hashed, if they were.
    pub hashing: Option<Buckets>,
}

/// Rows of every label, and what is needed to know how much the first labels of an order keep.
pub(super) struct Volumes<'a> {
    y: &'a Csr,
    /// Rows of each label `[L]`.
    pub(super) frequency: Vec<u32>,
    /// Labels that rows have.
    pub(super) labels: Vec<u32>,
    /// Rows that have labels.
    documents: u64,
}

impl<'a> Volumes<'a> {
    /// Counts.
    pub(super) fn new(y: &'a Csr) -> Self {
        let frequency = frequencies(y);
        let labels = (0..y.cols() as u32).filter(|&l| frequency[l as usize] > 0).collect();
        let documents = y.iter().filter(|row| !row.is_empty()).count() as u64;
        Volumes { y, frequency, labels, documents }
    }

    /// How many labels from the first on come nearest to the asked share; at least one.
    pub(super) fn first(&self, order: &Order, config: &SampleConfig) -> usize {
        if let Some(rounds) = config.per_bucket {
            return order.in_rounds(rounds as usize);
        }
        let whole = match config.ratio_of {
            RatioOf::Labels => return self.labels_asked(config.ratio),
            RatioOf::Pairs => self.y.nnz() as u64,
            RatioOf::Documents => self.documents,
        };
        let gains = match config.ratio_of {
            RatioOf::Documents => self.new_documents(&order.labels),
            _ => order.labels.iter().map(|&l| self.frequency[l as usize]).collect(),
        };
        nearest_prefix(&gains, f64::from(config.ratio) * whole as f64)
    }

    /// T = ceil(ratio * L).
    fn labels_asked(&self, ratio: f32) -> usize {
        let all = self.labels.len();
        // 0.1 as f32 is a little more than a tenth: that must not make one label more of ten.
        let exact = f64::from(ratio) * all as f64;
        let nearest = exact.round();
        let asked = if (exact - nearest).abs() <= 1e-6 * nearest { nearest } else { exact.ceil() };
        (asked as usize).clamp(1.min(all), all)
    }

    /// Rows whose first label in the order is this one, for every label of the order.
    fn new_documents(&self, order: &[u32]) -> Vec<u32> {
        let mut place = vec![u32::MAX; self.y.cols()];
        order.iter().zip(0..).for_each(|(&label, at)| place[label as usize] = at);
        let mut gains = vec![0; order.len()];
        for row in self.y.iter() {
            if let Some(first) = row.indices.iter().map(|&l| place[l as usize]).min()
                && let Some(gain) = gains.get_mut(first as usize)
            {
                *gain += 1;
            }
        }
        gains
    }

    /// What `labels` (rising) keep.
    pub(super) fn report(&self, labels: &[u32], trained: &Csr, hashing: Option<Buckets>) -> Report {
        let sampled = membership(labels, self.y.cols());
        let kept = |row: &&[u32]| row.iter().any(|&l| sampled[l as usize]);
        let rows = || self.y.iter().map(|row| row.indices);
        let pairs = labels.iter().map(|&l| u64::from(self.frequency[l as usize])).sum();
        Report {
            labels: Volume { kept: labels.len() as u64, of: self.labels.len() as u64 },
            pairs: Volume { kept: pairs, of: self.y.nnz() as u64 },
            documents: Volume { kept: rows().filter(kept).count() as u64, of: self.documents },
            labels_without_rows: (self.y.cols() - self.labels.len()) as u64,
            trained_pairs: trained.nnz() as u64,
            trained_documents: trained.iter().filter(|row| !row.is_empty()).count() as u64,
            hashing,
        }
    }
}

/// Rows of every label.
pub(super) fn frequencies(y: &Csr) -> Vec<u32> {
    let mut frequency = vec![0u32; y.cols()];
    y.indices().iter().for_each(|&l| frequency[l as usize] += 1);
    frequency
}

/// Which of `n` labels are among `labels`.
pub(super) fn membership(labels: &[u32], n: usize) -> Vec<bool> {
    let mut member = vec![false; n];
    for &l in labels {
        member[l as usize] = true;
    }
    member
}

/// The number of gains, from the first on and at least one, whose sum is nearest to `target`.
fn nearest_prefix(gains: &[u32], target: f64) -> usize {
    let (mut sum, mut best, mut at) = (0f64, f64::INFINITY, 0);
    for (i, &gain) in gains.iter().enumerate() {
        sum += f64::from(gain);
        if (sum - target).abs() < best {
            (best, at) = ((sum - target).abs(), i + 1);
        }
        if sum >= target {
            break;
        }
    }
    at
}

//! Which new pairs are dropped so that a few labels or rows do not get most of them?
//!
//! Pairs are taken from the best down, ties to the lower row, then label; one is taken if its label, its row and the whole
//! have room for it. Original pairs do not count and are never dropped.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::build::BuildConfig;
use super::provenance::Pair;

/// How many new pairs were dropped, by the first reason that applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The label had as many as it may have.
    pub label: usize,
    /// The row had.
    pub row: usize,
    /// The matrix had.
    pub budget: usize,
}

/// Drops what is too much; the order of what stays is that from the best down if anything was limited.
pub(super) fn cap(pairs: &mut Vec<Pair>, config: &BuildConfig) -> Dropped {
    let limit = |most: usize| if most == 0 { usize::MAX } else { most };
    let [per_label, per_row, budget] = [config.max_per_label, config.max_per_row, config.budget].map(limit);
    let mut dropped = Dropped::default();
    if per_label.min(per_row).min(budget) == usize::MAX {
        return dropped;
    }
    pairs.sort_unstable_by(|a, b| {
        b.cosine.total_cmp(&a.cosine).then(a.row.cmp(&b.row)).then(a.label.cmp(&b.label))
    });
    let (mut labels, mut rows): (HashMap<u32, usize>, HashMap<u32, usize>) = Default::default();
    let mut taken = 0;
    pairs.retain(|pair| {
        let label = labels.entry(pair.label).or_default();
        let row = rows.entry(pair.row).or_default();
        if *label >= per_label {
            dropped.label += 1;
        } else if *row >= per_row {
            dropped.row += 1;
        } else if taken >= budget {
            dropped.budget += 1;
        } else {
            *label += 1;
            *row += 1;
            taken += 1;
            return true;
        }
        false
    });
    dropped
}

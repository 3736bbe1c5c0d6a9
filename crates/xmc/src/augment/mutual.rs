//! Is a synthetic text among the nearest of its target, as the target is among the nearest of the text?
//!
//! A target in the middle of everything is near to texts that mean something else. With `mutual = m` a text keeps such a
//! target only if its cosine is one of the m largest that any text has with the target. Equal cosines are those of equal texts
//! and count once. Only texts that name the target among their first K can say how near they are.
//!
//! Memory: m numbers for each target.

use super::build::BuildConfig;
use super::mapping::{Candidate, Mapping};

/// The least cosine that each target accepts.
#[derive(Debug)]
pub(super) struct Mutual {
    /// `[targets]`, or nothing if all texts will do.
    least: Vec<f32>,
}

impl Mutual {
    pub(super) fn new(mapping: &Mapping<'_>, config: &BuildConfig) -> Self {
        let m = config.mutual;
        if m == 0 {
            return Mutual { least: Vec::new() };
        }
        let mut nearest: Vec<Vec<f32>> = vec![Vec::new(); mapping.targets()];
        for found in (0..mapping.sources()).flat_map(|i| mapping.candidates(i, config.k)) {
            if let Some(list) = nearest.get_mut(found.target as usize) {
                insert(list, found.cosine, m);
            }
        }
        let least = |list: Vec<f32>| match list.get(m - 1) {
            Some(&last) => last,
            None => f32::NEG_INFINITY,
        };
        Mutual { least: nearest.into_iter().map(least).collect() }
    }

    /// Whether the target would name the text.
    pub(super) fn allows(&self, found: &Candidate) -> bool {
        self.least.get(found.target as usize).is_none_or(|&least| found.cosine >= least)
    }
}

/// Keeps the `m` largest distinct numbers, falling.
fn insert(list: &mut Vec<f32>, cosine: f32, m: usize) {
    let at = list.partition_point(|&other| other > cosine);
    if at < m && list.get(at) != Some(&cosine) {
        list.truncate(m - 1);
        list.insert(at.min(list.len()), cosine);
    }
}

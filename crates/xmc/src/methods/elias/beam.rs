//! Which clusters does a row go to? (spec: ELIAS, 2.1 and 3.1)
//!
//! ```text
//! s_c = min(1, alpha softmax(logits)_c)        log s_c = min(0, ln alpha + logit_c - lse(logits))
//! ```
//!
//! A search goes to the b best clusters. Training goes to the parents of the row's labels as well, so that these are
//! always reached (teacher forcing), and fills up with the best others to max(b, parents) + 5 clusters in all: five
//! more than a search, as in the original program, and at least five that no label of the row asked for. The original
//! draws among parents and best clusters, so a parent can be lost there; and it puts random clusters into places that
//! are left over, where here the next best ones stand.

use xmc_nn::ops::softmax::log_sum_exp;

use super::graph::clamped;
use crate::index::best_of;

/// Clusters of a row in training, beyond those of a search or the parents of its labels.
pub(super) const MORE: usize = 5;

/// A cluster that a row goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) cluster: u32,
    /// ln alpha + logit - lse: above 0, the score is held at 1.
    pub(crate) raw: f32,
}

impl Chosen {
    /// log s_c
    pub(crate) fn log_score(self) -> f32 {
        clamped(self.raw)
    }
}

/// lse(logits)
pub(crate) fn normaliser(logits: &[f32]) -> f32 {
    let (largest, sum) = log_sum_exp(logits, (f32::NEG_INFINITY, 0.0));
    largest + sum.ln() as f32
}

/// The `beam` best of all clusters, best first, equal ones by rising number; `shift` is ln alpha - lse(logits).
pub(crate) fn best(logits: &[f32], shift: f32, beam: usize) -> Vec<Chosen> {
    let best = best_of(logits, beam);
    best.into_iter().map(|(cluster, logit)| Chosen { cluster, raw: shift + logit }).collect()
}

/// Those of training, best first; `parents` must differ.
pub(super) fn forced(logits: &[f32], shift: f32, beam: usize, parents: &[u32]) -> Vec<Chosen> {
    let width = beam.max(parents.len()) + MORE;
    let mut clusters = parents.to_vec();
    for (cluster, _) in best_of(logits, width) {
        if clusters.len() < width && !parents.contains(&cluster) {
            clusters.push(cluster);
        }
    }
    listed(logits, shift, &clusters)
}

/// Just these clusters, best first, equal ones by rising number.
fn listed(logits: &[f32], shift: f32, clusters: &[u32]) -> Vec<Chosen> {
    let row = clusters.iter().map(|&cluster| Chosen { cluster, raw: shift + logits[cluster as usize] });
    let mut row: Vec<Chosen> = row.collect();
    // By logit, not by score: those that are held at 1 differ in their logits.
    let logit = |chosen: &Chosen| logits[chosen.cluster as usize];
    row.sort_unstable_by(|a, b| logit(b).total_cmp(&logit(a)).then(a.cluster.cmp(&b.cluster)));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f32> {
        // Ties, so that their order is seen.
        (0..n).map(|i| ((i * 37) % 101 / 4) as f32 / 3.0).collect()
    }

    fn clusters(row: &[Chosen]) -> Vec<u32> {
        row.iter().map(|chosen| chosen.cluster).collect()
    }

    #[test]
    fn a_search_goes_to_the_best_with_their_scores() {
        let logits = wave(700);
        let (alpha, beam) = (10f32, 30);
        let shift = alpha.ln() - normaliser(&logits);
        let mut order: Vec<u32> = (0..700).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let row = best(&logits, shift, beam);
        assert_eq!(clusters(&row), order[..beam]);
        let sum: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        for chosen in row {
            let want = (f64::from(alpha) * f64::from(logits[chosen.cluster as usize]).exp() / sum).min(1.0);
            assert!((f64::from(chosen.log_score()) - want.ln()).abs() < 1e-5);
        }
        assert_eq!(best(&logits, shift, 1000).len(), 700);
    }

    #[test]
    fn training_goes_to_every_parent_and_to_the_best_others() {
        let logits = wave(60);
        let order = clusters(&best(&logits, 0.0, 60));
        for (beam, parents) in [(4, vec![]), (4, vec![order[59], order[1]]), (2, order[40..50].to_vec())] {
            let row = forced(&logits, 0.0, beam, &parents);
            let width = beam.max(parents.len()) + MORE;
            assert_eq!(row.len(), width);
            let others = order.iter().filter(|c| !parents.contains(c)).take(width - parents.len());
            let mut want: Vec<u32> = parents.iter().chain(others).copied().collect();
            want.sort_by_key(|c| order.iter().position(|other| other == c));
            assert_eq!(clusters(&row), want);
        }
        assert_eq!(forced(&logits, 0.0, 100, &[3]).len(), 60);
    }

    #[test]
    fn scores_of_many_clusters_are_held_at_one() {
        let logits = [4.0, 4.0, 0.0, -90.0];
        let shift = 10f32.ln() - normaliser(&logits);
        let row = best(&logits, shift, 4);
        assert_eq!((row[0].log_score(), row[1].log_score()), (0.0, 0.0));
        assert!(row[0].raw > 1.0 && row[2].log_score() < -1.0 && row[3].log_score() < -90.0);
        assert!(clamped(f32::NAN).is_nan());
    }
}

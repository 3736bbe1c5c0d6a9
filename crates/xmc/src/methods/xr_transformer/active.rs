//! Which nodes of a level is a row compared with? (spec: XR-Transformer, 7.2)
//!
//! ```text
//! active(i) = children of M_t[i]  ∪  positives Y_t[i]
//! M_1 = the root      M_t = nodes of level t - 1 that have a positive (tfn), that the level above found (man), or both
//! ```
//!
//! Only M_t is stored; the children are written down for the rows of a step and forgotten. A row with more active nodes
//! than allowed keeps its positives and a sample of the others, drawn without replacement, anew in every step: a
//! function of (seed, step, row), whatever else is in the batch.

use std::borrow::Cow;

use rayon::prelude::*;
use xmc_data::{Csr, Result};
use xmc_linear::negatives::{NegativeSampling, union};
use xmc_nn::loss::Active;

use crate::error::Error;
use crate::random::{Draws, Purpose};

/// M_t `[n, L_{t-1}]` of a level below the first: `above` are the positives of the level above, `shortlist` what it found.
pub(super) fn matching<'a>(
    sampling: NegativeSampling,
    above: &'a Csr,
    shortlist: Option<&'a Csr>,
) -> Result<Cow<'a, Csr>> {
    match shortlist.filter(|_| sampling.man) {
        None => Ok(Cow::Borrowed(above)),
        Some(found) if !sampling.tfn => Ok(Cow::Borrowed(found)),
        Some(found) => Ok(Cow::Owned(union(&[above, found])?)),
    }
}

/// The active nodes of every row of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActiveNodes<'a> {
    /// Y_t `[n, L_t]`
    pub(super) targets: &'a Csr,
    /// M_t `[n, L_{t-1}]`; `None` is the root for every row.
    pub(super) matching: Option<&'a Csr>,
    /// Children of the nodes above, `[L_{t-1} + 1]`.
    pub(super) offsets: &'a [u32],
    /// Most active nodes of a row; 0 for any number.
    pub(super) most: usize,
    /// Of the level.
    pub(super) seed: u64,
}

/// Active nodes of some rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ActiveRows {
    indptr: Vec<usize>,
    ids: Vec<u32>,
    targets: Vec<f32>,
}

impl ActiveRows {
    /// The same, as the loss wants it.
    pub(super) fn view(&self) -> Active<'_> {
        Active { indptr: &self.indptr, ids: &self.ids, targets: &self.targets }
    }
}

/// How many nodes are active.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Width {
    /// Rows with any, rising.
    pub(super) rows: Vec<u32>,
    /// On average over these, before the limit.
    pub(super) mean: f64,
    /// At most, before the limit.
    pub(super) most: usize,
    /// Rows with more than the limit.
    pub(super) sampled: usize,
}

impl ActiveNodes<'_> {
    /// Active nodes of `rows` in `step`.
    pub(super) fn of_rows(&self, step: u64, rows: &[u32]) -> ActiveRows {
        let of_each: Vec<Vec<(u32, f32)>> = rows.par_iter().map(|&i| self.of_row(step, i)).collect();
        let mut active = ActiveRows { indptr: vec![0], ..ActiveRows::default() };
        for row in of_each {
            active.ids.extend(row.iter().map(|node| node.0));
            active.targets.extend(row.iter().map(|node| node.1));
            active.indptr.push(active.ids.len());
        }
        active
    }

    fn of_row(&self, step: u64, i: u32) -> Vec<(u32, f32)> {
        let all = self.all_of_row(i);
        if self.most == 0 || all.len() <= self.most {
            return all;
        }
        let negatives = all.iter().filter(|node| node.1 == 0.0).count();
        let room = self.most.saturating_sub(all.len() - negatives);
        let mut draws = Draws::new(self.seed, Purpose::Active, step << 32 | u64::from(i));
        let mut kept = draws.distinct(room, negatives).into_iter().peekable();
        let mut at = 0;
        let keep = |node: &(u32, f32)| {
            if node.1 != 0.0 {
                return true;
            }
            at += 1;
            kept.next_if_eq(&(at - 1)).is_some()
        };
        all.into_iter().filter(keep).collect()
    }

    /// (node, count of a positive or 0) of row `i`, rising, without a limit.
    fn all_of_row(&self, i: u32) -> Vec<(u32, f32)> {
        let mut positives = self.targets.row(i as usize).iter().peekable();
        let mut nodes = Vec::new();
        for &parent in self.parents(i) {
            for child in self.children(parent) {
                // A positive below no parent that matches.
                while let Some(positive) = positives.next_if(|positive| positive.0 < child) {
                    nodes.push(positive);
                }
                let count = positives.next_if(|positive| positive.0 == child).map_or(0.0, |p| p.1);
                nodes.push((child, count));
            }
        }
        nodes.extend(positives);
        nodes
    }

    fn parents(&self, i: u32) -> &[u32] {
        self.matching.map_or(&[0], |matching| matching.row(i as usize).indices)
    }

    fn children(&self, parent: u32) -> std::ops::Range<u32> {
        let parent = parent as usize;
        self.offsets[parent]..self.offsets[parent + 1]
    }

    /// Counts the active nodes of all rows; an error if there are none.
    pub(super) fn width(&self) -> crate::error::Result<Width> {
        let counts: Vec<usize> =
            (0..self.targets.rows() as u32).into_par_iter().map(|i| self.count(i)).collect();
        let rows: Vec<u32> = (0..counts.len() as u32).filter(|&i| counts[i as usize] > 0).collect();
        if self.targets.nnz() == 0 {
            let n = counts.len();
            return Err(Error::Mismatch(format!(
                "none of the {n} training rows has a label that is in the preliminary tree: nothing to learn from"
            )));
        }
        Ok(Width {
            mean: counts.iter().sum::<usize>() as f64 / rows.len() as f64,
            most: counts.iter().copied().max().unwrap_or(0),
            sampled: counts.iter().filter(|&&count| self.most > 0 && count > self.most).count(),
            rows,
        })
    }

    /// Active nodes of row `i` without a limit.
    fn count(&self, i: u32) -> usize {
        let parents = self.parents(i);
        let children: usize = parents.iter().map(|&parent| self.children(parent).len()).sum();
        let alone = |&node: &u32| {
            // Empty parents share an offset with the one that has the node; it is the last of them.
            let parent = self.offsets.partition_point(|&first| first <= node).saturating_sub(1);
            parents.binary_search(&(parent as u32)).is_err()
        };
        children + self.targets.row(i as usize).indices.iter().filter(|node| alone(node)).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;
    use xmc_data::CsrBuilder;

    use super::*;

    /// A node without children among others.
    const OFFSETS: [u32; 6] = [0, 3, 3, 7, 15, 20];

    fn csr(rows: &[BTreeMap<u32, u8>], cols: usize) -> Csr {
        let mut matrix = CsrBuilder::new();
        for row in rows {
            matrix.push(row.iter().map(|(&c, &v)| (c, f32::from(v))));
        }
        matrix.finish(cols).unwrap()
    }

    /// The definition, as sets.
    fn slow(positives: &BTreeMap<u32, u8>, parents: &BTreeSet<u32>) -> Vec<(u32, f32)> {
        let mut nodes: BTreeSet<u32> = positives.keys().copied().collect();
        for &p in parents {
            nodes.extend(OFFSETS[p as usize]..OFFSETS[p as usize + 1]);
        }
        nodes.iter().map(|&node| (node, f32::from(positives.get(&node).copied().unwrap_or(0)))).collect()
    }

    fn pairs(active: &ActiveRows, row: usize) -> Vec<(u32, f32)> {
        let range = active.indptr[row]..active.indptr[row + 1];
        active.ids[range.clone()].iter().copied().zip(active.targets[range].iter().copied()).collect()
    }

    proptest! {
        #[test]
        fn active_nodes_are_the_children_of_the_matched_and_the_positives(
            positives in vec(btree_map(0u32..20, 1u8..4, 0..6), 4),
            parents in vec(btree_set(0u32..5, 0..5), 4),
            most in 0usize..12,
            step in 0u64..9,
        ) {
            let targets = csr(&positives, 20);
            let m: Vec<BTreeMap<u32, u8>> =
                parents.iter().map(|row| row.iter().map(|&p| (p, 1)).collect()).collect();
            let matching = csr(&m, 5);
            let nodes = ActiveNodes {
                targets: &targets, matching: Some(&matching), offsets: &OFFSETS, most, seed: 5,
            };
            let rows = [2u32, 0, 3];
            let found = nodes.of_rows(step, &rows);
            let whole = ActiveNodes { most: 0, ..nodes }.of_rows(step, &rows);
            prop_assert_eq!(found.indptr.len(), 4);
            for (at, &i) in rows.iter().enumerate() {
                let i = i as usize;
                let (found, want) = (pairs(&found, at), slow(&positives[i], &parents[i]));
                prop_assert_eq!(pairs(&whole, at), want.clone());
                prop_assert_eq!(nodes.count(i as u32), want.len());
                prop_assert!(found.is_sorted_by(|a, b| a.0 < b.0));
                prop_assert!(found.iter().all(|node| want.contains(node)));
                let kept = found.iter().filter(|node| node.1 > 0.0).count();
                prop_assert_eq!(kept, positives[i].len());
                let size = if most == 0 { want.len() } else { want.len().min(most.max(kept)) };
                prop_assert_eq!(found.len(), size);
                // The same whatever else is in the batch.
                prop_assert_eq!(&found, &pairs(&nodes.of_rows(step, &[i as u32]), 0));
            }
        }
    }

    #[test]
    fn every_negative_is_drawn_as_often_and_anew_in_every_step() {
        let targets = csr(&[BTreeMap::from([(4, 2)])], 20);
        let nodes = ActiveNodes { targets: &targets, matching: None, offsets: &[0, 20], most: 6, seed: 1 };
        let mut counts = [0; 20];
        for step in 0..3800 {
            let active = nodes.of_rows(step, &[0]);
            assert_eq!(active.ids.len(), 6);
            active.ids.iter().for_each(|&id| counts[id as usize] += 1);
        }
        // 5 of 19 in each step: 1000 of 3800.
        assert_eq!(counts[4], 3800);
        assert!(counts.iter().enumerate().all(|(id, &c)| id == 4 || (880..1120).contains(&c)), "{counts:?}");
        assert_ne!(nodes.of_rows(0, &[0]), nodes.of_rows(1, &[0]));
        assert_ne!(nodes.of_rows(0, &[0]), ActiveNodes { seed: 2, ..nodes }.of_rows(0, &[0]));
    }

    #[test]
    fn counts_are_those_of_all_rows_and_rows_without_nodes_are_left_out() {
        let targets =
            csr(&[BTreeMap::from([(1, 1), (16, 1)]), BTreeMap::new(), BTreeMap::from([(7, 1)])], 20);
        let nodes = ActiveNodes { targets: &targets, matching: None, offsets: &[0, 20], most: 10, seed: 1 };
        let root = nodes.width().unwrap();
        assert_eq!(root, Width { rows: vec![0, 1, 2], mean: 20.0, most: 20, sampled: 3 });
        // Teacher forcing: rows 0 and 2 see the children of 0 and 4, and of 3.
        let above = csr(&[BTreeMap::from([(0, 1), (4, 1)]), BTreeMap::new(), BTreeMap::from([(3, 1)])], 5);
        let m = matching(NegativeSampling::TFN, &above, None).unwrap();
        let nodes = ActiveNodes { matching: Some(&m), offsets: &OFFSETS, most: 7, ..nodes };
        assert_eq!(nodes.width().unwrap(), Width { rows: vec![0, 2], mean: 8.0, most: 8, sampled: 2 });
        let nothing = Csr::empty(3, 20);
        let message = ActiveNodes { targets: &nothing, ..nodes }.width().unwrap_err().to_string();
        assert!(message.contains("none of the 3 training rows"), "{message}");
    }

    #[test]
    fn matching_takes_what_the_sampling_says() {
        let above = csr(&[BTreeMap::from([(0, 1), (4, 1)]), BTreeMap::new()], 5);
        let found = csr(&[BTreeMap::from([(1, 1), (4, 1)]), BTreeMap::from([(2, 1)])], 5);
        let of = |name: &str| {
            let sampling = NegativeSampling::try_from(name.to_owned()).unwrap();
            let m = matching(sampling, &above, Some(&found)).unwrap();
            [0, 1].map(|i| m.row(i).indices.to_vec())
        };
        assert_eq!(of("tfn"), [vec![0, 4], vec![]]);
        assert_eq!(of("man"), [vec![1, 4], vec![2]]);
        assert_eq!(of("tfn+man"), [vec![0, 1, 4], vec![2]]);
    }
}

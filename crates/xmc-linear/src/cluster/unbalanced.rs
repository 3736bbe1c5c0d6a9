//! Unbalanced k-means trees: groups as large as the data make them, in few levels.
//!
//! A group of more than `max_leaf_size` labels is divided into `unbalanced_branching` parts by k-means, and these again,
//! until the tree has `unbalanced_depth` levels of rankers. Wide and shallow trees lose fewer labels on the way down
//! than balanced ones, and cost more to search. Bonsai (Khandagale, Xiao and Babbar 2020), section 3; the defaults
//! (100 parts, 3 levels) are theirs, as with `cluster.unbalanced` of omikuji.
//!
//! All labels are on the last level: a group that is done early hangs below a chain of nodes with one child each.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::Result;

use super::config::ClusterConfig;
use super::k_means::k_means;
use super::random::Draws;
use super::rows::Rows;
use crate::features::Features;
use crate::tree::Tree;

/// A group of labels, or one that was divided.
enum Group {
    Labels(Vec<u32>),
    Parts(Vec<Group>),
}

/// The tree over more than `max_leaf_size` labels.
pub(super) fn grow_tree(z: &Features, config: &ClusterConfig, seed: u32) -> Result<Tree> {
    let positions: Vec<u32> = (0..z.rows() as u32).collect();
    let root = grow(&Rows::all(z), &positions, 1, seed, config);
    let mut offsets = Vec::new();
    let mut groups = vec![&root];
    while groups.iter().any(|group| matches!(group, Group::Parts(_))) {
        let (mut next, mut ends) = (Vec::new(), vec![0]);
        for group in groups {
            match group {
                Group::Labels(_) => next.push(group),
                Group::Parts(parts) => next.extend(parts),
            }
            ends.push(next.len() as u32);
        }
        offsets.push(ends);
        groups = next;
    }
    let (mut labels, mut ends) = (Vec::with_capacity(z.rows()), vec![0]);
    for group in groups {
        if let Group::Labels(ids) = group {
            labels.extend_from_slice(ids);
        }
        ends.push(labels.len() as u32);
    }
    offsets.push(ends);
    Tree::new(offsets, labels, z.rows())
}

/// Divides the rows at `positions`, the children of a node of level `level`.
fn grow(above: &Rows<'_>, positions: &[u32], level: usize, seed: u32, config: &ClusterConfig) -> Group {
    let labels = |positions: &[u32]| positions.iter().map(|&p| above.ids()[p as usize]).collect();
    if positions.len() <= config.max_leaf_size || level >= config.unbalanced_depth {
        return Group::Labels(labels(positions));
    }
    let mut draws = Draws::new(seed);
    let (rows, _) = above.select(positions);
    let parts = k_means(&rows, config, &mut draws);
    if parts.len() < 2 {
        return Group::Labels(labels(positions));
    }
    let parts: Vec<(Vec<u32>, u32)> = parts.into_iter().map(|part| (part, draws.next_u32())).collect();
    let parts = parts.into_par_iter();
    Group::Parts(parts.map(|(part, seed)| grow(&rows, &part, level + 1, seed, config)).collect())
}

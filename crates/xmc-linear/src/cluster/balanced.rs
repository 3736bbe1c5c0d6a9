//! Balanced hierarchical 2-means.
//!
//! `h = max(1, ceil(log2(L / max_leaf_size)))` halvings give `2^h` groups. Groups are numbered like a binary heap (root
//! 1, children of g are 2g and 2g + 1) and each has its own seed, drawn before the work begins. Above the groups,
//! parent(j) = floor(j / branching) level by level, and one root.
//!
//! Cost: h levels of at most `max_iterations` passes over the entries of z; see [`split`](super::split).

use xmc_data::{Error, Result};

use super::config::ClusterConfig;
use super::random::Draws;
use super::rows::Rows;
use super::split::split;
use super::sums::Units;
use crate::features::Features;
use crate::tree::Tree;

/// Groups of at most this many entries (half a gigabyte) get a compact copy of their rows.
const COMPACT_ENTRIES: usize = 1 << 26;
/// Groups of at most this part of all entries do in any case.
const COMPACT_SHARE: usize = 8;

/// The tree over more than `max_leaf_size` labels.
pub(super) fn grow_tree(z: &Features, config: &ClusterConfig, seed: u64) -> Result<Tree> {
    let halvings = halvings(z.rows(), config.max_leaf_size)?;
    let mut draws = Draws::new((seed ^ (seed >> 32)) as u32);
    let mut labels = vec![0; z.rows()];
    let largest = z.sparse().values().iter().fold(0f32, |most, v| most.max(v.abs()));
    let grower = Grower {
        config,
        units: Units::new(largest, z.rows()),
        seeds: (0..2usize << halvings).map(|_| draws.next_u32()).collect(),
        most_compact: (z.sparse().nnz() / COMPACT_SHARE).max(COMPACT_ENTRIES),
    };
    grower.grow(Rows::all(z, grower.units, grower.most_compact), 1, &mut labels);
    Tree::new(offsets(z.rows(), halvings, config), labels, z.rows())
}

/// How often `num_labels` are halved until groups hold at most `max_leaf_size`.
fn halvings(num_labels: usize, max_leaf_size: usize) -> Result<u32> {
    let mut halvings = 1;
    while (max_leaf_size << halvings) < num_labels {
        halvings += 1;
    }
    if (1 << halvings) <= num_labels {
        return Ok(halvings);
    }
    let expected = format!("larger groups: {num_labels} labels do not fill 2^{halvings} of them");
    Err(Error::config("cluster.max_leaf_size", max_leaf_size, expected))
}

/// Child offsets of every level from the root to the groups.
fn offsets(num_labels: usize, halvings: u32, config: &ClusterConfig) -> Vec<Vec<u32>> {
    let mut ends = vec![num_labels];
    for _ in 0..halvings {
        ends = ends.iter().flat_map(|&size| [size / 2, size - size / 2]).collect();
    }
    let mut leaves = vec![0];
    leaves.extend(ends.iter().scan(0, |end, &size| {
        *end += size as u32;
        Some(*end)
    }));
    let mut levels = vec![leaves];
    let mut width = ends.len();
    let top = match config.min_codes {
        0 => config.branching,
        1 => width,
        codes => codes,
    };
    while width > top {
        let parents = width.div_ceil(config.branching);
        levels.push((0..=parents).map(|p| (p * config.branching).min(width) as u32).collect());
        width = parents;
    }
    if width > 1 {
        levels.push(vec![0, width as u32]);
    }
    levels.reverse();
    levels
}

/// What all groups share.
struct Grower<'a> {
    config: &'a ClusterConfig,
    units: Units,
    /// Seed of each group by its heap number.
    seeds: Vec<u32>,
    /// Groups of at most this many entries are copied.
    most_compact: usize,
}

impl Grower<'_> {
    /// Writes the labels of group `number` in the order of its leaves.
    fn grow(&self, rows: Rows<'_>, number: usize, labels: &mut [u32]) {
        if 2 * number >= self.seeds.len() {
            labels.copy_from_slice(rows.ids());
            return;
        }
        let halves = split(&rows, self.seeds[number], self.units, self.config);
        let (left_labels, right_labels) = labels.split_at_mut(halves.left.len());
        if 4 * number >= self.seeds.len() {
            rows.copy_ids(&halves.left, left_labels);
            rows.copy_ids(&halves.right, right_labels);
            return;
        }
        let (left, right) = rayon::join(
            || rows.select(&halves.left, halves.left_total, self.most_compact),
            || rows.select(&halves.right, halves.right_total, self.most_compact),
        );
        drop((rows, halves.left, halves.right));
        rayon::join(
            || self.grow(left, 2 * number, left_labels),
            || self.grow(right, 2 * number + 1, right_labels),
        );
    }
}

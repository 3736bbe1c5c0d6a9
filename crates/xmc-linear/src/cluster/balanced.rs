//! Balanced hierarchical 2-means.
//!
//! `h = max(1, ceil(log2(L / max_leaf_size)))` halvings give `2^h` groups. Groups are numbered like a binary heap (root
//! 1, children of g are 2g and 2g + 1) and each has its own seed, drawn before the work begins. The levels above are
//! those of [`chain`](super::chain).
//!
//! Cost: h levels of at most `max_iterations` passes over the entries of z; see [`split`](super::split).

use xmc_data::{Error, Result};

use super::chain::levels_above;
use super::config::ClusterConfig;
use super::random::Draws;
use super::rows::Rows;
use super::split::{Half, split};
use super::sums::Units;
use crate::features::Features;
use crate::tree::Tree;

/// The tree over more than `max_leaf_size` labels.
pub(super) fn grow_tree(z: &Features, config: &ClusterConfig, seed: u32) -> Result<Tree> {
    let halvings = halvings(z.rows(), config.max_leaf_size)?;
    let mut draws = Draws::new(seed);
    let mut labels = vec![0; z.rows()];
    let largest = z.sparse().values().iter().fold(0f32, |most, v| most.max(v.abs()));
    let units = Units::new(largest, z.rows());
    let seeds = (0..2usize << halvings).map(|_| draws.next_u32()).collect();
    let all = Half { positions: (0..z.rows() as u32).collect(), total: units.sum(z.sparse()) };
    Grower { config, units, seeds }.grow(Group::new(&Rows::all(z), all), 1, &mut labels);
    Tree::new(offsets(z.rows(), halvings, config), labels, z.rows())
}

/// Nodes of every level below the root of the balanced tree over `num_labels` labels: the labels come last.
///
/// ```
/// use xmc_linear::cluster::{ClusterConfig, balanced_widths};
/// let config = ClusterConfig { branching: 16, max_leaf_size: 16, ..ClusterConfig::default() };
/// assert_eq!(balanced_widths(3956, &config).unwrap(), [16, 256, 3956]);
/// ```
pub fn balanced_widths(num_labels: usize, config: &ClusterConfig) -> Result<Vec<usize>> {
    let mut widths = Vec::new();
    if num_labels > config.max_leaf_size {
        let halvings = halvings(num_labels, config.max_leaf_size)?;
        widths.extend(offsets(num_labels, halvings, config).iter().skip(1).map(|level| level.len() - 1));
    }
    widths.push(num_labels);
    Ok(widths)
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
    let mut levels = levels_above(ends.len(), config);
    levels.push(leaves);
    levels
}

/// What all groups share.
struct Grower<'a> {
    config: &'a ClusterConfig,
    units: Units,
    /// Seed of each group by its heap number.
    seeds: Vec<u32>,
}

/// Rows and their sum.
struct Group<'a> {
    rows: Rows<'a>,
    total: Vec<i64>,
}

impl<'a> Group<'a> {
    /// A part of the rows of another group.
    fn new(rows: &Rows<'a>, half: Half) -> Self {
        let (rows, kept) = rows.select(&half.positions);
        let total = match kept {
            Some(kept) => kept.iter().map(|&f| half.total[f as usize]).collect(),
            None => half.total,
        };
        Group { rows, total }
    }
}

impl Grower<'_> {
    /// Writes the labels of group `number` in the order of its leaves.
    fn grow(&self, group: Group<'_>, number: usize, labels: &mut [u32]) {
        let Group { rows, total } = group;
        let (left, right) = split(&rows, total, self.seeds[number], self.units, self.config);
        let (left_labels, right_labels) = labels.split_at_mut(left.positions.len());
        if 4 * number >= self.seeds.len() {
            rows.copy_ids(&left.positions, left_labels);
            rows.copy_ids(&right.positions, right_labels);
            return;
        }
        let (left, right) = rayon::join(|| Group::new(&rows, left), || Group::new(&rows, right));
        drop(rows);
        rayon::join(
            || self.grow(left, 2 * number, left_labels),
            || self.grow(right, 2 * number + 1, right_labels),
        );
    }
}

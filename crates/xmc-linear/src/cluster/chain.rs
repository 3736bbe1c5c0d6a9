//! From groups of labels to the levels above them.
//!
//! parent(j) = floor(j / branching), level by level, until at most `min_codes` nodes are left; these hang below the root.

use super::config::ClusterConfig;

/// Child offsets of every level from the root to the parents of `groups` groups; none for a single group.
pub(super) fn levels_above(groups: usize, config: &ClusterConfig) -> Vec<Vec<u32>> {
    let top = match config.min_codes {
        0 => config.branching,
        1 => groups,
        codes => codes,
    };
    let (mut levels, mut width) = (Vec::new(), groups);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn widths(groups: usize, branching: usize, min_codes: usize) -> Vec<usize> {
        let config = ClusterConfig { branching, min_codes, ..ClusterConfig::default() };
        levels_above(groups, &config).iter().map(|level| level.len() - 1).collect()
    }

    #[test]
    fn levels_are_added_until_few_enough_nodes_are_left() {
        assert_eq!(widths(512, 16, 0), [1, 2, 32]);
        assert_eq!(widths(512, 16, 32), [1, 32]);
        assert_eq!(widths(512, 16, 1), [1]);
        assert_eq!(widths(8, 3, 0), [1, 3]);
        assert_eq!(widths(1, 16, 0), [0usize; 0]);
    }

    #[test]
    fn the_last_parent_takes_what_is_left() {
        let config = ClusterConfig { branching: 3, ..ClusterConfig::default() };
        assert_eq!(levels_above(8, &config), [vec![0, 3], vec![0, 3, 6, 8]]);
    }
}

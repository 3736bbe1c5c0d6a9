//! What does a label tree look like? Levels, widths, and how many children nodes have.

use serde::Serialize;

use super::Tree;

/// A description of a tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreeStatistics {
    /// Labels in the tree.
    pub labels: usize,
    /// Labels that are in no leaf.
    pub pruned_labels: usize,
    /// Levels with a ranker, from the root down.
    pub levels: Vec<FanOut>,
}

/// How many children the nodes of one level have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FanOut {
    /// Nodes of the level.
    pub nodes: usize,
    /// Children of all of them: the nodes of the next level.
    pub children: usize,
    /// Fewest children of a node.
    pub min: usize,
    /// Half of the nodes have at most this many.
    pub p50: usize,
    /// Nine tenths of the nodes have at most this many.
    pub p90: usize,
    /// Most children of a node.
    pub max: usize,
}

impl Tree {
    /// Describes the tree.
    pub fn statistics(&self) -> TreeStatistics {
        TreeStatistics {
            labels: self.labels().len(),
            pruned_labels: self.num_labels() - self.labels().len(),
            levels: (0..self.depth()).map(|t| self.fan_out(t)).collect(),
        }
    }

    fn fan_out(&self, t: usize) -> FanOut {
        let mut sizes: Vec<usize> = (0..self.width(t)).map(|p| self.children(t, p).len()).collect();
        sizes.sort_unstable();
        // The smallest size that at least this many percent of the nodes do not exceed.
        let percentile = |percent: usize| {
            let rank = (sizes.len() * percent).div_ceil(100).max(1) - 1;
            sizes.get(rank).copied().unwrap_or(0)
        };
        FanOut {
            nodes: sizes.len(),
            children: self.width(t + 1),
            min: percentile(0),
            p50: percentile(50),
            p90: percentile(90),
            max: percentile(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_described() {
        let tree = Tree::new(vec![vec![0, 4], vec![0, 1, 3, 6, 6]], (0..6).collect(), 8).unwrap();
        let found = tree.statistics();
        assert_eq!((found.labels, found.pruned_labels), (6, 2));
        assert_eq!(found.levels[0], FanOut { nodes: 1, children: 4, min: 4, p50: 4, p90: 4, max: 4 });
        assert_eq!(found.levels[1], FanOut { nodes: 4, children: 6, min: 0, p50: 1, p90: 3, max: 3 });
    }
}

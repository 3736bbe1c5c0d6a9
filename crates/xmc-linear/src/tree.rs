//! The label tree: which node is whose child, and which label is which leaf.
//!
//! Nodes of a level are numbered so that the children of one parent are neighbours and parents keep their order.
//! Then a level is one array of offsets: `children(t, p)` is a range of the nodes of level `t + 1`.

mod statistics;

use std::ops::Range;

pub use statistics::{FanOut, TreeStatistics};
use xmc_data::{Error, Result};

/// Labels may be pruned, but of more labels than this not nearly all: a number that the leaves do not back is damage
/// and must not make us ask for memory.
const PLAUSIBLE_LABELS: usize = 1 << 24;
const LEAST_SHARE: usize = 64;

/// A tree of `depth` levels below the root; the nodes of the last level are the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Per level t: `[L_t + 1]` offsets of the children in level t + 1; the root level has one node.
    offsets: Vec<Vec<u32>>,
    /// `[L_D]`: label of each leaf position. Labels may be missing (pruned), none occurs twice.
    labels: Vec<u32>,
    /// L: one past the largest label id allowed.
    num_labels: usize,
}

impl Tree {
    /// Takes child offsets level by level from the root and the label of every leaf, after checking them.
    pub fn new(offsets: Vec<Vec<u32>>, labels: Vec<u32>, num_labels: usize) -> Result<Self> {
        let wrong = |problem: String| Err(Error::Shape(format!("label tree: {problem}")));
        if offsets.first().map(Vec::len) != Some(2) {
            return wrong("the first level must have one root".to_owned());
        }
        for (t, level) in offsets.iter().enumerate() {
            let children = offsets.get(t + 1).map_or(labels.len(), |next| next.len().saturating_sub(1));
            if level.first() != Some(&0) || level.last().map(|&e| e as usize) != Some(children) {
                return wrong(format!("level {t} does not cover the {children} nodes below it"));
            }
            if let Some(p) = level.windows(2).position(|w| w[0] > w[1]) {
                return wrong(format!("level {t}: the children of node {p} end before they begin"));
            }
        }
        if num_labels > PLAUSIBLE_LABELS && num_labels / LEAST_SHARE > labels.len() {
            return wrong(format!("{} leaves for {num_labels} labels", labels.len()));
        }
        let mut seen = vec![false; num_labels];
        for &l in &labels {
            match seen.get_mut(l as usize) {
                None => return wrong(format!("label {l} is outside the {num_labels} labels")),
                Some(true) => return wrong(format!("label {l} is in two leaves")),
                Some(slot) => *slot = true,
            }
        }
        Ok(Tree { offsets, labels, num_labels })
    }

    /// Takes, level by level from the one below the root down to the labels, the parent of each node; a node without
    /// one is pruned, and with it all below it. Nodes are renumbered: children of one parent are neighbours and keep
    /// their order.
    ///
    /// ```
    /// use xmc_linear::Tree;
    /// let top = vec![Some(0), Some(0)];
    /// let labels = vec![Some(1), Some(0), None, Some(1)];
    /// let tree = Tree::from_parents(&[top, labels]).unwrap();
    /// assert_eq!(tree.labels(), [1, 0, 3]);
    /// assert_eq!(tree.children(1, 1), 1..3);
    /// ```
    pub fn from_parents(levels: &[Vec<Option<u32>>]) -> Result<Self> {
        let mut offsets = Vec::with_capacity(levels.len());
        // The nodes of the level above in their new order.
        let (mut above, mut width) = (vec![0u32], 1);
        for (t, parents) in levels.iter().enumerate() {
            let mut children = vec![Vec::new(); width];
            for (child, parent) in parents.iter().enumerate().filter_map(|(c, p)| Some((c as u32, (*p)?))) {
                let Some(siblings) = children.get_mut(parent as usize) else {
                    let problem = format!("node {child} of level {} hangs below node {parent}", t + 1);
                    return Err(Error::Shape(format!(
                        "label tree: {problem}, but the level above has {width}"
                    )));
                };
                siblings.push(child);
            }
            let mut ends = vec![0];
            let mut nodes = Vec::with_capacity(parents.len());
            for &parent in &above {
                nodes.extend_from_slice(&children[parent as usize]);
                ends.push(nodes.len() as u32);
            }
            offsets.push(ends);
            (above, width) = (nodes, parents.len());
        }
        Tree::new(offsets, above, width)
    }

    /// No inner level: the root holds all labels (one-vs-all).
    pub fn flat(num_labels: usize) -> Self {
        Tree {
            offsets: vec![vec![0, num_labels as u32]],
            labels: (0..num_labels as u32).collect(),
            num_labels,
        }
    }

    /// Number of levels that carry a ranker, D >= 1.
    pub fn depth(&self) -> usize {
        self.offsets.len()
    }

    /// Nodes at level `t`, from 0 (the root) to D (the labels).
    pub fn width(&self, t: usize) -> usize {
        self.offsets.get(t).map_or(self.labels.len(), |level| level.len() - 1)
    }

    /// Nodes of every level below the root.
    pub fn widths(&self) -> Vec<usize> {
        (1..=self.depth()).map(|t| self.width(t)).collect()
    }

    /// Child offsets of level `t < depth()`: `[width(t) + 1]`.
    pub fn offsets(&self, t: usize) -> &[u32] {
        &self.offsets[t]
    }

    /// Children of node `parent` of level `t`, as nodes of level `t + 1`.
    pub fn children(&self, t: usize, parent: usize) -> Range<usize> {
        self.offsets[t][parent] as usize..self.offsets[t][parent + 1] as usize
    }

    /// Leaf positions below node `node` of level `t`.
    pub fn leaves(&self, t: usize, node: usize) -> Range<usize> {
        let down = |end: usize, level: &Vec<u32>| level[end] as usize;
        let below = self.offsets.get(t..).unwrap_or_default();
        below.iter().fold(node, down)..below.iter().fold(node + 1, down)
    }

    /// Label of every leaf position.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// L, with labels that are in no leaf counted too.
    pub fn num_labels(&self) -> usize {
        self.num_labels
    }

    /// Parent of every node of level `t >= 1`.
    pub fn parents(&self, t: usize) -> Vec<u32> {
        let mut parents = Vec::with_capacity(self.width(t));
        for p in 0..self.width(t - 1) {
            parents.extend(self.children(t - 1, p).map(|_| p as u32));
        }
        parents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(parents: &[u32]) -> Vec<Option<u32>> {
        parents.iter().map(|&p| Some(p)).collect()
    }

    #[test]
    fn parents_of_a_tree_give_the_tree_back() {
        let tree = Tree::new(vec![vec![0, 3], vec![0, 2, 2, 5]], vec![4, 6, 0, 1, 2], 7).unwrap();
        let mut labels = vec![None; 7];
        for (&label, parent) in tree.labels().iter().zip(tree.parents(2)) {
            labels[label as usize] = Some(parent);
        }
        assert_eq!(Tree::from_parents(&[below(&tree.parents(1)), labels]).unwrap(), tree);
    }

    #[test]
    fn children_become_neighbours_at_every_level() {
        let levels = [below(&[0, 0]), below(&[1, 0, 1]), below(&[0, 1, 2, 1, 0])];
        let tree = Tree::from_parents(&levels).unwrap();
        // Level 2 in its new order is 1, 0, 2.
        assert_eq!(tree.offsets(1), [0, 1, 3]);
        assert_eq!(tree.offsets(2), [0, 2, 4, 5]);
        assert_eq!(tree.labels(), [1, 3, 0, 4, 2]);
    }

    #[test]
    fn the_leaves_of_a_node_are_those_below_its_children() {
        let tree = Tree::new(vec![vec![0, 3], vec![0, 2, 2, 5]], vec![4, 6, 0, 1, 2], 7).unwrap();
        assert_eq!(tree.leaves(0, 0), 0..5);
        assert_eq!((0..3).map(|node| tree.leaves(1, node)).collect::<Vec<_>>(), [0..2, 2..2, 2..5]);
        assert_eq!(tree.leaves(2, 4), 4..5);
    }

    #[test]
    fn what_hangs_below_a_pruned_node_is_pruned() {
        let tree = Tree::from_parents(&[vec![Some(0), None], below(&[1, 0, 1])]).unwrap();
        assert_eq!((tree.labels(), tree.num_labels()), (&[1][..], 3));
    }

    #[test]
    fn a_parent_that_does_not_exist_is_refused() {
        let error = Tree::from_parents(&[below(&[0, 0]), below(&[0, 2])]).unwrap_err().to_string();
        assert!(error.contains("node 1 of level 2 hangs below node 2, but the level above has 2"), "{error}");
        assert!(Tree::from_parents(&[]).is_err());
    }

    #[test]
    fn a_number_of_labels_that_the_leaves_do_not_back_is_refused() {
        for num_labels in [1 << 30, usize::MAX] {
            let error = Tree::new(vec![vec![0, 1]], vec![3], num_labels).unwrap_err().to_string();
            assert!(error.contains("1 leaves for"), "{error}");
        }
        assert!(Tree::new(vec![vec![0, 1]], vec![3], 1 << 20).is_ok());
    }
}

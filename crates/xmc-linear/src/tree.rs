//! The label tree: which node is whose child, and which label is which leaf.
//!
//! Nodes of a level are numbered so that the children of one parent are neighbours and parents keep their order.
//! Then a level is one array of offsets: `children(t, p)` is a range of the nodes of level `t + 1`.

use std::ops::Range;

use xmc_data::{Error, Result};

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

    /// Child offsets of level `t < depth()`: `[width(t) + 1]`.
    pub fn offsets(&self, t: usize) -> &[u32] {
        &self.offsets[t]
    }

    /// Children of node `parent` of level `t`, as nodes of level `t + 1`.
    pub fn children(&self, t: usize, parent: usize) -> Range<usize> {
        self.offsets[t][parent] as usize..self.offsets[t][parent + 1] as usize
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

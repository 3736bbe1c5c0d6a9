//! How do edges learn? (spec: ELIAS, 2.1)
//!
//! With G_e = sum over the paths through edge e of d loss / d log s, or 0 where the score of the edge is held at 1:
//!
//! ```text
//! d loss / d a_e = G_e - softmax(a)_e sum_e' G_e'        over the edges e' of the same cluster
//! ```
//!
//! G is a sum over rows; it is made cluster by cluster, rows in their order, when all parts of a step are there. So its
//! order does not depend on threads, and nothing as long as all edges is kept between parts.

use rayon::prelude::*;

use super::graph::Graph;
use super::paths::Paths;

/// Clusters of a task.
const TASK: usize = 16;

/// d loss / d log s of paths, grouped by row and cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct EdgeSlopes {
    /// (cluster, end of its group), groups in the order of the rows.
    groups: Vec<(u32, usize)>,
    /// Places of the edges among those of the cluster.
    edges: Vec<u32>,
    slopes: Vec<f32>,
}

/// Paths of one row through one cluster: places of edges, and slopes.
#[derive(Clone, Copy)]
struct Group<'a> {
    cluster: u32,
    edges: &'a [u32],
    slopes: &'a [f32],
}

impl EdgeSlopes {
    /// Adds those of one row: its paths with their `slopes`.
    pub(super) fn push_row(&mut self, paths: &Paths, row: usize, slopes: &[f32]) {
        let chosen = paths.chosen(row);
        let range = paths.indptr[row]..paths.indptr[row + 1];
        let (slots, edges) = (&paths.slots[range.clone()], &paths.edges[range]);
        // A counting sort by cluster of the row.
        let mut next = vec![0; chosen.len() + 1];
        for &slot in slots {
            next[slot as usize + 1] += 1;
        }
        let first = self.edges.len();
        for (slot, chosen) in chosen.iter().enumerate() {
            next[slot + 1] += next[slot];
            if next[slot + 1] > next[slot] {
                self.groups.push((chosen.cluster, first + next[slot + 1]));
            }
        }
        self.edges.resize(first + edges.len(), 0);
        self.slopes.resize(first + edges.len(), 0.0);
        for ((&slot, &edge), &slope) in slots.iter().zip(edges).zip(slopes) {
            let at = first + next[slot as usize];
            (self.edges[at], self.slopes[at]) = (edge, slope);
            next[slot as usize] += 1;
        }
    }

    /// Puts those of later rows behind these.
    pub(super) fn append(&mut self, later: &EdgeSlopes) {
        let first = self.edges.len();
        self.groups.extend(later.groups.iter().map(|&(cluster, end)| (cluster, first + end)));
        self.edges.extend_from_slice(&later.edges);
        self.slopes.extend_from_slice(&later.slopes);
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let begins = std::iter::once(0).chain(self.groups.iter().map(|group| group.1));
        begins.zip(&self.groups).map(|(begin, &(cluster, end))| Group {
            cluster,
            edges: &self.edges[begin..end],
            slopes: &self.slopes[begin..end],
        })
    }
}

/// Clusters that any path goes through, rising, and d loss / d a of all their edges, one cluster behind the other.
pub(super) fn gradients<'a>(
    graph: &Graph,
    parts: impl IntoIterator<Item = &'a EdgeSlopes>,
) -> (Vec<u32>, Vec<f32>) {
    let mut groups: Vec<Group<'_>> = parts.into_iter().flat_map(EdgeSlopes::groups).collect();
    // Stable: rows of a cluster stay in their order.
    groups.sort_by_key(|group| group.cluster);
    let by_cluster: Vec<&[Group<'_>]> = groups.chunk_by(|a, b| a.cluster == b.cluster).collect();
    let touched: Vec<u32> = by_cluster.iter().map(|groups| groups[0].cluster).collect();
    let mut grads = vec![0.0; touched.iter().map(|&c| graph.edges(c).len()).sum()];
    let mut rest = grads.as_mut_slice();
    let mut tasks = Vec::with_capacity(touched.len());
    for groups in by_cluster {
        let (task, later) = rest.split_at_mut(graph.edges(groups[0].cluster).len());
        tasks.push((groups, task));
        rest = later;
    }
    tasks.par_chunks_mut(TASK).for_each_init(Vec::new, |softmax, tasks| {
        for (groups, grads) in tasks {
            cluster(graph, groups, grads, softmax);
        }
    });
    (touched, grads)
}

/// Those of one cluster.
fn cluster(graph: &Graph, groups: &[Group<'_>], grads: &mut [f32], softmax: &mut Vec<f32>) {
    let id = groups[0].cluster;
    for (edge, slope) in groups.iter().flat_map(|group| group.edges.iter().zip(group.slopes)) {
        grads[*edge as usize] += slope;
    }
    let mut total = 0.0;
    for (at, grad) in grads.iter_mut().enumerate().filter(|(_, grad)| **grad != 0.0) {
        if graph.raw(id, at) > 0.0 {
            *grad = 0.0;
        }
        total += *grad;
    }
    graph.softmax(id, softmax);
    for (grad, p) in grads.iter_mut().zip(softmax) {
        *grad -= *p * total;
    }
}

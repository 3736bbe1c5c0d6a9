//! Which labels does a cluster lead to? The adjacency of planted training rows, and edges as training would leave them.
//!
//! ```text
//! s_c(x)  = min(1, alpha softmax_c), among the `VISITS` clusters that are best for a training row x
//! S_cl    = sum of s_c over the rows of label l; a cluster keeps its `kappa` largest, a label its best cluster
//! a_cl    = edge_gain min(cosine of label and cluster, that of the cluster's `PLATEAU`-th nearest edge)
//! ```
//! The structure is that of the method: a row visits the clusters of all its labels, so many edges lead from a cluster
//! to a label that only came along with another. Values are not trained. They fall with the distance, and the nearest
//! are equal: a logit stops growing where its score reaches 1.

use anyhow::Result;
use rayon::prelude::*;
use xmc::data::{Csr, Dense, TopK};
use xmc::index::{Dtype, Filter, LabelEmbeddings, search};
use xmc::nn::{Device, Tensor};

use crate::plant::Settings;
use crate::planted::Planted;

/// Clusters that a training row visits.
const VISITS: usize = 20;
/// Training rows that are made at a time.
const BLOCK: usize = 65_536;
/// So many edges of a cluster have the same logit.
const PLATEAU: usize = 100;

/// Logits of the edges `[C, L]` from `clusters [C, d]` of length one to labels of vectors `rows [L, d]`.
pub(crate) fn edges(settings: &Settings, planted: &Planted, rows: &Dense, clusters: &[f32]) -> Result<Csr> {
    let mut visits = visits(settings, planted, rows, clusters)?;
    let best = best_clusters(&visits, rows.rows());
    visits.par_iter_mut().enumerate().for_each(|(c, visits)| {
        let own = |label: u32| best[label as usize] == c as u32;
        visits.sort_by(|a, b| own(b.0).cmp(&own(a.0)).then(b.1.total_cmp(&a.1)).then(a.0.cmp(&b.0)));
        let owned = visits.iter().take_while(|v| own(v.0)).count();
        visits.truncate(settings.kappa.max(owned));
        let centroid = &clusters[c * settings.dim..(c + 1) * settings.dim];
        for (label, value) in visits.iter_mut() {
            *value = dot(centroid, rows.row(*label as usize));
        }
        visits.sort_by(|a, b| b.1.total_cmp(&a.1));
        let most = visits.get(PLATEAU - 1).map_or(f32::INFINITY, |v| v.1);
        for (_, value) in visits.iter_mut() {
            *value = settings.edge_gain * value.min(most);
        }
        visits.sort_by_key(|v| v.0);
    });
    let mut indptr = vec![0u64];
    indptr.extend(visits.iter().scan(0, |end, v| {
        *end += v.len() as u64;
        Some(*end)
    }));
    let ids: Vec<u32> = visits.iter().flatten().map(|v| v.0).collect();
    let values: Vec<f32> = visits.iter().flatten().map(|v| v.1).collect();
    Ok(Csr::new(visits.len(), rows.rows(), indptr, ids, values)?)
}

/// For every cluster the labels that visit it, by rising id, and S_cl.
fn visits(
    settings: &Settings,
    planted: &Planted,
    rows: &Dense,
    clusters: &[f32],
) -> Result<Vec<Vec<(u32, f32)>>> {
    let dim = settings.dim;
    let matrix = LabelEmbeddings::from_values(dim, clusters, Dtype::F32)?;
    let mut visits: Vec<Vec<(u32, f32)>> = vec![Vec::new(); matrix.rows()];
    // Rows that are neither trained with nor searched for elsewhere.
    let start = settings.queries + settings.searches;
    let end = start + settings.labels;
    for first in (start..end).step_by(BLOCK) {
        let block = first..end.min(first + BLOCK);
        let x = planted.near(block.clone(), |row| planted.row_labels(row), |label| rows.row(label as usize));
        let x = Tensor::from_host(block.len(), dim, x, Device::Cpu)?;
        let found: TopK = search(&x, &matrix, VISITS, &Filter::none())?;
        for (i, row) in block.enumerate() {
            let clusters = found.row(i);
            let weight = |cosine: f32| (settings.cluster_gain * (cosine - clusters[0].1)).exp();
            let sum: f32 = clusters.iter().map(|v| weight(v.1)).sum();
            for &(c, cosine) in clusters {
                let score = (settings.alpha * weight(cosine) / sum).min(1.0);
                visits[c as usize].extend(planted.row_labels(row).map(|label| (label, score)));
            }
        }
    }
    visits.par_iter_mut().for_each(|visits| {
        visits.sort_by_key(|v| v.0);
        visits.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0.0 };
            same
        });
        visits.shrink_to_fit();
    });
    Ok(visits)
}

/// The cluster of each label that it visits most.
fn best_clusters(visits: &[Vec<(u32, f32)>], labels: usize) -> Vec<u32> {
    let mut best = vec![(0.0, u32::MAX); labels];
    for (c, visits) in visits.iter().enumerate() {
        for &(label, score) in visits {
            if score > best[label as usize].0 {
                best[label as usize] = (score, c as u32);
            }
        }
    }
    best.into_iter().map(|b| b.1).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

//! How are many texts answered? Clusters are scored by products of a block of texts and a block of clusters; the rest is
//! the [search](super::search) of single texts, side by side.
//!
//! Products round factors where single texts do not. Clusters near the best are scored again as for single texts, so that
//! both find the same ones; only the sum over all clusters differs, by less than the rounding.

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use xmc_data::TopK;
use xmc_nn::ops::matmul::{Lhs, Rhs, View, product};
use xmc_nn::{Precision, Tensor};

use super::search::{LearnedIndex, Reach, Searcher};
use crate::encoder::best_precision;
use crate::error::Result;
use crate::index::{Dtype, LabelEmbeddings};

/// Texts of a task, and of a product.
const ROWS: usize = 64;

/// Clusters of a product.
const CLUSTERS: usize = 512;

/// Searches `index` for the best of `labels`, for every row of `x [b, d]`.
pub fn search_all(index: &LearnedIndex, labels: &LabelEmbeddings, reach: Reach, x: &Tensor) -> Result<TopK> {
    let d = x.cols();
    let clusters = (x.rows() > ROWS / 4).then(|| Clusters::of(index.clusters()));
    let tasks: Vec<&[f32]> = x.host().chunks(ROWS * d.max(1)).collect();
    let parts: Vec<TopK> = tasks
        .into_par_iter()
        .map_init(
            || (Searcher::new(index, labels, reach), Vec::new()),
            |(searcher, logits), rows| {
                let mut part = TopK::new();
                if let Some(clusters) = &clusters {
                    clusters.score(rows, d, logits);
                    for (x, logits) in rows.chunks_exact(d).zip(logits.chunks_exact(index.clusters().rows()))
                    {
                        part.push_ranked(searcher.search_with(x, logits, clusters.precision)?);
                    }
                } else {
                    for x in rows.chunks_exact(d) {
                        part.push_ranked(searcher.search(x)?);
                    }
                }
                Ok(part)
            },
        )
        .collect::<Result<_>>()?;
    let mut all = TopK::new();
    for part in &parts {
        all.append(part);
    }
    Ok(all)
}

/// Clusters laid out for products.
struct Clusters {
    blocks: Vec<Rhs>,
    precision: Precision,
    rows: usize,
    /// `[C]`
    biases: Vec<f32>,
}

impl Clusters {
    fn of(clusters: &LabelEmbeddings) -> Self {
        let (c, d) = (clusters.rows(), clusters.dim() - 1);
        let precision = if clusters.dtype() == Dtype::F32 { Precision::F32 } else { best_precision() };
        let starts: Vec<usize> = (0..c).step_by(CLUSTERS).collect();
        let blocks: Vec<(Rhs, Vec<f32>)> = starts
            .par_iter()
            .map(|&start| {
                let rows = start..c.min(start + CLUSTERS);
                let (mut values, mut biases) = (Vec::with_capacity(rows.len() * d), Vec::new());
                for row in rows.clone() {
                    let row = clusters.row(row);
                    values.extend_from_slice(&row[..d]);
                    biases.push(row[d]);
                }
                let mut rhs = Rhs::new(precision);
                rhs.fill(View::new(&values, rows.len(), d).t());
                (rhs, biases)
            })
            .collect();
        let (blocks, biases): (Vec<Rhs>, Vec<Vec<f32>>) = blocks.into_iter().unzip();
        Clusters { blocks, precision, rows: c, biases: biases.concat() }
    }

    /// Logits `[b, C]` of texts `x [b, d]`.
    fn score(&self, x: &[f32], d: usize, logits: &mut Vec<f32>) {
        let texts = x.len() / d;
        let mut lhs = Lhs::new(self.precision);
        lhs.fill(View::new(x, texts, d));
        logits.clear();
        (0..texts).for_each(|_| logits.extend_from_slice(&self.biases));
        for (n, block) in self.blocks.iter().enumerate() {
            product(&lhs, block, 0..texts, &mut logits[n * CLUSTERS..], self.rows, true);
        }
    }
}

//! k-means of one group of rows.
//!
//! Row i goes to the part c with the largest `<c_c, z_i> - bias_c`, ties to the first. Spherical: c_c is the sum of the
//! part's rows scaled to length one and there is no bias; otherwise c_c is their mean and bias_c is half its square,
//! which makes the part with the nearest mean win. The first centroids are rows drawn at random.
//!
//! Sparse centroids stand in blocks of 32 parts, and in a block feature by feature: an entry of a row meets 32 parts in
//! one run of neighbouring numbers, whose scores stay in registers. Cost per round: nnz(z) * k multiplications;
//! memory 4 d k bytes.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::config::ClusterConfig;
use super::dot::{WIDE, Wide, add_scaled, dot};
use super::random::Draws;
use super::rows::Rows;

/// Rows a parallel task assigns.
const ROWS_PER_TASK: usize = 256;
/// Part of a row that is in none yet.
const NONE: u32 = u32::MAX;

/// Positions of the rows of each part, rising; at most `unbalanced_branching` parts, none empty.
pub(super) fn k_means(rows: &Rows<'_>, config: &ClusterConfig, draws: &mut Draws) -> Vec<Vec<u32>> {
    let m = rows.len();
    let k = config.unbalanced_branching.min(m);
    let mut order: Vec<u32> = (0..m as u32).collect();
    for i in 0..k {
        order.swap(i, i + draws.below((m - i) as u32) as usize);
    }
    let mut part_of = vec![NONE; m];
    for (part, &p) in order[..k].iter().enumerate() {
        part_of[p as usize] = part as u32;
    }
    let mut parts = members(&part_of, k);
    for _ in 0..config.max_iterations {
        let centroids = Centroids::new(rows, &parts, config.spherical);
        let mut new = part_of.clone();
        new.par_chunks_mut(ROWS_PER_TASK).enumerate().for_each(|(task, parts)| {
            let mut scores = centroids.biases.clone();
            for (i, part) in parts.iter_mut().enumerate() {
                *part = centroids.best(rows, task * ROWS_PER_TASK + i, *part, &mut scores);
            }
        });
        if new == part_of {
            break;
        }
        part_of = new;
        parts = members(&part_of, k);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Positions by part.
fn members(part_of: &[u32], k: usize) -> Vec<Vec<u32>> {
    let mut parts = vec![Vec::new(); k];
    for (p, &part) in part_of.iter().enumerate() {
        if let Some(part) = parts.get_mut(part as usize) {
            part.push(p as u32);
        }
    }
    parts
}

/// Centroids of k parts.
struct Centroids {
    /// `[ceil(k / 32), d]`.
    sparse: Vec<Wide>,
    num_features: usize,
    /// One per part, `[d_dense]`.
    dense: Vec<Vec<f32>>,
    /// What a sum was multiplied by to become the centroid.
    scales: Vec<f32>,
    /// Start of every score; empty parts, and what fills the last block, can never win.
    biases: Vec<Wide>,
}

impl Centroids {
    fn new(rows: &Rows<'_>, parts: &[Vec<u32>], spherical: bool) -> Self {
        let k = parts.len();
        let sums: Vec<PartSum> = parts
            .par_iter()
            .map_init(|| vec![0f32; rows.num_features()], |sum, part| PartSum::new(rows, part, sum))
            .collect();
        let blocks = k.div_ceil(WIDE);
        let mut centroids = Centroids {
            sparse: vec![[0.0; WIDE]; rows.num_features() * blocks],
            num_features: rows.num_features(),
            dense: Vec::with_capacity(k),
            scales: Vec::with_capacity(k),
            biases: vec![[f32::NEG_INFINITY; WIDE]; blocks],
        };
        for (c, (sum, part)) in sums.into_iter().zip(parts).enumerate() {
            let size = part.len().max(1) as f64;
            let scale = match (spherical, sum.square > 0.0) {
                (true, true) => (1.0 / sum.square.sqrt()) as f32,
                (true, false) => 0.0,
                (false, _) => (1.0 / size) as f32,
            };
            let (block, lane) = (c / WIDE, c % WIDE);
            for (f, v) in sum.sparse {
                centroids.sparse[block * rows.num_features() + f as usize][lane] = scale * v;
            }
            centroids.dense.push(sum.dense.iter().map(|v| scale * v).collect());
            centroids.scales.push(scale);
            if !part.is_empty() {
                let bias = if spherical { 0.0 } else { -0.5 * sum.square / (size * size) };
                centroids.biases[block][lane] = bias as f32;
            }
        }
        centroids
    }

    /// Part of the row at position `p`, which was in `part` before; `scores` is for use in here.
    fn best(&self, rows: &Rows<'_>, p: usize, part: u32, scores: &mut [Wide]) -> u32 {
        scores.copy_from_slice(&self.biases);
        if self.num_features > 0 {
            for (scores, block) in scores.iter_mut().zip(self.sparse.chunks_exact(self.num_features)) {
                add_scaled(rows.row(p), block, scores);
            }
        }
        let scores = scores.as_flattened_mut();
        let dense = rows.dense_row(p);
        if !dense.is_empty() {
            for (score, c) in scores.iter_mut().zip(&self.dense) {
                *score += dot(dense, c);
            }
        }
        if part != NONE {
            scores[part as usize] += rows.own(p) * self.scales[part as usize];
        }
        let best = scores
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (c, &score)| if score > best.1 { (c, score) } else { best });
        best.0 as u32
    }
}

/// The sum of the rows of one part.
struct PartSum {
    /// Features and values.
    sparse: Vec<(u32, f32)>,
    dense: Vec<f32>,
    /// Its length, squared.
    square: f64,
}

impl PartSum {
    /// Adds up the rows of a part; `sum` is zero before and after.
    fn new(rows: &Rows<'_>, part: &[u32], sum: &mut [f32]) -> Self {
        let mut dense = vec![0f32; rows.dense_cols()];
        let (mut features, mut square) = (Vec::new(), 0f64);
        for &p in part {
            let row = rows.row(p as usize);
            features.extend_from_slice(row.indices);
            for (f, v) in row.iter() {
                sum[f as usize] += v;
            }
            for (total, v) in dense.iter_mut().zip(rows.dense_row(p as usize)) {
                *total += v;
            }
            square += f64::from(rows.own(p as usize));
        }
        // A feature comes as often as rows have it; all but the first time its sum has been taken.
        let taken = features.into_iter().map(|f| (f, std::mem::take(&mut sum[f as usize])));
        let sparse: Vec<(u32, f32)> = taken.filter(|&(_, v)| v != 0.0).collect();
        let values = sparse.iter().map(|&(_, v)| v).chain(dense.iter().copied());
        square += values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>();
        PartSum { sparse, dense, square }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;
    use xmc_data::{Csr, CsrBuilder, Dense};

    /// Three far-apart directions, `per_direction` rows of each in turn, each with a feature of its own.
    fn three_directions(per_direction: u32) -> Csr {
        let mut b = CsrBuilder::new();
        for i in 0..3 * per_direction {
            b.push([(i % 3, 1.0), (3 + i, 0.2)]);
        }
        let mut rows = b.finish(3 + 3 * per_direction as usize).unwrap();
        rows.normalize_rows();
        rows
    }

    fn parts_of(z: &Features, config: &ClusterConfig, seed: u32) -> Vec<Vec<u32>> {
        let positions: Vec<u32> = (0..z.rows() as u32).collect();
        k_means(&Rows::all(z).select(&positions).0, config, &mut Draws::new(seed))
    }

    #[test]
    fn parts_cover_every_row_once_and_follow_the_directions() {
        for spherical in [true, false] {
            let config = ClusterConfig { unbalanced_branching: 12, spherical, ..ClusterConfig::default() };
            let z = three_directions(20).into();
            let parts = parts_of(&z, &config, 1);
            assert!((2..=12).contains(&parts.len()));
            let mut seen: Vec<u32> = parts.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..60).collect::<Vec<_>>());
            for part in parts {
                assert!(part.iter().all(|p| p % 3 == part[0] % 3), "{part:?}");
            }
        }
    }

    #[test]
    fn dropped_and_dense_features_do_not_change_the_parts() {
        let config = ClusterConfig { unbalanced_branching: 5, ..ClusterConfig::default() };
        let sparse = three_directions(20);
        let dense: Vec<f32> = sparse.iter().flat_map(|row| (0..63).map(move |c| row.get(c))).collect();
        let dense = Features::new(Csr::empty(60, 0), Some(Dense::new(60, 63, dense).unwrap())).unwrap();
        for seed in 0..5 {
            let view = k_means(&Rows::all(&sparse.clone().into()), &config, &mut Draws::new(seed));
            assert_eq!(view, parts_of(&sparse.clone().into(), &config, seed));
            assert_eq!(view, parts_of(&dense, &config, seed));
        }
    }
}

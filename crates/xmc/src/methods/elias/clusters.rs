//! Which labels are close to one another? (spec: ELIAS, 2.3)
//!
//! ```text
//! z_l = u_l / |u_l|,  u_l = sum over rows i with label l of [e_i / |e_i| , w_i / |w_i|]      [L, d + f]
//! ```
//!
//! e_i is the embedding of row i, once there is an encoder that knows something of the labels, and w_i its words. Labels
//! are then halved again and again by spherical 2-means of their z, into C = 2^ceil(log2(L / max_leaf_size)) clusters
//! whose sizes differ by at most one. Balanced 2-means is that of XR-Linear's trees.

use std::path::Path;

use xmc_data::formats::npz;
use xmc_data::{Csr, CsrBuilder, Dense};
use xmc_linear::Features;
use xmc_linear::cluster::{ClusterConfig, build_tree};
use xmc_linear::label_features;

use super::config::Clustering;
use super::estimate;
use crate::error::{Error, Result};
use crate::methods::xr_linear::within;
use crate::run::Artifact;

/// Name of the file, in a stage and as the end of a run.
pub(super) const CLUSTERS: &str = "clusters.npz";

/// Every label in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clusters {
    /// C
    pub(super) count: usize,
    /// `[L]`: the cluster of each label.
    pub(super) of_label: Vec<u32>,
}

/// Rows z `[L, d + f]` of labels from words `[n, f]` and embeddings `[n, d]` of the training rows, and their labels
/// `y [n, L]`.
pub(super) fn centroids(words: &Features, embeddings: Option<&Dense>, y: &Csr) -> Result<Features> {
    let x = match embeddings {
        Some(x) => words.beside(unit_rows(x)?)?,
        None => words.clone(),
    };
    Ok(label_features::centroids(&x, y)?)
}

/// Every row divided by its norm; zero rows stay zero.
pub(super) fn unit_rows(x: &Dense) -> Result<Dense> {
    let (rows, cols) = (x.rows(), x.cols());
    let mut values = x.values().to_vec();
    for row in values.chunks_mut(cols.max(1)) {
        let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm > 0.0 {
            for v in row {
                *v = (f64::from(*v) / norm) as f32;
            }
        }
    }
    Ok(Dense::new(rows, cols, values)?)
}

impl Clusters {
    /// How many clusters [`Clusters::grow`] makes of `labels` labels.
    pub(super) fn number(labels: usize, config: &Clustering) -> usize {
        estimate::clusters(labels, Self::max_leaf_size(labels, config))
    }

    fn max_leaf_size(labels: usize, config: &Clustering) -> usize {
        config.max_leaf_size.min(labels.div_ceil(2)).max(1)
    }

    /// Groups the labels whose rows are `z [L, d + f]`; two clusters at least, unless there is one label.
    pub(super) fn grow(z: &Features, config: &Clustering, seed: u64) -> Result<Self> {
        let labels = z.rows();
        let config = ClusterConfig {
            max_leaf_size: Self::max_leaf_size(labels, config),
            spherical: config.spherical,
            max_iterations: config.max_iterations,
            // No levels above the clusters.
            min_codes: 1,
            ..ClusterConfig::default()
        };
        let tree = build_tree(z, &config, seed).map_err(|e| within("cluster", e))?;
        let mut of_label = vec![0; labels];
        if tree.depth() == 1 {
            return Ok(Clusters { count: 1, of_label });
        }
        for (&label, cluster) in tree.labels().iter().zip(tree.parents(tree.depth())) {
            of_label[label as usize] = cluster;
        }
        Ok(Clusters { count: tree.width(tree.depth() - 1), of_label })
    }

    /// Takes a matrix `[C, L]` that has one entry for every label.
    pub(super) fn of_matrix(matrix: &Csr, path: &Path) -> Result<Self> {
        let mut of_label = vec![u32::MAX; matrix.cols()];
        for (cluster, row) in matrix.iter().enumerate() {
            for (label, _) in row.iter().filter(|&(_, v)| v != 0.0) {
                let place = &mut of_label[label as usize];
                if *place != u32::MAX {
                    let problem = format!("label {label} is in clusters {place} and {cluster}, expected one");
                    return Err(Error::file(path, problem));
                }
                *place = cluster as u32;
            }
        }
        match of_label.iter().position(|&cluster| cluster == u32::MAX) {
            Some(label) => {
                Err(Error::file(path, format!("label {label} is in none of the {} clusters", matrix.rows())))
            }
            None => Ok(Clusters { count: matrix.rows(), of_label }),
        }
    }

    /// Reads the matrix that the setting `files.clusters` names, for `labels` labels.
    pub(super) fn read(path: &Path, labels: usize) -> Result<Self> {
        let matrix = npz::read(path)?;
        if matrix.cols() != labels {
            let problem = format!("{} columns, expected {labels}, one for each label", matrix.cols());
            return Err(Error::file(path, problem));
        }
        Clusters::of_matrix(&matrix, path)
    }

    /// The same as a matrix `[C, L]`.
    pub(super) fn matrix(&self) -> Result<Csr> {
        let mut members = vec![Vec::new(); self.count];
        for (label, &cluster) in self.of_label.iter().enumerate() {
            members[cluster as usize].push((label as u32, 1.0));
        }
        let mut matrix = CsrBuilder::new();
        for labels in members {
            matrix.push(labels);
        }
        Ok(matrix.finish(self.of_label.len())?)
    }
}

impl Artifact for Clusters {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(npz::write(&dir.join(CLUSTERS), &self.matrix()?)?)
    }

    fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CLUSTERS);
        Clusters::of_matrix(&npz::read(&path)?, &path)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn sparse(rows: &[Vec<f32>]) -> Csr {
        let mut m = CsrBuilder::new();
        for row in rows {
            m.push((0..).zip(row.iter().copied()).filter(|&(_, v)| v != 0.0));
        }
        m.finish(rows[0].len()).unwrap()
    }

    fn dense(rows: &[Vec<f32>]) -> Dense {
        Dense::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
    }

    /// Words with rows of length 1, as training makes them.
    fn words(rows: &[Vec<f32>]) -> Features {
        let mut words = sparse(rows);
        words.normalize_rows();
        words.into()
    }

    #[test]
    fn centroids_are_the_recorded_ones() {
        #[derive(Deserialize)]
        #[allow(non_snake_case, reason = "names of the file")]
        struct Golden {
            bow: Vec<Vec<f32>>,
            dense: Vec<Vec<f32>>,
            Y: Vec<Vec<f32>>,
            centroids_bow: Vec<Vec<f32>>,
            centroids_dense_bow: Vec<Vec<f32>>,
        }
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/elias_centroids.json")).unwrap();
        let (x, y) = (words(&golden.bow), sparse(&golden.Y));
        let close = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} {b}"));
        };
        let row = |z: &Features, l: usize, f: usize| -> Vec<f32> {
            (0..f as u32).map(|f| z.sparse().row(l).get(f)).collect()
        };
        let z = centroids(&x, None, &y).unwrap();
        for (l, expected) in golden.centroids_bow.iter().enumerate() {
            close(&row(&z, l, expected.len()), expected);
        }
        let z = centroids(&x, Some(&dense(&golden.dense)), &y).unwrap();
        for (l, expected) in golden.centroids_dense_bow.iter().enumerate() {
            let d = golden.dense[0].len();
            close(z.dense_row(l), &expected[..d]);
            close(&row(&z, l, golden.bow[0].len()), &expected[d..]);
        }
    }

    #[test]
    fn there_are_as_many_clusters_as_the_formula_says_and_they_are_balanced() {
        // No words: labels are divided in their order, which costs nothing.
        let grow = |labels: usize, max_leaf_size: usize| {
            let config = Clustering { max_leaf_size, ..Clustering::default() };
            let clusters = Clusters::grow(&Csr::empty(labels, 1).into(), &config, 0).unwrap();
            assert_eq!(clusters.count, Clusters::number(labels, &config));
            clusters
        };
        assert_eq!(grow(131_073, 100).count, 2048);
        assert_eq!(grow(670_091, 100).count, 8192);
        assert_eq!(grow(2_812_281, 100).count, 32_768);
        assert_eq!((grow(1, 100).count, grow(2, 100).count, grow(100, 100).count), (1, 2, 2));
        let clusters = grow(1001, 100);
        let mut sizes = vec![0; clusters.count];
        clusters.of_label.iter().for_each(|&c| sizes[c as usize] += 1);
        assert_eq!((sizes.len(), sizes.iter().min(), sizes.iter().max()), (16, Some(&62), Some(&63)));
    }

    #[test]
    fn labels_with_the_same_words_share_a_cluster() {
        let rows: Vec<Vec<f32>> =
            (0..8).map(|l| (0..2).map(|f| if l % 2 == f { 1.0 } else { 0.0 }).collect()).collect();
        let config = Clustering { max_leaf_size: 4, ..Clustering::default() };
        // Two first centroids that are alike tell nothing apart: about every second seed draws different ones.
        let together = (0..6).filter(|&seed| {
            let clusters = Clusters::grow(&words(&rows), &config, seed).unwrap();
            assert_eq!(clusters.count, 2);
            (2..8).all(|l| clusters.of_label[l] == clusters.of_label[l - 2])
        });
        assert!(together.count() > 1);
    }

    #[test]
    fn clusters_come_back_from_their_file_and_bad_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = Clusters { count: 3, of_label: vec![2, 0, 2, 0, 2] };
        clusters.save(dir.path()).unwrap();
        assert_eq!(Clusters::load(dir.path()).unwrap(), clusters);
        let path = dir.path().join(CLUSTERS);
        assert_eq!(Clusters::read(&path, 5).unwrap(), clusters);
        let message = Clusters::read(&path, 6).unwrap_err().to_string();
        assert!(message.contains("5 columns, expected 6, one for each label"), "{message}");
        let refused = |rows: &[Vec<f32>]| Clusters::of_matrix(&sparse(rows), &path).unwrap_err().to_string();
        assert!(refused(&[vec![1.0, 1.0], vec![0.0, 1.0]]).contains("label 1 is in clusters 0 and 1"));
        assert!(refused(&[vec![1.0, 0.0], vec![1.0, 0.0]][..1]).contains("label 1 is in none of the 1"));
    }
}

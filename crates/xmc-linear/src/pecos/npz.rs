//! A level from `W.npz` and `C.npz`.

use std::path::Path;

use xmc_data::formats::npz;
use xmc_data::{Csr, Error, Result};

use super::params::LevelParams;
use super::{Layer, believe, check_width};
use crate::store::ChunkWeights;

pub(super) fn read(params: &LevelParams) -> Result<Layer> {
    let file = params.folder.join("W.npz");
    // [L_t, d + 1]: a row is a node.
    let weights = transposed(&file, &npz::read(&file)?)?;
    let num_nodes = weights.rows();
    let Some(num_features) = weights.cols().checked_sub(usize::from(params.bias > 0.0)) else {
        return Err(Error::file(&file, "no rows, expected one for every feature and one for the bias"));
    };
    let below = hierarchy(params, num_nodes)?;
    let offsets: Vec<usize> = below.indptr().iter().map(|&at| at as usize).collect();
    check_width(&file, &offsets)?;
    let chunks = below.iter().map(|children| chunk(&weights, children.indices, num_features)).collect();
    Ok(Layer { offsets, children: below.indices().to_vec(), num_nodes, chunks, num_features })
}

/// `[L_{t-1}, L_t]`: the children of every parent. A first level without the file has one parent for all.
fn hierarchy(params: &LevelParams, num_nodes: usize) -> Result<Csr> {
    let file = params.folder.join("C.npz");
    if !file.exists() && params.folder.ends_with("0.model") {
        let all: Vec<u32> = (0..num_nodes as u32).collect();
        return Csr::new(1, num_nodes, vec![0, num_nodes as u64], all, vec![1.0; num_nodes]);
    }
    let clusters = npz::read(&file)?;
    if clusters.rows() != num_nodes {
        let found = clusters.rows();
        return Err(Error::file(&file, format!("{found} rows, but W.npz has {num_nodes} columns")));
    }
    transposed(&file, &clusters)
}

fn transposed(file: &Path, m: &Csr) -> Result<Csr> {
    believe(file, m.cols(), m.nnz())?;
    Ok(m.transpose())
}

/// The weights of `children`, by feature.
fn chunk(weights: &Csr, children: &[u32], num_features: usize) -> ChunkWeights {
    let mut chunk = ChunkWeights { bias: vec![0.0; children.len()], ..ChunkWeights::default() };
    for ((c, &node), bias) in children.iter().enumerate().zip(&mut chunk.bias) {
        for (feature, weight) in weights.row(node as usize).iter() {
            if feature as usize == num_features {
                *bias = weight;
            } else {
                chunk.entries.push((feature, c as u16, weight));
            }
        }
    }
    chunk.entries.sort_unstable_by_key(|&(feature, child, _)| (feature, child));
    chunk
}

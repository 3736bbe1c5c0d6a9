//! How is an XR-Linear model of libpecos opened? (spec: XR-Linear, 2 and 6.3; checked against libpecos 1.2.8)
//!
//! ```text
//! param.json                   names the Python class
//! ranker/param.json            model = HierarchicalMLModel, depth, is_mmap
//! ranker/{t}.model/param.json  bias, pred_kwargs: only_topk, post_processor
//! ranker/{t}.model/W.npz       [d + 1, L_t], csc: a node's weights, its bias last     (or W.mmap_store)
//! ranker/{t}.model/C.npz       [L_t, L_{t-1}], csc: which node hangs below which      (or C.mmap_store)
//! ```
//! Both forms are read: the npz files that training leaves, and the one made by `compile_mmap_model`.
//!
//! libpecos numbers the nodes of a level freely and finds the children of a node by rising number. Here nodes are
//! renumbered from the root down: parents keep their order, and the children of each follow by rising number. With
//! nodes in this order, the candidates of a beam stand as in libpecos: below the best parent first, then by
//! number; that is also its order among equal scores. Nodes without a parent (pruned) are dropped.
//!
//! Weights stay f32, so that scores agree to rounding.

mod mmap;
mod npz;
mod params;

use std::path::Path;

use crate::store::{Chunk, ChunkWeights, LevelBuilder, Packing, Precision, TreeModel};
use crate::tree::Tree;
use xmc_data::{Error, Result};

use self::params::{LevelParams, Ranker};

/// A matrix with a longer side must have an entry for every `LEAST_SHARE` of it.
const PLAUSIBLE: usize = 1 << 24;
const LEAST_SHARE: usize = 64;

/// One level as libpecos stores it, nodes by libpecos' numbers.
struct Layer {
    /// `[L_{t-1} + 1]`: where the children of every parent begin in `children`.
    offsets: Vec<usize>,
    /// Children of all parents.
    children: Vec<u32>,
    /// L_t, with pruned nodes.
    num_nodes: usize,
    /// `[L_{t-1}]`: the weights of every parent's children, in the order of `children`.
    chunks: Vec<ChunkWeights>,
    /// Features, without the constant one.
    num_features: usize,
}

impl Layer {
    /// Most children of one parent.
    fn widest(offsets: &[usize]) -> usize {
        offsets.windows(2).map(|w| w[1].saturating_sub(w[0])).max().unwrap_or(0)
    }

    fn children(&self, parent: u32) -> &[u32] {
        let at = |i: usize| self.offsets.get(i).copied().unwrap_or(0);
        self.children.get(at(parent as usize)..at(parent as usize + 1)).unwrap_or(&[])
    }
}

/// Refuses a number of rows, columns or features that the stored entries do not back: memory would follow it.
fn believe(file: &Path, claimed: usize, entries: usize) -> Result<()> {
    if claimed > PLAUSIBLE && claimed / LEAST_SHARE > entries {
        return Err(Error::file(file, format!("damaged: a side of {claimed} for {entries} entries")));
    }
    Ok(())
}

/// Refuses a parent with more children than a chunk can number.
fn check_width(file: &Path, offsets: &[usize]) -> Result<()> {
    let (widest, most) = (Layer::widest(offsets), Packing::Wide.most_children());
    if widest > most {
        let problem =
            format!("one node has {widest} children, at most {most} are supported: train with a tree");
        return Err(Error::file(file, problem));
    }
    Ok(())
}

/// Refuses a level in which a node hangs below two others: nodes would multiply from level to level.
fn check_parents(folder: &Path, layer: &Layer) -> Result<()> {
    let mut hangs = vec![false; layer.num_nodes];
    for &node in &layer.children {
        match hangs.get_mut(node as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Error::file(folder, format!("damaged: node {node} hangs below two others"))),
        }
    }
    Ok(())
}

/// True if `path` is a model folder of libpecos, or the ranker folder inside one.
pub fn is_pecos_model(path: &Path) -> bool {
    params::ranker_folder(path).is_some()
}

/// Opens a model folder of libpecos; takes the time of reading all of it.
pub fn open(path: &Path) -> Result<TreeModel> {
    let ranker = Ranker::open(path)?;
    let params: Vec<LevelParams> = (0..ranker.depth).map(|t| ranker.level(t)).collect::<Result<_>>()?;
    // One constant feature serves all levels; a level with another value has its biases scaled to it.
    let bias = params.iter().map(|p| p.bias).fold(0.0, f32::max);
    let mut order = vec![0u32];
    let mut offsets = Vec::with_capacity(params.len());
    let mut levels = Vec::with_capacity(params.len());
    let (mut parents, mut features) = (1, None);
    for p in &params {
        let mut layer = if ranker.is_mmap { mmap::read(p)? } else { npz::read(p)? };
        if layer.offsets.len() != parents + 1 {
            let found = layer.offsets.len().saturating_sub(1);
            let problem = format!("its nodes hang below {found} others, but the level above has {parents}");
            return Err(Error::file(&p.folder, problem));
        }
        check_parents(&p.folder, &layer)?;
        let expected = *features.get_or_insert(layer.num_features);
        if layer.num_features != expected {
            let found = layer.num_features;
            return Err(Error::file(
                &p.folder,
                format!("{found} features, but the first level has {expected}"),
            ));
        }
        let packing = Packing::for_level(Layer::widest(&layer.offsets), expected);
        let mut builder = LevelBuilder::new(packing, Precision::F32);
        let mut below = Vec::with_capacity(layer.children.len());
        let mut ends = vec![0u32];
        for &parent in &order {
            let mut weights = layer.chunks.get_mut(parent as usize).map(std::mem::take).unwrap_or_default();
            if p.bias != bias {
                weights.bias.iter_mut().for_each(|b| *b *= p.bias / bias);
            }
            builder.push(Chunk::new(&weights, expected, packing, Precision::F32));
            below.extend_from_slice(layer.children(parent));
            ends.push(below.len() as u32);
        }
        levels.push(builder.finish(p.post_processor, p.keep));
        offsets.push(ends);
        order = below;
        parents = layer.num_nodes;
    }
    let tree = Tree::new(offsets, order, parents).map_err(|e| Error::file(path, e.to_string()))?;
    Ok(TreeModel { tree, levels, sparse_features: features.unwrap_or(0), dense_features: 0, bias })
}

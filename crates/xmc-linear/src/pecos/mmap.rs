//! A level from `W.mmap_store` and `perm.mmap_store`, as `XLinearModel.compile_mmap_model` writes them.
//!
//! A store is a list of blocks, each at a multiple of 16 bytes; behind them the number of blocks and the (offset, size)
//! of each as u64; and in the last 16 bytes the magic `\x93PECOS`, `<` for little-endian, the version 1, and the
//! offset of the list. Blocks of the two files (`C.mmap_store` says nothing that they do not say):
//!
//! ```text
//! perm  u64 n, u32 position of each node (or the number of positions: pruned)[n], u64 m, u32 node at each position[m]
//! W     u32 chunks, u32 d + 1, u32 columns, u64 chunks, Chunk[chunks],
//!       u64, u32 feature[rows of all chunks], u64, u64 row_ptr[rows + 1 of each chunk with rows], u64, Entry[nnz]
//! ```
//! Chunk K holds the children of parent K of the level above; columns of W are positions, which `perm` maps to nodes.
//! Without that file positions are nodes. Row pointers count entries from the start of all entries.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;
use xmc_data::buffer::map_file;
use xmc_data::{Buffer, Error, Result};

use super::params::LevelParams;
use super::{Layer, believe, check_width};
use crate::store::ChunkWeights;

const MAGIC: &[u8; 8] = b"\x93PECOS<\x01";

/// Children of one parent: their columns, the features they use, and pointers that mean nothing on disk.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ChunkHead {
    begin: u32,
    end: u32,
    rows: u32,
    has_bias: u32,
    pointers: [u64; 2],
}

/// One weight: the child within its chunk.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Entry {
    child: u32,
    weight: f32,
}

pub(super) fn read(params: &LevelParams) -> Result<Layer> {
    let store = Store::open(&params.folder, "W.mmap_store", 11)?;
    let heads = store.array::<ChunkHead>(4)?;
    let columns = store.number(2)?;
    let rows = store.number(1)?;
    let Some(num_features) = rows.checked_sub(usize::from(params.bias > 0.0)) else {
        return Err(store.damaged("no room for the bias"));
    };
    let mut offsets = vec![0];
    for head in heads.iter() {
        if Some(&(head.begin as usize)) != offsets.last() || head.end < head.begin {
            return Err(store.damaged("its chunks do not follow one another"));
        }
        offsets.push(head.end as usize);
    }
    if offsets.last() != Some(&columns) {
        return Err(store.damaged("its chunks do not cover all columns"));
    }
    check_width(&store.path, &offsets)?;
    let chunks = chunks(&store, &heads, num_features)?;
    let (children, num_nodes) = nodes(params, columns)?;
    Ok(Layer { offsets, children, num_nodes, chunks, num_features })
}

/// The node at every position, and how many nodes there are with pruned ones.
fn nodes(params: &LevelParams, columns: usize) -> Result<(Vec<u32>, usize)> {
    if !params.folder.join("perm.mmap_store").exists() {
        return Ok(((0..columns as u32).collect(), columns));
    }
    let store = Store::open(&params.folder, "perm.mmap_store", 4)?;
    let (positions, nodes) = (store.array::<u32>(1)?, store.array::<u32>(3)?);
    if nodes.len() != columns || nodes.iter().any(|&n| n as usize >= positions.len()) {
        return Err(store.damaged(&format!("expected {columns} numbers below {}", positions.len())));
    }
    Ok((nodes.to_vec(), positions.len()))
}

fn chunks(store: &Store, heads: &[ChunkHead], num_features: usize) -> Result<Vec<ChunkWeights>> {
    let features = store.array::<u32>(6)?;
    believe(&store.path, num_features, features.len())?;
    let row_ptr = store.array::<u64>(8)?;
    let entries = store.array::<Entry>(10)?;
    let (mut feature_at, mut ptr_at) = (0usize, 0usize);
    heads
        .iter()
        .map(|head| {
            let rows = head.rows as usize;
            let pointers = if rows == 0 { 0 } else { rows + 1 };
            let here = (feature_at..feature_at + rows, ptr_at..ptr_at + pointers);
            (feature_at, ptr_at) = (here.0.end, here.1.end);
            let children = (head.end - head.begin) as usize;
            (features.get(here.0).zip(row_ptr.get(here.1)))
                .and_then(|(features, row_ptr)| unpack(features, row_ptr, &entries, children, num_features))
                .ok_or_else(|| store.damaged("a chunk points outside, or its features do not rise"))
        })
        .collect()
}

/// One chunk, or nothing if it does not hold together.
fn unpack(
    features: &[u32],
    row_ptr: &[u64],
    entries: &[Entry],
    children: usize,
    num_features: usize,
) -> Option<ChunkWeights> {
    let mut chunk = ChunkWeights { bias: vec![0.0; children], ..ChunkWeights::default() };
    if !features.windows(2).all(|w| w[0] < w[1]) {
        return None;
    }
    for (&feature, ends) in features.iter().zip(row_ptr.windows(2)) {
        let row = entries.get(ends[0] as usize..ends[1] as usize)?;
        let rising = row.windows(2).all(|w| w[0].child < w[1].child);
        if !rising || row.iter().any(|e| e.child as usize >= children || !e.weight.is_finite()) {
            return None;
        }
        match (feature as usize).cmp(&num_features) {
            std::cmp::Ordering::Less => {
                chunk.entries.extend(row.iter().map(|e| (feature, e.child as u16, e.weight)));
            }
            std::cmp::Ordering::Equal => row.iter().for_each(|e| chunk.bias[e.child as usize] = e.weight),
            std::cmp::Ordering::Greater => return None,
        }
    }
    Some(chunk)
}

/// An open store file.
struct Store {
    path: PathBuf,
    map: Arc<Mmap>,
    /// Offset and size of every block.
    blocks: Vec<(usize, usize)>,
}

impl Store {
    fn open(folder: &Path, name: &str, blocks: usize) -> Result<Self> {
        let path = folder.join(name);
        let map = map_file(&path)?;
        let word = |at: usize| {
            let bytes = map.get(at..at.checked_add(8)?)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        let signature = map.len().saturating_sub(16);
        let mut store = Store { path, map: Arc::clone(&map), blocks: Vec::with_capacity(blocks) };
        if map.get(signature..signature + 8) != Some(MAGIC) {
            return Err(store.damaged("its last bytes are not those of a little-endian store of version 1"));
        }
        let list = word(signature + 8).and_then(|at| usize::try_from(at).ok());
        let Some(list) = list.filter(|&at| word(at) == Some(blocks as u64)) else {
            return Err(store.damaged(&format!("expected a list of {blocks} blocks")));
        };
        for b in 0..blocks {
            let at = list + 8 + 16 * b;
            match (word(at), word(at + 8)) {
                (Some(offset), Some(size)) => store.blocks.push((offset as usize, size as usize)),
                _ => return Err(store.damaged("its list of blocks is cut off")),
            }
        }
        Ok(store)
    }

    fn damaged(&self, problem: &str) -> Error {
        Error::file(&self.path, format!("truncated or damaged: {problem}"))
    }

    fn array<T: Pod>(&self, block: usize) -> Result<Buffer<T>> {
        let (offset, size) = self.blocks.get(block).copied().unwrap_or_default();
        if !size.is_multiple_of(size_of::<T>()) {
            return Err(self.damaged(&format!("block {block} has {size} bytes")));
        }
        Buffer::mapped(&self.map, offset, size / size_of::<T>(), &self.path)
    }

    /// A block of one u32.
    fn number(&self, block: usize) -> Result<usize> {
        match self.array::<u32>(block)?[..] {
            [value] => Ok(value as usize),
            _ => Err(self.damaged(&format!("block {block} is not one number"))),
        }
    }
}

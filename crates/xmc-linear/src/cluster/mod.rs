//! Which labels belong together? From label rows to a [`Tree`].
//!
//! * [`Method::Balanced`]: labels are halved again and again by 2-means until every group holds at most
//!   `max_leaf_size`; `branching` then says how many of these halvings one level of the tree spans.
//!   XR-Linear (PECOS), algorithm 1; the same groups as libpecos for the same seed.
//! * [`Method::Unbalanced`]: k-means with many parts and few levels, Bonsai.
//! * [`read_tree`]: a tree that the user brings.
//!
//! The same seed gives the same tree at any number of threads.

mod balanced;
mod chain;
mod compact;
mod config;
mod dot;
mod given;
mod k_means;
mod random;
mod rows;
mod split;
mod sums;
mod unbalanced;

pub use balanced::balanced_widths;
pub use config::{ClusterConfig, Method};
pub use given::read_tree;

use xmc_data::Result;

use crate::features::Features;
use crate::tree::Tree;

/// Grows the tree of the labels whose rows are `z [L, d]`; no more labels than `max_leaf_size` give a flat tree.
pub fn build_tree(z: &Features, config: &ClusterConfig, seed: u64) -> Result<Tree> {
    config.check()?;
    if z.rows() <= config.max_leaf_size {
        return Ok(Tree::flat(z.rows()));
    }
    // Small seeds, which people write, stay as they are.
    let seed = (seed ^ (seed >> 32)) as u32;
    match config.method {
        Method::Balanced => balanced::grow_tree(z, config, seed),
        Method::Unbalanced => unbalanced::grow_tree(z, config, seed),
    }
}

#[cfg(test)]
mod tests;

//! How do label trees and linear rankers learn and search?
//!
//! Training flows from top to bottom of this list:
//! * [`features`]: what a row looks like: a sparse part, and a dense part beside it;
//! * [`label_features`]: what a label looks like (PIFA and others);
//! * [`cluster`]: labels to a [`tree`];
//! * [`subproblem`] and [`solver`]: one parent's rankers, sixteen labels at a time;
//! * [`post_processor`]: margins to scores.

pub mod cluster;
pub mod features;
pub mod label_features;
pub mod post_processor;
pub mod solver;
pub mod subproblem;
pub mod tree;

pub use features::Features;
pub use post_processor::PostProcessor;
pub use tree::Tree;
pub use xmc_data::{Error, Result};

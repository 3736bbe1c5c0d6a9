//! How do label trees and linear rankers learn and search?
//!
//! Training flows from top to bottom of this list:
//! * [`features`]: what a row looks like: a sparse part, and a dense part beside it;
//! * [`label_features`]: what a label looks like (PIFA and others);
//! * [`cluster`]: labels to a [`tree`];
//! * [`targets`] and [`negatives`]: which rows train which nodes;
//! * [`subproblem`] and [`solver`]: one parent's rankers, sixteen labels at a time;
//! * [`ranker`]: all levels of the tree;
//! * [`level`]: one level alone, beside an encoder;
//! * [`store`]: the model in memory and on disk;
//! * [`post_processor`] and [`search`]: margins to scores, and the best labels of a row;
//! * [`pecos`]: models trained by libpecos.

pub mod cluster;
pub mod features;
pub mod label_features;
pub mod level;
pub mod negatives;
pub mod pecos;
pub mod post_processor;
pub mod prefetch;
pub mod ranker;
pub mod search;
pub mod solver;
pub mod store;
pub mod subproblem;
pub mod targets;
pub mod tree;

pub use features::Features;
pub use level::{LevelConfig, LevelInput, LevelModel};
pub use post_processor::PostProcessor;
pub use ranker::RankerConfig;
pub use search::{Query, Searcher};
pub use store::TreeModel;
pub use tree::Tree;
pub use xmc_data::{Error, Result};

//! ELIAS (Gupta, Chen, Yu, Hsieh, Dhillon: "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
//! NeurIPS 2022, arXiv 2210.08410).
//!
//! A text goes to a few clusters, a cluster has weighted edges to labels, and only the labels with the best paths are
//! scored. Encoder, clusters, edges and label classifiers learn together.

#[cfg_attr(not(test), expect(dead_code, reason = "training is not written yet"))]
mod adjacency;
mod batch;
mod beam;
mod calibrate;
mod cluster_head;
#[cfg_attr(not(test), expect(dead_code, reason = "training is not written yet"))]
mod clusters;
mod config;
mod edge_slopes;
mod edges;
mod estimate;
mod exhaustive;
mod first;
mod graph;
mod head;
mod index;
mod keys;
mod learner;
mod merge;
mod model;
mod part;
mod path_loss;
mod paths;
mod presets;
#[expect(dead_code, reason = "training is not written yet")]
mod ranker;
mod search;
#[cfg_attr(not(test), expect(dead_code, reason = "read by the stages that follow"))]
mod stages;
#[cfg_attr(not(test), expect(dead_code, reason = "called by the stages"))]
mod training;

pub use batch::search_all;
pub use config::{
    ClassifierConfig, Clustering, EliasConfig, Files, FirstBias, Head, IndexConfig, Moments, Phase,
    RankerConfig, Stage, Stored, TrainingConfig,
};
pub use edges::Edges;
pub use estimate::{Bytes, Costs, PhaseCost, Work, costs};
pub use graph::{Graph, PAD};
pub use index::{Index, IndexOptions, Part, PartGradients, Rates, Scale, Shortlist};
pub use model::{Elias, Search, Session};
pub use presets::{PRESETS, preset};
pub use search::{LearnedIndex, Reach, Searcher};

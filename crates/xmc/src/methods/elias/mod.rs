//! ELIAS (Gupta, Chen, Yu, Hsieh, Dhillon: "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
//! NeurIPS 2022, arXiv 2210.08410).
//!
//! A text goes to a few clusters, a cluster has weighted edges to labels, and only the labels with the best paths are
//! scored. Encoder, clusters, edges and label classifiers learn together.

mod beam;
mod cluster_head;
mod config;
mod edge_slopes;
mod exhaustive;
mod first;
mod graph;
mod head;
mod index;
mod keys;
mod learner;
mod merge;
mod part;
mod path_loss;
mod paths;
#[cfg_attr(not(test), expect(dead_code, reason = "read by the stages that follow"))]
mod stages;
#[expect(dead_code, reason = "called by the stages")]
mod training;

pub use config::{
    ClassifierConfig, Clustering, EliasConfig, Files, FirstBias, Head, IndexConfig, Moments, Phase,
    RankerConfig, Stage, Stored, TrainingConfig,
};
pub use graph::{Graph, PAD};
pub use index::{Index, IndexOptions, Part, PartGradients, Rates, Scale, Shortlist};

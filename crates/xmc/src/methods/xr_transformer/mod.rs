//! XR-Transformer (Zhang, Chang, Yu, Dhillon: "Fast Multi-Resolution Transformer Fine-tuning for Extreme Multi-label Text
//! Classification", NeurIPS 2021, arXiv 2110.00685).

mod config;
mod keys;
mod presets;

pub use config::{Bootstrap, HeadLoss, MatcherConfig, Matching, TrainingConfig, XrTransformerConfig};
pub use presets::{PRESETS, preset};

//! DEXML (Gupta, Khatri, Rawat, Bhojanapalli, Jain, Dhillon: "Dual-encoders for Extreme Multi-label Classification",
//! ICLR 2024, arXiv 2310.10636).
//!
//! One encoder embeds texts and label names; a label's score is the inner product of both. What makes this work with
//! many labels is a loss in which the positives of a text do not compete, and many negatives, up to all labels.

mod config;
mod keys;
mod model;
mod presets;

pub use config::{
    CriterionKind, DexmlConfig, Head, Negatives, OfPositives, PoolBy, PoolingKind, Positives,
    PrecisionChoice, ScheduleKind, TopkSize,
};
pub use model::{Dexml, Session};
pub(crate) use model::{ENCODER, LABEL_EMBEDDINGS, reads_no_features};
pub use presets::{Preset, Scale};

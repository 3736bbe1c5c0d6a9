//! What can be typed behind `xmc augment`. Help texts come from the comments here.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::finetune::Finetune;

/// Fill in labels that are missing in a training matrix (SKIM)
///
/// A generator reads what is known of an item (its page, its article) and writes texts as users would; each is replaced by
/// its nearest real ones, and these pairs are added with a value below 1.
#[derive(Debug, Parser)]
pub(crate) struct Augment {
    #[command(subcommand)]
    pub(crate) stage: Stage,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Stage {
    Finetune(Finetune),
    SimulateBias(SimulateBias),
}

/// Take labels away as a click log would, to measure what an augmentation brings back
///
/// Writes a data set whose training rows have only the labels that a retriever shows, and whose test rows are complete;
/// beside it the pairs that were hidden, and the labels that a biased test would have (for `xmc evaluate --biased`).
#[derive(Debug, Parser)]
pub(crate) struct SimulateBias {
    /// Dataset folder with complete labels.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Folder for the biased data set.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Labels that are shown for a training row.
    #[arg(long, value_name = "K", default_value_t = 200)]
    pub(crate) topk: usize,
    /// Labels that are shown for a test row.
    #[arg(long, value_name = "K", default_value_t = 100)]
    pub(crate) test_topk: usize,
    /// Keep what is shown with the probability sigmoid(slope * score): missing not at random.
    #[arg(long, conflicts_with = "mar")]
    pub(crate) mnar: bool,
    /// Keep as many pairs, any of them: missing at random.
    #[arg(long)]
    pub(crate) mar: bool,
    /// Slope of the sigmoid of --mnar.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) slope: f32,
    /// Encoder folder, or a model that has one, that shows labels; words (tf-idf) if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) encoder: Option<PathBuf>,
    /// Seed of all chance.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

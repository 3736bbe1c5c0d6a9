//! What does a pass over a batch read, and which buffers does it write?

use super::config::Config;
use super::places::Places;
use super::relative::DistanceBias;
use super::weights::LayerWeights;
use crate::batch::Batch;
use crate::dropout::DropoutKey;

/// Everything that all chunks of a pass read.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a Config,
    pub(crate) places: &'a Places,
    pub(crate) params: &'a [f32],
    /// For y = x W^T.
    pub(crate) weights: &'a [LayerWeights],
    pub(crate) relative: Option<&'a DistanceBias>,
    pub(crate) batch: &'a Batch,
    pub(crate) dropout: Option<DropoutKey>,
}

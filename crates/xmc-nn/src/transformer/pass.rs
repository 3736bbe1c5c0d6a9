//! What does a pass over a batch read, and which buffers does it write?

use std::sync::{Mutex, PoisonError};

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

/// Buffers that outlive a pass: taken by a task, given back when it is done. Content never matters, only memory.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(crate) fn new() -> Self {
        Pool(Mutex::new(Vec::new()))
    }

    /// Buffers that were given back, else new ones.
    pub(crate) fn take(&self, new: impl FnOnce() -> T) -> T {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        found.unwrap_or_else(new)
    }

    pub(crate) fn give(&self, buffers: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }
}

/// The first `len` floats of a buffer that grows if it must.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

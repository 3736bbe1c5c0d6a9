//! Where do buffers wait for their next use? In pools, so that a pass allocates nothing after the first few.

use std::sync::{Mutex, PoisonError};

/// Buffers that outlive their use: taken by a task, given back when it is done. Content never matters, only memory.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
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

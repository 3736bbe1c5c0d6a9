//! How do gradients become better parameters?
//!
//! * [`AdamW`] moves all parameters of a model in one pass over memory;
//! * [`RowAdamW`] moves only the rows of a label matrix that were touched;
//! * [`LearningRate`] says how far, step by step;
//! * [`global_norm`] and [`clip_scale`] keep a wild batch from moving them too far;
//! * [`Swa`] averages parameters over time.
//!
//! What they remember can be taken out as named runs of floats (`state`) and put back to the bit (`restore`); counters
//! are stored as the floats with the same bits.

mod adamw;
mod average;
mod clip;
mod lazy;
mod rows;
mod schedule;
mod step;

pub use adamw::AdamW;
pub use average::Swa;
pub use clip::{clip_scale, global_norm};
pub use rows::RowAdamW;
pub use schedule::{LearningRate, Schedule};
pub use step::AdamWConfig;

pub(crate) use lazy::{Lazy, Waiting};
pub(crate) use step::{Step, apply};

use crate::error::{Error, Result};

/// Floats of one task. Sums over blocks depend on it.
const BLOCK: usize = 1 << 15;

/// Takes one named run of a stored state, of a known length.
pub(crate) fn stored(
    take: &mut impl FnMut(&str) -> Option<Vec<f32>>,
    name: &str,
    len: impl Into<Option<usize>>,
) -> Result<Vec<f32>> {
    let found = take(name).ok_or_else(|| Error::Shape(format!("the stored state has no `{name}`")))?;
    match len.into() {
        Some(len) if len != found.len() => Err(Error::Shape(format!(
            "the stored `{name}` has {} numbers, this model needs {len}: is it the state of another model?",
            found.len()
        ))),
        _ => Ok(found),
    }
}

//! How likely does a decoder find a text? log p = sum over its tokens of s[token] - ln sum of exp(s), s the logits behind
//! the token before it.

use rayon::prelude::*;

use crate::batch::Batch;
use crate::decoder::{Decoder, Prefix};
use crate::error::{Error, Result};
use crate::ops::softmax::log_sum_exp;

/// Tokens whose logits are there at a time: with 49,152 ids they take 25 MB.
const ROWS: usize = 128;

/// A token that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The row of the batch that says how likely it is: that of the token before it.
    pub(crate) row: usize,
    /// Its id.
    pub(crate) next: u32,
    /// Whose it is.
    pub(crate) sequence: usize,
}

/// The tokens of every sequence from number `from` on, but never the first, which nothing precedes.
pub(crate) fn followers(batch: &Batch, from: &[usize]) -> Result<Vec<Place>> {
    if from.len() != batch.len() {
        let (found, expected) = (from.len(), batch.len());
        return Err(Error::Shape(format!(
            "beginnings of {found} sequences, expected one for each of {expected}"
        )));
    }
    let mut places = Vec::new();
    for (sequence, (ends, &from)) in batch.cu_seqlens().windows(2).zip(from).enumerate() {
        let first = ends[0].saturating_add(from.max(1)).min(ends[1]);
        places.extend((first..ends[1]).map(|t| Place { row: t - 1, next: batch.ids()[t], sequence }));
    }
    Ok(places)
}

/// Log-likelihood of every sequence of the batch: of its tokens from number `from` on, each given all before it and
/// `prefix`. The first token has nothing before it that could say how likely it is, and never counts.
///
/// # Errors
/// If the batch cannot be computed, `from` has another length, or logits are not finite.
pub fn log_likelihood(
    decoder: &Decoder,
    batch: &Batch,
    from: &[usize],
    prefix: Option<&Prefix>,
) -> Result<Vec<f64>> {
    let places = followers(batch, from)?;
    let (h, vocab) = (decoder.config().hidden, decoder.config().vocab);
    let hidden = decoder.hidden(batch, prefix)?;
    let mut sums = vec![0.0; batch.len()];
    for places in places.chunks(ROWS) {
        let rows: Vec<f32> =
            places.iter().flat_map(|p| hidden[p.row * h..(p.row + 1) * h].iter().copied()).collect();
        let logits = decoder.logits(&rows)?;
        let logs: Vec<f64> = logits
            .par_chunks_exact(vocab)
            .zip(places)
            .map(|(logits, place)| log_softmax(logits, place.next as usize))
            .collect();
        for (log, place) in logs.iter().zip(places) {
            sums[place.sequence] += log;
        }
    }
    match sums.iter().position(|sum| !sum.is_finite()) {
        Some(i) => Err(Error::Shape(format!(
            "sequence {i} of the batch has the log-likelihood {}, expected a finite number; the weights are damaged or \
             too large for the precision",
            sums[i]
        ))),
        None => Ok(sums),
    }
}

/// The logarithm of the softmax at `id`.
fn log_softmax(logits: &[f32], id: usize) -> f64 {
    let (largest, sum) = log_sum_exp(logits, (f32::NEG_INFINITY, 0.0));
    f64::from(logits[id] - largest) - sum.ln()
}

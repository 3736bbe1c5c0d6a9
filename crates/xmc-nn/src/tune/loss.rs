//! How far are predicted tokens from those that came, and which way is better?
//!
//!   s = x W^T [r, vocab]      loss = sum of (ln sum of exp(s) - s[next])      dx = scale (softmax(s) - 1[next]) W
//!
//! Rows are taken in chunks whose logits have a bounded size; a row's numbers do not depend on the others of its chunk,
//! and losses are summed in the order of rows, so chunks change no bit.

use rayon::prelude::*;

use super::Loss;
use crate::decoder::Decoder;
use crate::generate::Place;
use crate::ops::reduce::scale;
use crate::ops::softmax::{log_sum_exp, softmax_rows};
use crate::quant::Input;

/// Bytes of the logits of a chunk. The output matrix is unpacked once for each; with 49,152 ids that is for 170 rows.
const LOGITS_BYTES: usize = 32 << 20;

/// Where a gradient goes.
pub(super) struct Gradient<'a> {
    /// What it is multiplied with.
    pub(super) scale: f32,
    /// `[t, h]`; rows that no place reads stay as they are.
    pub(super) dhidden: &'a mut [f32],
}

/// The loss of `places`, given `hidden [t, h]`, and its gradient if asked for. Every row is read by one place at most.
pub(super) fn cross_entropy(
    decoder: &Decoder,
    hidden: &[f32],
    places: &[Place],
    gradient: Option<Gradient<'_>>,
) -> Loss {
    let rows = LOGITS_BYTES / size_of::<f32>() / decoder.config().vocab;
    in_chunks(decoder, hidden, places, gradient, rows.max(8))
}

/// The same with `rows` of logits at a time.
pub(super) fn in_chunks(
    decoder: &Decoder,
    hidden: &[f32],
    places: &[Place],
    mut gradient: Option<Gradient<'_>>,
    rows: usize,
) -> Loss {
    let (h, vocab, head) = (decoder.config().hidden, decoder.config().vocab, decoder.head());
    let (mut input, mut sum) = (Input::new(), 0.0);
    let mut logits = vec![0.0; places.len().min(rows) * vocab];
    for places in places.chunks(rows) {
        let mut x: Vec<f32> =
            places.iter().flat_map(|p| &hidden[p.row * h..(p.row + 1) * h]).copied().collect();
        input.dense(&x, places.len(), h, decoder.precision());
        let logits = &mut logits[..places.len() * vocab];
        head.multiply(&input, logits, false);
        let factor = gradient.as_ref().map(|gradient| gradient.scale);
        let losses: Vec<f64> = logits
            .par_chunks_exact_mut(vocab)
            .zip(places)
            .map(|(logits, place)| row_loss(logits, place.next as usize, factor))
            .collect();
        sum += losses.iter().sum::<f64>();
        if let Some(gradient) = &mut gradient {
            input.dense(logits, places.len(), vocab, decoder.precision());
            head.multiply_transposed(&input, &mut x, false);
            for (place, dx) in places.iter().zip(x.chunks_exact(h)) {
                gradient.dhidden[place.row * h..(place.row + 1) * h].copy_from_slice(dx);
            }
        }
    }
    Loss { sum, tokens: places.len() }
}

/// -ln softmax(s)[next]; with a factor, s becomes factor (softmax(s) - 1[next]).
fn row_loss(s: &mut [f32], next: usize, factor: Option<f32>) -> f64 {
    let (largest, sum) = log_sum_exp(s, (f32::NEG_INFINITY, 0.0));
    let loss = sum.ln() - f64::from(s[next] - largest);
    if let Some(factor) = factor {
        let vocab = s.len();
        softmax_rows(s, vocab);
        s[next] -= 1.0;
        scale(s, factor);
    }
    loss
}

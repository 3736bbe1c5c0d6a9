//! How is the next token of several sequences computed? One pass over all weights, by all threads as a [`Team`].
//!
//! Activations are made ready as bytes, and every product goes through the same kernel whatever the number of sequences,
//! so a sequence's logits do not depend on what is computed beside it. A layer has five phases: queries, keys and values;
//! attention; its output; the gated unit; its output. Between them the leader alone normalises and rounds, some
//! microseconds.

use std::ops::Range;
use std::sync::Arc;

use super::cache::{Cache, Shared, SharedCache};
use super::team::Team;
use crate::buffers::{Pool, sized};
use crate::decoder::Decoder;
use crate::decoder::rope::Turns;
use crate::decoder::weights::{LayerWeights, Site};
use crate::ops::reduce::add_bias;
use crate::ops::rms_norm::rms_norm;
use crate::ops::swiglu::swiglu;
use crate::quant::{Input, QuantMatrix};

/// Bytes of weights of a task: some microseconds, so that claiming it costs little and threads end together.
const TASK: usize = 32 * 1024;

/// Outputs of a task are multiples of this: whole lines of the cache.
const OUTPUTS: usize = 16;

/// Scores of the positions, one buffer for each task under way.
static SCORES: Pool<Vec<f32>> = Pool::new();

/// Activations of a step, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Step {
    stream: Vec<f32>,
    normed: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Vec<f32>,
    logits: Vec<f32>,
    input: Input,
    inner: Input,
}

/// The sequences of a step.
struct Sequences<'a> {
    caches: Vec<SharedCache<'a>>,
    turns: Arc<Turns>,
}

impl Step {
    /// Puts one token behind each sequence; returns the logits of what may follow, `[t, vocab]`.
    pub(crate) fn run(&mut self, decoder: &Decoder, caches: &mut [&mut Cache], ids: &[u32]) -> &mut [f32] {
        let (config, t) = (decoder.config(), ids.len());
        sized(&mut self.stream, t * config.hidden);
        decoder.embed(ids, &mut self.stream[..t * config.hidden]);
        let positions: Vec<usize> = caches.iter().map(|cache| cache.len()).collect();
        let turns = decoder.turns(&positions);
        let sequences = Sequences { caches: caches.iter_mut().map(|cache| cache.shared()).collect(), turns };
        Team::run(|team| {
            for (i, layer) in decoder.weights().layers.iter().enumerate() {
                self.attention(team, decoder, i, layer, &sequences);
                self.feed_forward(team, decoder, layer, t);
            }
            self.head(team, decoder, t);
        });
        drop(sequences);
        for cache in caches {
            cache.advance(1);
        }
        &mut self.logits[..t * config.vocab]
    }

    /// stream += attention(norm(stream)).
    fn attention(
        &mut self,
        team: &Team,
        decoder: &Decoder,
        index: usize,
        layer: &LayerWeights,
        sequences: &Sequences<'_>,
    ) {
        let (config, t) = (decoder.config(), sequences.caches.len());
        let (h, d) = (config.hidden, config.head_dim);
        let (q, kv, group) = (config.heads * d, config.kv_heads * d, config.heads / config.kv_heads);
        self.normalise(&layer.attention_norm, config.norm_eps, t);
        let width = q + 2 * kv;
        let projected = sized(&mut self.projected, t * width);
        let projections = [(Site::Query, 0), (Site::Key, q), (Site::Value, q + kv)]
            .map(|(site, offset)| (layer.linear(site), offset));
        {
            let out = Shared::new(projected);
            let products = projections.map(|(linear, offset)| (&linear.weight, offset));
            let strips = products.map(|(w, _)| strips(w));
            let input = &self.input;
            team.phase(strips.iter().sum(), &|mut task| {
                for ((w, offset), strips) in products.into_iter().zip(strips) {
                    if task < strips {
                        // SAFETY: no other task has these columns.
                        unsafe { product(w, input, strip(w, task), &out, offset, width, false) };
                        return;
                    }
                    task -= strips;
                }
            });
        }
        for (linear, offset) in projections.into_iter().filter(|(linear, _)| !linear.bias.is_empty()) {
            let columns = offset..offset + linear.bias.len();
            projected
                .chunks_exact_mut(width)
                .for_each(|row| add_bias(&mut row[columns.clone()], &linear.bias));
        }
        {
            let attended = Shared::new(sized(&mut self.attended, t * q));
            let rows = Shared::new(projected);
            team.phase(t * config.kv_heads, &|task| {
                let (i, head) = (task / config.kv_heads, task % config.kv_heads);
                let (cache, turns) = (&sequences.caches[i], &sequences.turns);
                let at = |from: usize, len: usize| i * width + from..i * width + from + len;
                let mut scores = SCORES.take(Vec::new);
                // SAFETY: no other task has this head of this sequence.
                unsafe {
                    let queries = rows.part(at(head * group * d, group * d));
                    let key = rows.part(at(q + head * d, d));
                    let value = rows.part(at(q + kv + head * d, d));
                    turns.turn(cache.position(), 1.0 / (d as f32).sqrt(), queries);
                    turns.turn(cache.position(), 1.0, key);
                    let out = attended.part(i * q + head * group * d..i * q + (head + 1) * group * d);
                    cache.attend(index, head, [key, value], queries, out, &mut scores);
                }
                SCORES.give(scores);
            });
        }
        self.inner.bytes(&self.attended[..t * q], t, q);
        add_products(team, &layer.linear(Site::Output).weight, &self.inner, &mut self.stream[..t * h]);
    }

    /// stream += down(silu(gate(x)) up(x)) with x = norm(stream).
    fn feed_forward(&mut self, team: &Team, decoder: &Decoder, layer: &LayerWeights, t: usize) {
        let (h, inner) = (decoder.config().hidden, decoder.config().intermediate);
        self.normalise(&layer.feed_norm, decoder.config().norm_eps, t);
        let [gate_matrix, up_matrix] = [Site::Gate, Site::Up].map(|site| &layer.linear(site).weight);
        let buffers = [&mut self.gate, &mut self.up, &mut self.gated]
            .map(|buffer| Shared::new(sized(buffer, t * inner)));
        {
            let ([gate, up, gated], input) = (&buffers, &self.input);
            team.phase(strips(gate_matrix), &|task| {
                // Tasks are those of the gate: another format would cut what it gates elsewhere.
                let columns = strip(gate_matrix, task);
                // SAFETY: no other task has these columns.
                unsafe {
                    product(gate_matrix, input, columns.clone(), gate, 0, inner, false);
                    product(up_matrix, input, columns.clone(), up, 0, inner, false);
                    for i in 0..t {
                        let part = i * inner + columns.start..i * inner + columns.end;
                        swiglu(gate.part(part.clone()), up.part(part.clone()), gated.part(part));
                    }
                }
            });
        }
        self.inner.bytes(&self.gated[..t * inner], t, inner);
        add_products(team, &layer.linear(Site::Down).weight, &self.inner, &mut self.stream[..t * h]);
    }

    /// logits = norm(stream) W^T.
    fn head(&mut self, team: &Team, decoder: &Decoder, t: usize) {
        let vocab = decoder.config().vocab;
        self.normalise(&decoder.weights().norm, decoder.config().norm_eps, t);
        let logits = Shared::new(sized(&mut self.logits, t * vocab));
        let (w, input) = (decoder.head(), &self.input);
        team.phase(strips(w), &|task| {
            // SAFETY: no other task has these columns.
            unsafe { product(w, input, strip(w, task), &logits, 0, vocab, false) };
        });
    }

    /// input = norm(stream).
    fn normalise(&mut self, weight: &[f32], eps: f32, t: usize) {
        let h = weight.len();
        let normed = sized(&mut self.normed, t * h);
        rms_norm(&self.stream[..t * h], weight, eps, normed);
        self.input.bytes(normed, t, h);
    }
}

/// `y [t, rows]` += x W^T.
fn add_products(team: &Team, w: &QuantMatrix, x: &Input, y: &mut [f32]) {
    let y = Shared::new(y);
    team.phase(strips(w), &|task| {
        // SAFETY: no other task has these columns.
        unsafe { product(w, x, strip(w, task), &y, 0, w.rows(), true) };
    });
}

/// Outputs of a task.
fn outputs(w: &QuantMatrix) -> usize {
    let row = (w.bytes() / w.rows().max(1)).max(1);
    (TASK / row / OUTPUTS * OUTPUTS).max(OUTPUTS)
}

/// Tasks of a matrix.
fn strips(w: &QuantMatrix) -> usize {
    w.rows().div_ceil(outputs(w))
}

/// Outputs of task `task`.
fn strip(w: &QuantMatrix, task: usize) -> Range<usize> {
    let outputs = outputs(w);
    task * outputs..w.rows().min((task + 1) * outputs)
}

/// The products with some rows of W: output i of token j goes to `y[j width + offset + i]`.
///
/// # Safety
/// No other thread uses these columns of y meanwhile.
unsafe fn product(
    w: &QuantMatrix,
    x: &Input,
    outputs: Range<usize>,
    y: &Shared<'_>,
    offset: usize,
    width: usize,
    add: bool,
) {
    let first = offset + outputs.start;
    let len = (x.rows().max(1) - 1) * width + outputs.len();
    // SAFETY: the caller's promise, and all rows lie inside.
    unsafe { w.multiply_to(x, outputs, y.at(first..first + len), width, add) };
}

//! How does an encoder compute and learn? One transformer for BERT, DistilBERT, RoBERTa and MPNet, driven by its
//! [`Config`], with forward and backward written out.
//!
//! | module | answers |
//! |---|---|
//! | [`config`] | which transformer is it? |
//! | `places` | where do its parameters lie and what are they called? |
//! | `weights` | weights laid out for products, once per optimiser step |
//! | `chunks` | how is a batch cut? |
//! | `embeddings`, `layer`, `attention`, `relative` | the formulas, forward and backward, for one chunk |
//! | `gradients` | how do chunks become gradients of weights? |
//! | `pass` | what do all chunks share, which buffers are used again? |
//!
//! A batch is packed; chunks of whole sequences run in parallel, each on one thread and in its cache. Forward takes
//! a chunk through all layers. Backward takes a group of chunks through a layer, then sums that layer's weight
//! gradients, in parallel over blocks of their rows. Every sum has one order, so threads do not change a bit.
//!
//! Memory in training: 3 h floats per token and layer for the tape, and for a group of chunks the operands of one
//! layer's weight gradients.

pub(crate) mod attention;
pub(crate) mod chunks;
pub mod config;
pub(crate) mod embeddings;
pub(crate) mod gradients;
pub(crate) mod layer;
pub(crate) mod pass;
pub(crate) mod places;
pub(crate) mod relative;
pub(crate) mod weights;

use std::sync::OnceLock;

use rayon::prelude::*;

pub use config::{Config, DropoutRates, Family};

use crate::batch::Batch;
use crate::buffers::{Pool, sized};
use crate::dropout::DropoutKey;
use crate::error::{Error, Result};
use crate::ops::matmul::Precision;
use crate::params::Layout;
use chunks::Chunk;
use embeddings::{EmbeddingGradients, EmbeddingTape};
use gradients::{LayerGradients, Operands};
use layer::{Layer, LayerTape, Scratch};
use pass::Pass;
use places::Places;
use relative::DistanceBias;
use weights::{Direction, LayerWeights};

/// Chunks whose weight gradients are summed together: bounds the memory of their operands.
const GROUP: usize = 16;

/// A transformer without its parameters, which belong to the model that it is a part of.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    places: Places,
    precision: Precision,
    weights: Vec<LayerWeights>,
    /// For backward; laid out when first needed.
    transposed: OnceLock<Vec<LayerWeights>>,
    relative: Option<DistanceBias>,
    scratch: Pool<Scratch>,
    tapes: Pool<ChunkTape>,
    work: Pool<Work>,
}

/// What backward needs of the forward pass of a chunk.
#[derive(Debug)]
pub(crate) struct ChunkTape {
    chunk: Chunk,
    embedding: EmbeddingTape,
    layers: Vec<LayerTape>,
}

/// Backward of a chunk, kept from layer to layer.
#[derive(Debug)]
struct Work {
    /// Gradient of the stream `[t, h]`.
    dx: Vec<f32>,
    operands: Operands,
    layer: LayerGradients,
    embedding: EmbeddingGradients,
}

impl Transformer {
    /// Appends the transformer's parameters to `layout`. Call [`Transformer::refresh`] before use.
    pub fn new(config: Config, layout: &mut Layout, precision: Precision) -> Self {
        Transformer {
            places: Places::new(&config, layout),
            weights: LayerWeights::new(config.layers, config.intermediate, precision),
            transposed: OnceLock::new(),
            relative: (config.relative_buckets > 0).then(DistanceBias::default),
            scratch: Pool::new(),
            tapes: Pool::new(),
            work: Pool::new(),
            config,
            precision,
        }
    }

    /// Sizes and choices.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Lays out weights again after `params` have changed.
    pub fn refresh(&mut self, params: &[f32]) {
        LayerWeights::fill(&mut self.weights, &self.places.layers, Direction::Forward, params);
        if let Some(transposed) = self.transposed.get_mut() {
            LayerWeights::fill(transposed, &self.places.layers, Direction::Backward, params);
        }
        if let (Some(bias), Some(at)) = (&mut self.relative, &self.places.relative) {
            bias.fill(&params[at.clone()], self.config.heads, self.config.max_positions());
        }
    }

    /// Refuses batches that cannot be computed.
    pub(crate) fn check(&self, batch: &Batch) -> Result<()> {
        let longest = self.config.max_positions();
        for (i, ends) in batch.cu_seqlens().windows(2).enumerate() {
            let ids = &batch.ids()[ends[0]..ends[1]];
            if ids.is_empty() {
                return Err(Error::Shape(format!("sequence {i} of the batch has no tokens")));
            }
            if ids.len() > longest {
                let found = ids.len();
                return Err(Error::Shape(format!(
                    "sequence {i} of the batch has {found} tokens; the encoder takes up to {longest}, truncate to that"
                )));
            }
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocab) {
                return Err(Error::Shape(format!(
                    "sequence {i} of the batch has token id {id}; the encoder's vocabulary has {}: is this its tokenizer?",
                    self.config.vocab
                )));
            }
        }
        Ok(())
    }

    /// What all chunks of a pass share.
    pub(crate) fn pass<'a>(
        &'a self,
        params: &'a [f32],
        batch: &'a Batch,
        dropout: Option<DropoutKey>,
    ) -> Pass<'a> {
        Pass {
            config: &self.config,
            places: &self.places,
            params,
            weights: &self.weights,
            relative: self.relative.as_ref(),
            batch,
            dropout,
        }
    }

    /// Runs all chunks; `finish` makes a chunk's rows of `out` (one per sequence) from its hidden states `[t, h]`.
    pub(crate) fn forward(
        &self,
        pass: &Pass<'_>,
        out: &mut [f32],
        finish: impl Fn(&Chunk, &[f32], &mut [f32]) + Sync,
    ) {
        run(pass, out, |chunk, out| {
            let mut s = self.scratch.take(|| Scratch::new(self.precision));
            let mut embedding = EmbeddingTape { z: std::mem::take(&mut s.tape.z), stats: Vec::new() };
            embeddings::forward(pass, chunk, &mut embedding, &mut s.x);
            s.tape.z = embedding.z;
            for index in 0..self.config.layers {
                let mut tape = std::mem::take(&mut s.tape);
                Layer { pass, index, chunk }.forward(&mut tape, &mut s);
                s.tape = tape;
            }
            finish(chunk, &s.x[..chunk.len() * self.config.hidden], out);
            self.scratch.give(s);
        });
    }

    /// As [`Transformer::forward`], and keeps what backward needs.
    pub(crate) fn forward_taped(
        &self,
        pass: &Pass<'_>,
        out: &mut [f32],
        finish: impl Fn(&Chunk, &[f32], &mut [f32]) + Sync,
    ) -> Vec<ChunkTape> {
        run(pass, out, |chunk, out| {
            let mut s = self.scratch.take(|| Scratch::new(self.precision));
            let mut tape = self.tapes.take(|| ChunkTape {
                chunk: chunk.clone(),
                embedding: EmbeddingTape::default(),
                layers: (0..self.config.layers).map(|_| LayerTape::default()).collect(),
            });
            tape.chunk.clone_from(chunk);
            embeddings::forward(pass, chunk, &mut tape.embedding, &mut s.x);
            for (index, layer_tape) in tape.layers.iter_mut().enumerate() {
                Layer { pass, index, chunk }.forward(layer_tape, &mut s);
            }
            finish(chunk, &s.x[..chunk.len() * self.config.hidden], out);
            self.scratch.give(s);
            tape
        })
    }

    /// Adds the gradients of all parameters to `grads`; `begin` writes the gradient of a chunk's hidden states.
    pub(crate) fn backward(
        &self,
        pass: &Pass<'_>,
        tapes: Vec<ChunkTape>,
        begin: impl Fn(&Chunk, &mut [f32]) + Sync,
        grads: &mut [f32],
    ) {
        let transposed = self.transposed.get_or_init(|| {
            let mut weights = LayerWeights::new(self.config.layers, self.config.intermediate, self.precision);
            LayerWeights::fill(&mut weights, &self.places.layers, Direction::Backward, pass.params);
            weights
        });
        for group in tapes.chunks(GROUP) {
            self.backward_group(pass, group, transposed, &begin, grads);
        }
        for tape in tapes {
            self.tapes.give(tape);
        }
    }

    fn backward_group(
        &self,
        pass: &Pass<'_>,
        group: &[ChunkTape],
        transposed: &[LayerWeights],
        begin: &(impl Fn(&Chunk, &mut [f32]) + Sync),
        grads: &mut [f32],
    ) {
        let h = self.config.hidden;
        let mut works: Vec<Work> = group.iter().map(|_| self.work.take(|| self.new_work())).collect();
        let each = |works: &mut [Work], step: &(dyn Fn(&ChunkTape, &mut Work) + Sync)| {
            works.par_iter_mut().zip(group).with_max_len(1).for_each(|(work, tape)| step(tape, work));
        };
        each(&mut works, &|tape, work| {
            work.layer.relative.fill(0.0);
            begin(&tape.chunk, sized(&mut work.dx, tape.chunk.len() * h));
        });
        for index in (0..self.config.layers).rev() {
            each(&mut works, &|tape, work| self.backward_layer(pass, index, tape, &transposed[index], work));
            let at = &self.places.layers[index];
            for work in &works {
                work.layer.add_to(at, grads);
            }
            let operands: Vec<&Operands> = works.iter().map(|work| &work.operands).collect();
            gradients::add_weight_gradients(at, &operands, grads);
        }
        each(&mut works, &|tape, work| {
            let dx = &mut work.dx[..tape.chunk.len() * h];
            embeddings::backward(pass, &tape.chunk, &tape.embedding, dx, &mut work.embedding);
        });
        for work in &works {
            embeddings::add_shared(pass, &work.embedding, grads);
            if let Some(at) = &self.places.relative {
                let reach = self.config.max_positions();
                DistanceBias::gather(reach, &work.layer.relative, self.config.heads, &mut grads[at.clone()]);
            }
        }
        let tables: Vec<_> =
            group.iter().zip(&works).map(|(tape, work)| (&tape.chunk, &work.dx[..])).collect();
        embeddings::add_tables(pass, &tables, grads);
        for work in works {
            self.work.give(work);
        }
    }

    fn backward_layer(
        &self,
        pass: &Pass<'_>,
        index: usize,
        tape: &ChunkTape,
        transposed: &LayerWeights,
        work: &mut Work,
    ) {
        let mut s = self.scratch.take(|| Scratch::new(self.precision));
        let len = tape.chunk.len() * self.config.hidden;
        let (mut x, mut stats) = (std::mem::take(&mut s.x), std::mem::take(&mut s.stats));
        let input = sized(&mut x, len);
        if index == 0 {
            embeddings::again(pass, &tape.chunk, &tape.embedding, input, &mut stats);
        } else {
            let (at, below) = (&self.places.layers[index - 1], &tape.layers[index - 1]);
            pass.norm(&at.norm, &below.z[..len], input, &mut stats);
        }
        (s.x, s.stats) = (x, stats);
        work.layer.clear();
        let layer = Layer { pass, index, chunk: &tape.chunk };
        let (dx, operands) = (&mut work.dx[..len], &mut work.operands);
        layer.backward(&tape.layers[index], transposed, dx, &mut work.layer, operands, &mut s);
        self.scratch.give(s);
    }

    fn new_work(&self) -> Work {
        Work {
            dx: Vec::new(),
            operands: Operands::new(&self.config, self.precision),
            layer: LayerGradients::new(&self.config),
            embedding: EmbeddingGradients::new(self.config.hidden),
        }
    }
}

/// Chunks in parallel, each with its rows of `out`; results in order.
fn run<T: Send>(pass: &Pass<'_>, out: &mut [f32], work: impl Fn(&Chunk, &mut [f32]) -> T + Sync) -> Vec<T> {
    let width = out.len() / pass.batch.len().max(1);
    let mut rest = out;
    let mut tasks = Vec::new();
    for chunk in chunks::chunks(pass.batch) {
        let (rows, after) = rest.split_at_mut(chunk.sequences.len() * width);
        tasks.push((chunk, rows));
        rest = after;
    }
    tasks.into_par_iter().with_max_len(1).map(|(chunk, rows)| work(&chunk, rows)).collect()
}

//! What follows the pooled vector? The pooler's layer and a projection, both optional, then length 1.

use super::TowerConfig;
use super::linear::Linear;
use super::pooler::{Pooler, PoolerTape};
use crate::dropout::DropoutKey;
use crate::ops::matmul::Precision;
use crate::params::Layout;
use crate::pool::{Pooling, normalize, normalize_backward};
use crate::transformer::Config;

/// Pooler `[h, h]`, projection `[p, h]` and norm.
#[derive(Debug)]
pub(crate) struct Head {
    pooler: Option<Pooler>,
    projection: Option<Linear>,
    normalize: bool,
    dim: usize,
}

/// What backward needs: input of the projection `[b, h]`, output `[b, dim]` and the lengths before the norm.
#[derive(Debug)]
pub(crate) struct HeadTape {
    pooler: Option<PoolerTape>,
    /// Empty without a projection.
    pooled: Vec<f32>,
    output: Vec<f32>,
    lengths: Vec<f32>,
}

impl Head {
    /// Appends the pooler and the projection to `layout`.
    pub(crate) fn new(
        transformer: &Config,
        config: TowerConfig,
        layout: &mut Layout,
        precision: Precision,
    ) -> Self {
        let hidden = transformer.hidden;
        let pooler = (config.pooling == Pooling::Pooler).then(|| Pooler::new(transformer, layout, precision));
        let projection =
            config.projection.map(|dim| Linear::new("bottleneck", hidden, dim, layout, precision));
        let dim = config.projection.unwrap_or(hidden);
        Head { pooler, projection, normalize: config.normalize, dim }
    }

    /// Width of an embedding.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Lays out the weights again.
    pub(crate) fn refresh(&mut self, params: &[f32]) {
        if let Some(pooler) = &mut self.pooler {
            pooler.refresh(params);
        }
        if let Some(projection) = &mut self.projection {
            projection.refresh(params);
        }
    }

    /// Embeddings `[b, dim]` of `pooled [b, h]`, and the tape.
    pub(crate) fn forward(&self, params: &[f32], pooled: Vec<f32>, dropout: Option<DropoutKey>) -> HeadTape {
        let (pooled, pooler) = match &self.pooler {
            None => (pooled, None),
            Some(pooler) => {
                let (pooled, tape) = pooler.forward(params, pooled, dropout);
                (pooled, Some(tape))
            }
        };
        let (pooled, mut output) = match &self.projection {
            None => (Vec::new(), pooled),
            Some(projection) => {
                let output = projection.forward(params, &pooled);
                (pooled, output)
            }
        };
        let lengths = if self.normalize {
            output.chunks_exact_mut(self.dim).map(normalize).collect()
        } else {
            Vec::new()
        };
        HeadTape { pooler, pooled, output, lengths }
    }

    /// Gradient of the pooled vectors `[b, h]` from that of the embeddings, `de [b, dim]`; adds those of the
    /// layers to `grads`. `dropout` is that of the forward pass.
    pub(crate) fn backward(
        &self,
        params: &[f32],
        tape: &HeadTape,
        de: &[f32],
        dropout: Option<DropoutKey>,
        grads: &mut [f32],
    ) -> Vec<f32> {
        let mut d = de.to_vec();
        for ((e, &length), d) in
            tape.output.chunks_exact(self.dim).zip(&tape.lengths).zip(d.chunks_exact_mut(self.dim))
        {
            normalize_backward(e, length, d);
        }
        if let Some(projection) = &self.projection {
            d = projection.backward(params, &tape.pooled, &d, grads);
        }
        match (&self.pooler, &tape.pooler) {
            (Some(pooler), Some(tape)) => pooler.backward(params, tape, d, dropout, grads),
            _ => d,
        }
    }

    /// The embeddings, without copying.
    pub(crate) fn finish(tape: HeadTape) -> Vec<f32> {
        tape.output
    }
}

impl HeadTape {
    /// The embeddings `[b, dim]`.
    pub(crate) fn output(&self) -> &[f32] {
        &self.output
    }
}

//! How can a frozen decoder change a little? Every matrix of its layers gets a product of two thin ones beside it
//! (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2022):
//!
//!   y = x W^T + s drop(x) A^T B^T,   s = alpha / r,   A [r, inputs],   B [outputs, r]
//!   dB = dy^T (s z),   dz = s dy B,   dA = dz^T drop(x),   dx += drop(dz A)      with z = drop(x) A^T
//!
//! A begins uniform in +-1 / sqrt(inputs), as the published code draws it, and B as 0: at first nothing changes.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::weights::Site;
use crate::dropout::{self, Dropout, DropoutKey};
use crate::error::{Error, Result};
use crate::ops::matmul::{Precision, Rhs, View, add_transposed, multiply};
use crate::ops::reduce::{axpy, scale};
use crate::params::Layout;

/// Size of a low-rank adapter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner width r.
    pub rank: usize,
    /// What is added is multiplied with alpha / r.
    pub alpha: f32,
    /// Share of what goes into it that training drops.
    pub dropout: f32,
}

impl LoraConfig {
    /// Refuses sizes with which nothing can learn.
    pub(crate) fn check(self) -> Result<()> {
        let LoraConfig { rank, alpha, dropout } = self;
        if rank > 0 && alpha.is_finite() && (0.0..1.0).contains(&dropout) {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "adapter of rank {rank}, alpha {alpha} and dropout {dropout}; expected a rank of at least 1, a number, and \
             a share from 0, less than 1"
        )))
    }
}

/// An adapter without its parameters, which belong to the model that it is a part of.
#[derive(Debug)]
pub(crate) struct Lora {
    config: LoraConfig,
    precision: Precision,
    /// By layer and matrix.
    factors: Vec<Factors>,
}

/// A and B of one matrix, and their layouts for products.
#[derive(Debug)]
struct Factors {
    outputs: usize,
    inputs: usize,
    a: Range<usize>,
    b: Range<usize>,
    /// A^T, A, B^T and B as right operands.
    operands: [Rhs; 4],
}

/// An adapter in a pass.
#[derive(Clone, Copy)]
pub(crate) struct Adapter<'a> {
    pub(crate) lora: &'a Lora,
    /// In training.
    pub(crate) dropout: Option<DropoutKey>,
}

impl Lora {
    /// Appends the parameters to `layout`. Call [`Lora::refresh`] before use.
    pub(crate) fn new(
        decoder: &Config,
        config: LoraConfig,
        layout: &mut Layout,
        precision: Precision,
    ) -> Self {
        let mut factors = Vec::new();
        for layer in 0..decoder.layers {
            for site in Site::ALL {
                let [outputs, inputs] = site.shape(decoder);
                let name = |factor: &str| format!("layers.{layer}.{}.lora_{factor}.weight", site.name());
                let a = layout.push(name("A"), &[config.rank, inputs]);
                let b = layout.push(name("B"), &[outputs, config.rank]);
                let operands = std::array::from_fn(|_| Rhs::new(precision));
                factors.push(Factors { outputs, inputs, a, b, operands });
            }
        }
        Lora { config, precision, factors }
    }

    /// Draws A; B becomes 0.
    pub(crate) fn draw(&self, seed: u64, params: &mut [f32]) {
        for (i, factors) in self.factors.iter().enumerate() {
            let place = xxhash_rust::xxh3::xxh3_64_with_seed(&(i as u64).to_le_bytes(), seed);
            let mut random = Pcg64Mcg::seed_from_u64(place);
            let bound = 1.0 / (factors.inputs as f32).sqrt();
            params[factors.a.clone()].fill_with(|| (random.random::<f32>() * 2.0 - 1.0) * bound);
            params[factors.b.clone()].fill(0.0);
        }
    }

    /// Adds to `weights [outputs, inputs]` of a matrix what the adapter has learned: W + s B A.
    pub(crate) fn merge(&self, layer: usize, site: Site, params: &[f32], weights: &mut [f32]) {
        let LoraConfig { rank, alpha, .. } = self.config;
        let factors = &self.factors[layer * Site::ALL.len() + site as usize];
        let (a, b) = (&params[factors.a.clone()], &params[factors.b.clone()]);
        let s = alpha / rank as f32;
        weights.par_chunks_exact_mut(factors.inputs).zip(b.par_chunks_exact(rank)).for_each(|(row, b)| {
            for (&b, a) in b.iter().zip(a.chunks_exact(factors.inputs)) {
                axpy(s * b, a, row);
            }
        });
    }

    /// Lays out the factors again after `params` have changed.
    pub(crate) fn refresh(&mut self, params: &[f32]) {
        let rank = self.config.rank;
        self.factors.par_iter_mut().for_each(|factors| {
            let a = View::new(&params[factors.a.clone()], rank, factors.inputs);
            let b = View::new(&params[factors.b.clone()], factors.outputs, rank);
            for (operand, view) in factors.operands.iter_mut().zip([a.t(), a, b.t(), b]) {
                operand.fill(view);
            }
        });
    }
}

impl Adapter<'_> {
    /// Adds to `y [t, outputs]` what the adapter makes of `x [t, inputs]`.
    pub(crate) fn forward(self, layer: usize, site: Site, x: &[f32], y: &mut [f32]) {
        let factors = self.factors(layer, site);
        let dropped = self.dropped(layer, site, x, factors.inputs);
        let z = self.inner(factors, dropped.as_deref().unwrap_or(x));
        multiply(&z, &factors.operands[2], y, true);
    }

    /// Adds the gradients of A and B to `grads`, and to `dx [t, inputs]` what `dy [t, outputs]` makes of it.
    pub(crate) fn backward(
        self,
        layer: usize,
        site: Site,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        grads: &mut [f32],
    ) {
        let Lora { config, precision, .. } = *self.lora;
        let factors = self.factors(layer, site);
        let dropped = self.dropped(layer, site, x, factors.inputs);
        let x = dropped.as_deref().unwrap_or(x);
        let z = self.inner(factors, x);
        let (rank, inputs, outputs) = (config.rank, factors.inputs, factors.outputs);
        add_transposed((dy, outputs), (&z, rank), &mut grads[factors.b.clone()], rank, precision);
        let mut dz = z;
        multiply(dy, &factors.operands[3], &mut dz, false);
        scale(&mut dz, config.alpha / rank as f32);
        add_transposed((&dz, rank), (x, inputs), &mut grads[factors.a.clone()], inputs, precision);
        match self.mask(layer, site) {
            None => multiply(&dz, &factors.operands[1], dx, true),
            Some(mask) => {
                let mut more = vec![0.0; dx.len()];
                multiply(&dz, &factors.operands[1], &mut more, false);
                mask.apply(0, &mut more, inputs);
                axpy(1.0, &more, dx);
            }
        }
    }

    /// s z `[t, r]`
    fn inner(self, factors: &Factors, x: &[f32]) -> Vec<f32> {
        let rank = self.lora.config.rank;
        let mut z = vec![0.0; x.len() / factors.inputs * rank];
        multiply(x, &factors.operands[0], &mut z, false);
        scale(&mut z, self.lora.config.alpha / rank as f32);
        z
    }

    /// drop(x), if anything is dropped.
    fn dropped(self, layer: usize, site: Site, x: &[f32], inputs: usize) -> Option<Vec<f32>> {
        let mask = self.mask(layer, site)?;
        let mut x = x.to_vec();
        mask.apply(0, &mut x, inputs);
        Some(x)
    }

    fn mask(self, layer: usize, site: Site) -> Option<Dropout> {
        let place = dropout::Site::Adapter { matrix: site as usize };
        Dropout::new(self.dropout, layer, place, self.lora.config.dropout)
    }

    fn factors(&self, layer: usize, site: Site) -> &Factors {
        &self.lora.factors[layer * Site::ALL.len() + site as usize]
    }
}

//! How does an encoder make embeddings of texts, and how does it learn from their gradients?
//!
//! A [`Tower`] is a transformer, pooling (with a layer of its own if asked for), an optional projection and the norm, with
//! all of their parameters in one run of floats. It reads and writes folders of Hugging Face.
//!
//! ```
//! use xmc_nn::{Batch, Device, Precision, tower::{Tower, TowerConfig}, transformer::Config};
//! let config = Config::bert(100, 16, 2, 4, 32);
//! let tower = Tower::random(config, TowerConfig::default(), 7, Device::Cpu, Precision::F32)?;
//! let batch = Batch::new([vec![1, 5, 9], vec![1, 7]]);
//! let (e, tape) = tower.embed_train(&batch, None)?; // [2, 16]
//! let mut grads = vec![0.0; tower.layout().len()];
//! tower.backward(&batch, tape, &e, &mut grads)?; // of the loss |e|^2 / 2, which is constant
//! assert!(grads.iter().all(|g| g.abs() < 1e-4));
//! # Ok::<(), xmc_nn::Error>(())
//! ```

mod head;
mod linear;
mod pooler;
pub(crate) mod rows;
mod start;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::device::Device;
use crate::dropout::DropoutKey;
use crate::error::{Error, Result};
use crate::hf::weights::{Weights, write_safetensors};
use crate::ops::matmul::Precision;
use crate::params::Layout;
pub use crate::pool::Pooling;
use crate::tensor::Tensor;
use crate::transformer::chunks::Chunk;
use crate::transformer::{ChunkTape, Config, Transformer};
use head::{Head, HeadTape};

/// Seed of a pooler or projection that the opened folder does not have.
const HEAD_SEED: u64 = 0x0062_6f74_746c_6521;

/// What is behind the transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerConfig {
    /// Which hidden states count.
    pub pooling: Pooling,
    /// Width of a linear projection of the pooled vector; none keeps the transformer's width.
    pub projection: Option<usize>,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for TowerConfig {
    fn default() -> Self {
        TowerConfig { pooling: Pooling::Mean, projection: None, normalize: true }
    }
}

/// An encoder of texts.
#[derive(Debug)]
pub struct Tower {
    config: TowerConfig,
    device: Device,
    layout: Layout,
    params: Vec<f32>,
    transformer: Transformer,
    head: Head,
    /// Parameters that the opened folder did not have.
    fresh: Vec<String>,
}

/// What [`Tower::backward`] needs of a forward pass.
#[derive(Debug)]
pub struct Tape {
    chunks: Vec<ChunkTape>,
    head: HeadTape,
    dropout: Option<DropoutKey>,
}

impl Tower {
    /// Reads `config.json` and `model.safetensors` of a folder. A pooler or a projection that is asked for and not in
    /// the file begins anew, see [`Tower::fresh`].
    pub fn open(dir: &Path, config: TowerConfig, device: Device, precision: Precision) -> Result<Self> {
        let weights = Weights::open(dir)?;
        let mut tower = Self::empty(Config::open(&dir.join("config.json"))?, config, device, precision)?;
        let optional = |name: &str| name.starts_with("bottleneck.") || name.starts_with("pooler.");
        // First of all: sizes that no file has may be more than there is memory.
        weights.check(&tower.layout, optional)?;
        tower.params = vec![0.0; tower.layout.len()];
        let missing = weights.fill(&tower.layout, &mut tower.params, optional)?;
        tower.draw(HEAD_SEED, |name| missing.iter().any(|other| other == name));
        tower.fresh = missing;
        tower.refresh();
        Ok(tower)
    }

    /// A tower with fresh parameters.
    pub fn random(
        transformer: Config,
        config: TowerConfig,
        seed: u64,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        transformer.check().map_err(Error::Shape)?;
        let mut tower = Self::empty(transformer, config, device, precision)?;
        tower.params = vec![0.0; tower.layout.len()];
        tower.draw(seed, |_| true);
        tower.refresh();
        Ok(tower)
    }

    /// A tower whose parameters have places and no memory yet.
    fn empty(transformer: Config, config: TowerConfig, device: Device, precision: Precision) -> Result<Self> {
        if config.projection == Some(0) {
            return Err(Error::Shape("a projection to 0 columns; expected at least 1".to_owned()));
        }
        let mut layout = Layout::default();
        let transformer = Transformer::new(transformer, &mut layout, precision);
        let head = Head::new(transformer.config(), config, &mut layout, precision);
        Ok(Tower { config, device, params: Vec::new(), layout, transformer, head, fresh: Vec::new() })
    }

    fn draw(&mut self, seed: u64, wanted: impl Fn(&str) -> bool) {
        start::draw(&self.layout, seed, self.transformer.config().hidden, &mut self.params, wanted);
    }

    /// Writes `config.json` and `model.safetensors` into a folder that exists.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join("config.json");
        let json = format!("{:#}\n", self.transformer.config().to_json());
        std::fs::write(&path, json).map_err(Error::io(&path))?;
        write_safetensors(dir, &self.layout, &self.params)
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.head.dim()
    }

    /// Longest sequence of tokens.
    pub fn max_positions(&self) -> usize {
        self.transformer.config().max_positions()
    }

    /// Sizes and choices of the transformer.
    pub fn transformer_config(&self) -> &Config {
        self.transformer.config()
    }

    /// What is behind the transformer.
    pub fn config(&self) -> TowerConfig {
        self.config
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Names and places of all parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Names of the parameters that the opened folder did not have: those of a pooler or of a projection. They begin as
    /// noise, and embeddings are noise until they have learned.
    pub fn fresh(&self) -> &[String] {
        &self.fresh
    }

    /// All parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// All parameters, to be changed; call [`Tower::refresh`] afterwards.
    pub fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }

    /// Takes other parameters, in the order of the layout.
    pub fn set_params(&mut self, params: &[f32]) -> Result<()> {
        self.layout.check(params)?;
        self.params.copy_from_slice(params);
        self.refresh();
        Ok(())
    }

    /// Lays out the weights again, after parameters have changed.
    pub fn refresh(&mut self) {
        self.transformer.refresh(&self.params);
        self.head.refresh(&self.params);
    }

    /// Embeddings `[b, dim]`, without dropout.
    pub fn embed(&self, batch: &Batch) -> Result<Tensor> {
        self.transformer.check(batch)?;
        let pass = self.transformer.pass(&self.params, batch, None);
        let mut pooled = vec![0.0; batch.len() * self.transformer.config().hidden];
        self.transformer.forward(&pass, &mut pooled, |chunk, x, out| self.pool(batch, chunk, x, out));
        let embeddings = Head::finish(self.head.forward(&self.params, pooled, None));
        Tensor::from_host(batch.len(), self.dim(), embeddings, self.device)
    }

    /// Embeddings `[b, dim]` and what backward needs. With a key, training's dropout: the same key drops the same.
    pub fn embed_train(&self, batch: &Batch, dropout: Option<DropoutKey>) -> Result<(Tensor, Tape)> {
        self.transformer.check(batch)?;
        let pass = self.transformer.pass(&self.params, batch, dropout);
        let mut pooled = vec![0.0; batch.len() * self.transformer.config().hidden];
        let chunks = self
            .transformer
            .forward_taped(&pass, &mut pooled, |chunk, x, out| self.pool(batch, chunk, x, out));
        let head = self.head.forward(&self.params, pooled, dropout);
        let embeddings = Tensor::from_host(batch.len(), self.dim(), head.output().to_vec(), self.device)?;
        Ok((embeddings, Tape { chunks, head, dropout }))
    }

    /// Adds the gradients of all parameters to `grads`, given `de [b, dim]`, the gradient of the embeddings.
    ///
    /// Parameters must be those of the forward pass.
    pub fn backward(&self, batch: &Batch, tape: Tape, de: &Tensor, grads: &mut [f32]) -> Result<()> {
        self.layout.check(grads)?;
        if (de.rows(), de.cols()) != (batch.len(), self.dim()) || tape.head.output().len() != de.host().len()
        {
            return Err(Error::Shape(format!(
                "gradients [{}, {}] for {} embeddings of a batch of {} texts, each [{}]",
                de.rows(),
                de.cols(),
                tape.head.output().len() / self.dim(),
                batch.len(),
                self.dim()
            )));
        }
        let h = self.transformer.config().hidden;
        let dpooled = self.head.backward(&self.params, &tape.head, de.host(), tape.dropout, grads);
        let pass = self.transformer.pass(&self.params, batch, tape.dropout);
        let begin = |chunk: &Chunk, dx: &mut [f32]| {
            let dh = dpooled[chunk.sequences.start * h..].chunks_exact(h);
            for (dh, rows) in dh.zip(chunk.rows(batch)) {
                self.config.pooling.backward(dh, &mut dx[rows.start * h..rows.end * h]);
            }
        };
        self.transformer.backward(&pass, tape.chunks, begin, grads);
        Ok(())
    }

    /// One row of `out [sequences, h]` for each sequence's rows of `x [t, h]`.
    fn pool(&self, batch: &Batch, chunk: &Chunk, x: &[f32], out: &mut [f32]) {
        let h = self.transformer.config().hidden;
        for (rows, out) in chunk.rows(batch).zip(out.chunks_exact_mut(h)) {
            self.config.pooling.forward(&x[rows.start * h..rows.end * h], out);
        }
    }
}

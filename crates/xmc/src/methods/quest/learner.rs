//! What changes while training: the prompt, perhaps adapters, and what their optimiser remembers.

use xmc_nn::Tensor;
use xmc_nn::checkpoint::Checkpoint;
use xmc_nn::decoder::Prompted;
use xmc_nn::dropout::DropoutKey;
use xmc_nn::optim::{AdamW, AdamWConfig, LearningRate, clip_scale, global_norm};
use xmc_nn::tokens::Tokens;

use super::config::{QuestConfig, ScheduleBy};
use super::loss::{Compared, Contrast};
use crate::error::Result;
use crate::index::{Dtype, LabelEmbeddings};
use crate::methods::caching::GradientCache;
use crate::methods::checkpoints::named;
use crate::methods::dexml::TokenSets;

/// A prompted decoder and its optimiser.
pub(super) struct Learner<'a> {
    config: &'a QuestConfig,
    tokens: &'a TokenSets,
    seed: u64,
    prompted: Prompted,
    optimizer: AdamW,
    rate: LearningRate,
    contrast: Contrast,
    /// Zero between steps.
    grads: Vec<f32>,
}

/// Which step of a training, for chance and for the learning rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// Counted over all epochs.
    pub(super) step: u64,
    pub(super) epoch: usize,
    /// The step of a training whose epochs all have as many steps as the first.
    pub(super) place: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepReport {
    pub(super) loss: f64,
    pub(super) lr: f32,
    /// Norm of the gradient before clipping.
    pub(super) norm: f64,
    /// Tokens of its texts and labels.
    pub(super) tokens: u64,
}

impl<'a> Learner<'a> {
    /// Begins with `prompted`, for epochs of `batches` steps.
    pub(super) fn new(
        prompted: Prompted,
        config: &'a QuestConfig,
        tokens: &'a TokenSets,
        batches: u64,
        seed: u64,
    ) -> Self {
        let adam = AdamWConfig {
            weight_decay: f64::from(config.weight_decay),
            eps: f64::from(config.adam_epsilon),
            ..AdamWConfig::default()
        };
        let total = match config.schedule_by {
            ScheduleBy::Step => batches * config.epochs as u64,
            ScheduleBy::Epoch => config.epochs as u64,
        };
        let (lr, warmup) = (f64::from(config.lr), f64::from(config.warmup));
        let contrast = Contrast {
            tau: config.tau,
            symmetric: config.symmetric,
            mask: config.mask_known_positives,
            precision: config.precision.resolve(),
        };
        Learner {
            config,
            tokens,
            seed,
            optimizer: AdamW::new(prompted.layout(), adam),
            rate: LearningRate::new(config.schedule, lr, warmup, total),
            contrast,
            grads: vec![0.0; prompted.layout().len()],
            prompted,
        }
    }

    /// One step: embed texts and labels, compare them, and move the parameters against the gradient.
    pub(super) fn step(&mut self, when: When, compared: &Compared<'_>) -> Result<StepReport> {
        let config = self.config;
        let dropout = config.lora_rank > 0 && config.lora_dropout > 0.0;
        let key = dropout.then_some(DropoutKey { seed: self.seed, step: when.step, part: 0 });
        let mut cache = GradientCache::new(&self.prompted, config.tokens_per_batch, config.tape_tokens, key);
        let x = cache.forward(&self.tokens.rows, compared.rows)?;
        let y = cache.forward(&self.tokens.labels, compared.labels)?;
        let result = self.contrast.of(&x.values, &y.values, compared)?;
        cache.backward(x, &result.dx, &mut self.grads)?;
        cache.backward(y, &result.dy, &mut self.grads)?;

        let norm = global_norm(&self.grads);
        let clip = f64::from(config.clip);
        let scale = if clip > 0.0 { clip_scale(norm, clip) } else { 1.0 };
        let lr = self.rate.lr_at(match config.schedule_by {
            ScheduleBy::Step => when.place,
            ScheduleBy::Epoch => when.epoch as u64,
        });
        if result.loss.is_finite() && norm.is_finite() {
            self.optimizer.step(self.prompted.params_mut(), &mut self.grads, lr, scale)?;
            self.prompted.refresh();
        }
        let tokens = count(&self.tokens.rows, compared.rows) + count(&self.tokens.labels, compared.labels);
        Ok(StepReport { loss: result.loss, lr, norm, tokens })
    }

    /// The decoder with its prompt.
    pub(super) fn prompted(&self) -> &Prompted {
        &self.prompted
    }

    /// The same for good.
    pub(super) fn into_prompted(self) -> Prompted {
        self.prompted
    }

    /// Embeddings of the training rows `ids` (rising), with parameters as they are.
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(self.prompted.embed_rows(&self.tokens.rows, ids, self.config.tokens_per_batch, &|_, _| ())?)
    }

    /// Embeddings of all labels, ready to be searched.
    pub(super) fn labels(&self, progress: &dyn Fn(u64, u64)) -> Result<LabelEmbeddings> {
        let ids: Vec<u32> = (0..self.tokens.labels.len() as u32).collect();
        let found =
            self.prompted.embed_rows(&self.tokens.labels, &ids, self.config.tokens_per_batch, progress)?;
        LabelEmbeddings::from_values(found.cols(), found.host(), Dtype::F32)
    }

    /// What predicts, by name.
    pub(super) fn parameters(&self) -> Vec<(String, &[f32])> {
        vec![("parameters".to_owned(), self.prompted.params())]
    }

    /// Puts back what `parameters` gave.
    pub(super) fn set_parameters(&mut self, saved: &mut Checkpoint) -> Result<()> {
        Ok(self.prompted.set_params(&saved.take("parameters").unwrap_or_default())?)
    }

    /// Everything that later steps depend on, by name.
    pub(super) fn state(&self) -> Vec<(String, &[f32])> {
        let mut state = self.parameters();
        state.extend(named("adamw", self.optimizer.state()));
        state
    }

    /// Puts back what `state` gave.
    pub(super) fn restore(&mut self, saved: &mut Checkpoint) -> Result<()> {
        self.set_parameters(saved)?;
        Ok(self.optimizer.restore(|name| saved.take(&format!("adamw.{name}")))?)
    }
}

fn count(tokens: &Tokens, ids: &[u32]) -> u64 {
    ids.iter().map(|&id| tokens.row_len(id as usize) as u64).sum()
}

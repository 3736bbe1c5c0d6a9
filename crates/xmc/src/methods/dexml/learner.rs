//! What changes while training: the encoder, perhaps a one-vs-all head, and what their optimisers remember.

use xmc_nn::Tensor;
use xmc_nn::checkpoint::Checkpoint;
use xmc_nn::dropout::DropoutKey;
use xmc_nn::loss::{Criterion, K, LossOptions, Targets, loss_into};
use xmc_nn::optim::{AdamW, AdamWConfig, LearningRate, Swa, clip_scale, global_norm};
use xmc_nn::tower::{Tape, Tower};

use super::config::{CriterionKind, DexmlConfig, Head};
use super::inputs::TokenSets;
use super::negatives::Pool;
use super::scoring::Scorer;
use crate::error::Result;
use crate::methods::caching::{Cached, GradientCache};
use crate::methods::checkpoints::named;
use crate::methods::classifier::{Classifier, RowGradients};

/// Encoder, head and optimisers.
pub(super) struct Learner<'a> {
    config: &'a DexmlConfig,
    tokens: &'a TokenSets,
    num_labels: usize,
    seed: u64,
    tower: Tower,
    optimizer: AdamW,
    classifier: Option<Classifier>,
    rate: LearningRate,
    head_rate: LearningRate,
    options: LossOptions,
    averages: Averages,
    /// Of the encoder's parameters; zero between steps.
    grads: Vec<f32>,
    /// Memory for the gradient of the labels, used again by the next step.
    dy: Tensor,
}

/// Means of parameters at the ends of the last epochs; empty unless asked for.
struct Averages {
    tower: Swa,
    head: Swa,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepReport {
    pub(super) loss: f64,
    pub(super) lr: f32,
    /// Norm of the gradient before clipping.
    pub(super) norm: f64,
    /// Tokens of its texts and label names.
    pub(super) tokens: u64,
    /// Rows with no more labels to choose from than the k of soft top-k: they teach nothing.
    pub(super) saturated: usize,
}

/// What the backward pass of a step leaves behind, beside the gradient of the encoder.
struct Backward {
    loss: f64,
    head: Option<RowGradients>,
    tokens: u64,
    saturated: usize,
}

/// The labels of a step: those of the encoder go back through it, those of a head do not.
enum Labels {
    Texts(Cached<Tape>),
    Weights(Tensor),
}

impl Labels {
    /// `[l, d]`
    fn values(&self) -> &Tensor {
        match self {
            Labels::Texts(cached) => &cached.values,
            Labels::Weights(values) => values,
        }
    }
}

impl<'a> Learner<'a> {
    /// Begins with `tower`, for `steps` steps.
    pub(super) fn new(
        tower: Tower,
        config: &'a DexmlConfig,
        tokens: &'a TokenSets,
        num_labels: usize,
        steps: u64,
        seed: u64,
    ) -> Self {
        let adam = AdamWConfig { weight_decay: f64::from(config.weight_decay), ..AdamWConfig::default() };
        let warmup = decimal(config.warmup);
        let rate = |lr: f32| LearningRate::new(config.schedule, f64::from(lr), warmup, steps);
        let head =
            (config.head == Head::Classifier).then(|| Classifier::new(num_labels, tower.dim(), adam, seed));
        // No average takes no memory.
        let averaged = |parameters: usize| if config.swa > 0 { parameters } else { 0 };
        let head_len = head.as_ref().map_or(0, |head| head.weights().len());
        Learner {
            config,
            tokens,
            num_labels,
            seed,
            optimizer: AdamW::new(tower.layout(), adam),
            classifier: head,
            rate: rate(config.lr),
            head_rate: rate(config.head_lr),
            options: loss_options(config),
            averages: Averages {
                tower: Swa::new(averaged(tower.layout().len())),
                head: Swa::new(averaged(head_len)),
            },
            grads: vec![0.0; tower.layout().len()],
            dy: Tensor::zeros(0, 0, tower.device()),
            tower,
        }
    }

    /// One step: embed texts x and labels y, compare all with all, and move the parameters against the gradient.
    pub(super) fn step(
        &mut self,
        step: u64,
        rows: &[u32],
        pool: &Pool,
        targets: &Targets,
    ) -> Result<StepReport> {
        let Backward { loss, head, tokens, saturated } = self.gradients(step, rows, pool, targets)?;
        let head_norm = head.as_ref().map_or(0.0, |head| global_norm(&head.values));
        let norm = global_norm(&self.grads).hypot(head_norm);
        let clip = f64::from(self.config.clip);
        let scale = if clip > 0.0 { clip_scale(norm, clip) } else { 1.0 };
        let lr = self.rate.lr_at(step);
        if loss.is_finite() && norm.is_finite() {
            self.optimizer.step(self.tower.params_mut(), &mut self.grads, lr, scale)?;
            self.tower.refresh();
            if let (Some(classifier), Some(head)) = (&mut self.classifier, head) {
                classifier.step(head, self.head_rate.lr_at(step), scale)?;
            }
        }
        Ok(StepReport { loss, lr, norm, tokens, saturated })
    }

    /// Adds the gradient of a step to `grads`.
    fn gradients(&mut self, step: u64, rows: &[u32], pool: &Pool, targets: &Targets) -> Result<Backward> {
        let config = self.config;
        let key = config.dropout.then_some(DropoutKey { seed: self.seed, step, part: 0 });
        let mut cache = GradientCache::new(&self.tower, config.tokens_per_batch, config.tape_tokens, key);

        // Texts x [b, d] and labels y [l, d].
        let x = cache.forward(&self.tokens.rows, rows)?;
        let ids = pool.ids(self.num_labels);
        let mut tokens = count(&self.tokens.rows, rows);
        let (y, offset) = match &self.classifier {
            None => {
                tokens += count(&self.tokens.labels, &ids);
                (Labels::Texts(cache.forward(&self.tokens.labels, &ids)?), pool.offset.clone())
            }
            Some(classifier) => {
                let (y, bias) = classifier.select(&ids, config.tau, self.tower.device())?;
                (Labels::Weights(y), Some(sum(bias, pool.offset.as_deref())))
            }
        };

        // All scores, one block of labels after the other, and what the loss makes of them.
        let dy = std::mem::replace(&mut self.dy, Tensor::zeros(0, 0, self.tower.device()));
        let targets = pool.targets(targets);
        let result = loss_into(&x.values, y.values(), offset.as_deref(), &targets, &self.options, dy)?;

        // Back through the encoder.
        cache.backward(x, &result.dx, &mut self.grads)?;
        let head = match (y, &self.classifier) {
            (Labels::Texts(y), _) => {
                cache.backward(y, &result.dy, &mut self.grads)?;
                None
            }
            (Labels::Weights(_), Some(classifier)) => {
                let doffset = result.doffset.unwrap_or_default();
                Some(classifier.gradients(&ids, &result.dy, &doffset, config.tau))
            }
            (Labels::Weights(_), None) => None,
        };
        self.dy = result.dy;
        Ok(Backward { loss: result.loss, head, tokens, saturated: result.saturated })
    }

    /// The encoder.
    pub(super) fn tower(&self) -> &Tower {
        &self.tower
    }

    /// The encoder, and the weights of the head `[L, d + 1]` if there is one.
    pub(super) fn into_parts(mut self) -> Result<(Tower, Option<Tensor>)> {
        let device = self.tower.device();
        let head = self.classifier.as_mut().map(|classifier| {
            classifier.settle()?;
            classifier.to_tensor(device)
        });
        Ok((self.tower, head.transpose()?))
    }

    /// Embeds with the parameters as they are.
    pub(super) fn scorer(&mut self) -> Result<Scorer<'_>> {
        if let Some(classifier) = &mut self.classifier {
            classifier.settle()?;
        }
        Ok(Scorer {
            tower: &self.tower,
            tokens: self.tokens,
            classifier: self.classifier.as_ref(),
            budget: self.config.tokens_per_batch,
        })
    }

    /// Takes the parameters into their average.
    pub(super) fn average(&mut self) -> Result<()> {
        if let Some(classifier) = &mut self.classifier {
            classifier.settle()?;
            self.averages.head.update(classifier.weights())?;
        }
        Ok(self.averages.tower.update(self.tower.params())?)
    }

    /// Replaces the parameters by their average and returns of how many epochs it is; `None` if there is none.
    pub(super) fn use_average(&mut self) -> Result<Option<u32>> {
        let epochs = self.averages.tower.updates();
        if epochs == 0 {
            return Ok(None);
        }
        self.tower.set_params(self.averages.tower.average())?;
        if let Some(classifier) = &mut self.classifier {
            classifier.set_weights(self.averages.head.average())?;
        }
        Ok(Some(epochs))
    }

    /// What predicts, by name: the parameters of the encoder and of the head.
    pub(super) fn parameters(&self) -> Vec<(String, &[f32])> {
        let head = self.classifier.iter().map(|classifier| ("head".to_owned(), classifier.weights()));
        std::iter::once(("tower".to_owned(), self.tower.params())).chain(head).collect()
    }

    /// Puts back what `parameters` gave.
    pub(super) fn set_parameters(&mut self, saved: &mut Checkpoint) -> Result<()> {
        self.tower.set_params(&saved.take("tower").unwrap_or_default())?;
        match &mut self.classifier {
            Some(classifier) => classifier.set_weights(&saved.take("head").unwrap_or_default()),
            None => Ok(()),
        }
    }

    /// Everything that later steps depend on, by name.
    pub(super) fn state(&self) -> Vec<(String, &[f32])> {
        let mut state = self.parameters();
        state.extend(named("tower.adamw", self.optimizer.state()));
        state.extend(named("tower.average", self.averages.tower.state()));
        if let Some(classifier) = &self.classifier {
            state.extend(named("head.adamw", classifier.optimizer().state()));
            state.extend(named("head.average", self.averages.head.state()));
        }
        state
    }

    /// Puts back what `state` gave.
    pub(super) fn restore(&mut self, saved: &mut Checkpoint) -> Result<()> {
        self.set_parameters(saved)?;
        self.optimizer.restore(|name| saved.take(&format!("tower.adamw.{name}")))?;
        self.averages.tower.restore(|name| saved.take(&format!("tower.average.{name}")))?;
        if let Some(classifier) = &mut self.classifier {
            classifier.optimizer_mut().restore(|name| saved.take(&format!("head.adamw.{name}")))?;
            self.averages.head.restore(|name| saved.take(&format!("head.average.{name}")))?;
        }
        Ok(())
    }
}

fn sum(mut a: Vec<f32>, b: Option<&[f32]>) -> Vec<f32> {
    a.iter_mut().zip(b.unwrap_or_default()).for_each(|(a, b)| *a += b);
    a
}

fn count(tokens: &xmc_nn::tokens::Tokens, ids: &[u32]) -> u64 {
    ids.iter().map(|&id| tokens.row_len(id as usize) as u64).sum()
}

fn loss_options(config: &DexmlConfig) -> LossOptions {
    let criterion = match config.criterion {
        CriterionKind::DecoupledSoftmax => Criterion::DecoupledSoftmax,
        CriterionKind::Softmax => Criterion::Softmax,
        CriterionKind::SoftTopk => Criterion::SoftTopK {
            k: config.fixed_k().map_or(K::Positives, K::Fixed),
            alpha: config.topk_alpha,
        },
        CriterionKind::Bce => Criterion::Bce,
    };
    LossOptions { precision: config.precision.resolve(), ..LossOptions::new(criterion, config.tau) }
}

/// The number that a person wrote: 0.06 as f32 is a little less, and 0.06 of 50 steps would be 2.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

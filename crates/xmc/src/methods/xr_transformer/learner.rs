//! What changes while a level trains: the encoder, the head, and what their optimisers remember.

use xmc_nn::checkpoint::Checkpoint;
use xmc_nn::dropout::DropoutKey;
use xmc_nn::loss::{ActiveCriterion, active_loss};
use xmc_nn::optim::{AdamW, AdamWConfig, LearningRate, clip_scale, global_norm};
use xmc_nn::tokens::{self, Tokens};
use xmc_nn::tower::Tower;

use super::active::ActiveNodes;
use super::config::{HeadLoss, TrainingConfig};
use super::plan::Level;
use crate::error::Result;
use crate::methods::checkpoints::named;
use crate::methods::classifier::{Classifier, RowGradients};

/// Encoder, head and optimisers.
pub(super) struct Learner<'a> {
    config: &'a TrainingConfig,
    tokens: &'a Tokens,
    nodes: ActiveNodes<'a>,
    tower: Tower,
    optimizer: AdamW,
    head: Classifier,
    rate: LearningRate,
    head_rate: LearningRate,
    /// Of the encoder's parameters; zero between steps.
    grads: Vec<f32>,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepReport {
    pub(super) loss: f64,
    /// Norms of the gradients of encoder and head before clipping.
    pub(super) norms: [f64; 2],
    pub(super) tokens: u64,
}

impl StepReport {
    /// Whether it can be learned from.
    pub(super) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.norms.iter().all(|norm| norm.is_finite())
    }
}

impl<'a> Learner<'a> {
    /// Begins with `tower` and the head `weights` `[L_t, h + 1]`, for `steps` steps.
    pub(super) fn new(
        tower: Tower,
        weights: Vec<f32>,
        config: &'a TrainingConfig,
        level: &Level,
        nodes: ActiveNodes<'a>,
        tokens: &'a Tokens,
        steps: u64,
    ) -> Self {
        let adam = AdamWConfig {
            weight_decay: f64::from(config.weight_decay),
            eps: f64::from(config.adam_epsilon),
            ..AdamWConfig::default()
        };
        let warmup = level.warmup(steps);
        let rate = |lr: f32| LearningRate::with_warmup_steps(config.schedule, f64::from(lr), warmup, steps);
        Learner {
            config,
            tokens,
            nodes,
            optimizer: AdamW::new(tower.layout(), adam),
            head: Classifier::with_weights(weights, tower.dim(), adam),
            rate: rate(level.lr),
            head_rate: rate(level.head_lr),
            grads: vec![0.0; tower.layout().len()],
            tower,
        }
    }

    /// One step on `rows`: embed them, compare each with its active nodes, and move encoder and head against the
    /// gradient, each shortened on its own.
    pub(super) fn step(&mut self, step: u64, rows: &[u32]) -> Result<StepReport> {
        let (loss, head, tokens) = self.gradients(step, rows)?;
        let norms = [global_norm(&self.grads), global_norm(&head.values)];
        let report = StepReport { loss, norms, tokens };
        if report.is_finite() {
            let clip = f64::from(self.config.clip);
            let scale = |norm: f64| if clip > 0.0 { clip_scale(norm, clip) } else { 1.0 };
            let lr = self.rate.lr_at(step);
            self.optimizer.step(self.tower.params_mut(), &mut self.grads, lr, scale(norms[0]))?;
            self.tower.refresh();
            self.head.step(head, self.head_rate.lr_at(step), scale(norms[1]))?;
        }
        Ok(report)
    }

    /// Adds the gradient of a step to `grads`; returns the loss, the gradient of the head and the tokens read.
    ///
    /// Rows pass in micro-batches of similar length. The loss is a sum over rows, so each goes back before the next.
    fn gradients(&mut self, step: u64, rows: &[u32]) -> Result<(f64, RowGradients, u64)> {
        let (criterion, weighted) = criterion(self.config.loss);
        let (mut loss, mut head, mut tokens) = (0.0, RowGradients::default(), 0);
        for (part, group) in (0..).zip(tokens::by_budget(self.tokens, rows, self.config.tokens_per_batch)) {
            let batch = self.tokens.batch(&group);
            let key = self.config.dropout.then_some(DropoutKey { seed: self.nodes.seed, step, part });
            // x [b, h]
            let (x, tape) = self.tower.embed_train(&batch, key)?;
            let active = self.nodes.of_rows(step, &group);
            let result =
                active_loss(&x, self.head.weights(), &active.view(), criterion, weighted, rows.len())?;
            self.tower.backward(&batch, tape, &result.dx, &mut self.grads)?;
            head = head.add(RowGradients { ids: result.touched, values: result.dw });
            loss += result.loss;
            tokens += batch.tokens() as u64;
        }
        Ok((loss, head, tokens))
    }

    /// Whether encoder and head hold finite numbers, and make such of some of `rows`.
    pub(super) fn is_finite(&self, rows: &[u32]) -> Result<bool> {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        if !finite(self.tower.params()) || !finite(self.head.weights()) {
            return Ok(false);
        }
        let mut groups = tokens::by_budget(self.tokens, rows, self.config.tokens_per_batch).into_iter();
        let Some(group) = groups.next() else { return Ok(true) };
        Ok(finite(&self.tower.embed(&self.tokens.batch(&group))?.into_host()))
    }

    /// The encoder, and the weights of the head `[L_t, h + 1]`.
    pub(super) fn into_parts(mut self) -> Result<(Tower, Vec<f32>)> {
        self.head.settle()?;
        Ok((self.tower, self.head.weights().to_vec()))
    }

    /// Everything that later steps depend on, by name.
    pub(super) fn state(&self) -> Vec<(String, &[f32])> {
        let mut state =
            vec![("tower".to_owned(), self.tower.params()), ("head".to_owned(), self.head.weights())];
        state.extend(named("tower.adamw", self.optimizer.state()));
        state.extend(named("head.adamw", self.head.optimizer().state()));
        state
    }

    /// Puts back what `state` gave.
    pub(super) fn restore(&mut self, saved: &mut Checkpoint) -> Result<()> {
        self.tower.set_params(&saved.take("tower").unwrap_or_default())?;
        self.head.set_weights(&saved.take("head").unwrap_or_default())?;
        self.optimizer.restore(|name| saved.take(&format!("tower.adamw.{name}")))?;
        self.head.optimizer_mut().restore(|name| saved.take(&format!("head.adamw.{name}")))?;
        Ok(())
    }
}

/// The loss, and whether positives count by the labels below them.
fn criterion(loss: HeadLoss) -> (ActiveCriterion, bool) {
    match loss {
        HeadLoss::SquaredHinge => (ActiveCriterion::SquaredHinge, false),
        HeadLoss::Hinge => (ActiveCriterion::Hinge, false),
        HeadLoss::WeightedSquaredHinge => (ActiveCriterion::SquaredHinge, true),
        HeadLoss::WeightedHinge => (ActiveCriterion::Hinge, true),
        HeadLoss::CrossEntropy => (ActiveCriterion::CrossEntropy, false),
    }
}

#[cfg(test)]
mod tests;

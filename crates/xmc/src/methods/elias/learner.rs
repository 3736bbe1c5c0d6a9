//! What changes while a phase trains: encoder, head, and what their optimisers remember.

use xmc_nn::checkpoint::Checkpoint;
use xmc_nn::dropout::{DropoutKey, drop_embeddings};
use xmc_nn::optim::{AdamW, AdamWConfig, LearningRate, Swa, clip_scale, global_norm};
use xmc_nn::tokens::{self, Tokens};
use xmc_nn::tower::Tower;
use xmc_nn::{Device, Tensor};

use super::config::TrainingConfig;
use super::head::{HeadState, StepState};
use super::index::Rates;
use super::training::{PhaseTask, Texts};
use crate::error::Result;
use crate::methods::checkpoints::named;
use xmc_data::{Dense, TopK};

/// Encoder, head and optimisers.
pub(super) struct Learner<'a> {
    task: PhaseTask<'a>,
    /// Seed of the phase.
    seed: u64,
    embedder: Embedder<'a>,
    head: HeadState,
    rates: Schedules,
    /// Mean of the head's parameters; nothing in it, and no memory, unless asked for.
    average: Option<Swa>,
}

/// Where embeddings come from.
enum Embedder<'a> {
    /// From an encoder that learns.
    Tower(Box<Encoder<'a>>),
    /// They stay as they are.
    Fixed(&'a Dense),
}

/// An encoder that learns.
struct Encoder<'a> {
    tokens: &'a Tokens,
    tower: Tower,
    optimizer: AdamW,
    /// Gradients of its parameters; zero between steps.
    grads: Vec<f32>,
    average: Option<Swa>,
}

/// Learning rates, step by step.
struct Schedules {
    encoder: LearningRate,
    clusters: LearningRate,
    labels: LearningRate,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepReport {
    pub(super) loss: f64,
    /// Norm of the gradient of the encoder before clipping; 0 if it does not learn.
    pub(super) norm: f64,
    /// Tokens read, or rows if texts are embedded already.
    pub(super) tokens: u64,
}

impl StepReport {
    /// Whether it can be learned from.
    pub(super) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.norm.is_finite()
    }
}

/// The optimiser that all parameters share.
pub(super) fn adamw(config: &TrainingConfig) -> AdamWConfig {
    AdamWConfig {
        weight_decay: f64::from(config.weight_decay),
        eps: f64::from(config.adam_epsilon),
        ..AdamWConfig::default()
    }
}

impl<'a> Learner<'a> {
    /// Begins with `head` and, if texts are to be embedded, with `tower`; for `steps` steps.
    pub(super) fn new(
        task: PhaseTask<'a>,
        tower: Option<Tower>,
        head: HeadState,
        steps: u64,
        seed: u64,
    ) -> Result<Self> {
        let averaged = task.phase.swa_start > 0;
        let embedder = match (task.texts, tower) {
            (Texts::Tokens { tokens, .. }, Some(tower)) => Embedder::Tower(Box::new(Encoder {
                tokens,
                optimizer: AdamW::new(tower.layout(), adamw(&task.config.training)),
                grads: vec![0.0; tower.layout().len()],
                average: averaged.then(|| Swa::new(tower.layout().len())),
                tower,
            })),
            (Texts::Embeddings(x), _) => Embedder::Fixed(x),
            (Texts::Tokens { dir, .. }, None) => {
                return Err(crate::error::Error::Mismatch(format!("{}: no encoder to train", dir.display())));
            }
        };
        let average = averaged.then(|| head.average());
        Ok(Learner { task, seed, embedder, head, rates: Schedules::new(&task, steps), average })
    }

    /// One step on `rows`: embed them, compare them, and move encoder and head against the gradient.
    pub(super) fn step(&mut self, step: u64, rows: &[u32]) -> Result<StepReport> {
        let (report, state) = self.gradients(step, rows)?;
        if !report.is_finite() {
            return Ok(report);
        }
        if let Embedder::Tower(encoder) = &mut self.embedder {
            let clip = f64::from(self.task.config.training.clip);
            let scale = if clip > 0.0 { clip_scale(report.norm, clip) } else { 1.0 };
            let lr = self.rates.encoder.lr_at(step);
            encoder.optimizer.step(encoder.tower.params_mut(), &mut encoder.grads, lr, scale)?;
            encoder.tower.refresh();
        }
        self.head.apply(state, self.rates.of_head(step), self.seed)?;
        Ok(report)
    }

    /// Loss and gradients of a step; those of the encoder are left in its `grads`.
    ///
    /// Texts pass in micro-batches of similar length. The loss is a sum over rows, so each goes back before the next.
    fn gradients(&mut self, step: u64, rows: &[u32]) -> Result<(StepReport, StepState)> {
        let Learner { task, seed, embedder, head, .. } = self;
        let (config, y) = (&task.config.training, task.y);
        let mut state = head.begin(y, rows, task.phase.loss_lambda);
        let mut report = StepReport { loss: 0.0, norm: 0.0, tokens: 0 };
        // One key for the step: what is dropped of an embedding does not depend on the micro-batch it is in.
        let drop = |x: &mut Tensor, rows: &[u32]| {
            let key = DropoutKey { seed: *seed, step, part: 0 };
            drop_embeddings(key, config.embedding_dropout, rows, x);
        };
        match embedder {
            Embedder::Fixed(embeddings) => {
                let mut x = gather(embeddings, rows)?;
                drop(&mut x, rows);
                report.loss = head.part(&mut state, &x, y, rows)?.0;
                report.tokens = rows.len() as u64;
            }
            Embedder::Tower(encoder) => {
                for (part, group) in
                    (0..).zip(tokens::by_budget(encoder.tokens, rows, config.tokens_per_batch))
                {
                    let batch = encoder.tokens.batch(&group);
                    let key = config.dropout.then_some(DropoutKey { seed: *seed, step, part });
                    let (mut x, tape) = encoder.tower.embed_train(&batch, key)?;
                    drop(&mut x, &group);
                    let (loss, mut dx) = head.part(&mut state, &x, y, &group)?;
                    drop(&mut dx, &group);
                    encoder.tower.backward(&batch, tape, &dx, &mut encoder.grads)?;
                    report.loss += loss;
                    report.tokens += batch.tokens() as u64;
                }
                report.norm = global_norm(&encoder.grads);
            }
        }
        Ok((report, state))
    }

    /// The best `k` labels of `rows` (rising), with the parameters as they are.
    pub(super) fn best(&mut self, rows: &[u32], k: usize) -> Result<TopK> {
        let x = match &self.embedder {
            Embedder::Fixed(embeddings) => gather(embeddings, rows)?,
            Embedder::Tower(encoder) => {
                let budget = self.task.config.training.tokens_per_batch;
                encoder.tower.embed_rows(encoder.tokens, rows, budget, &|_, _| ())?
            }
        };
        self.head.best(&x, k)
    }

    /// Makes what depends on the beginning of an epoch.
    pub(super) fn begin_epoch(&mut self) {
        self.head.begin_epoch();
    }

    /// Takes the parameters into their average.
    pub(super) fn average(&mut self) -> Result<()> {
        if let Some(average) = &mut self.average {
            self.head.add_to(average)?;
        }
        if let Embedder::Tower(encoder) = &mut self.embedder
            && let Some(average) = &mut encoder.average
        {
            average.update(encoder.tower.params())?;
        }
        Ok(())
    }

    /// How many sets of parameters are in the average.
    pub(super) fn averaged(&self) -> u32 {
        self.average.as_ref().map_or(0, Swa::updates)
    }

    /// Replaces the parameters by their average, which must not be one of nothing.
    pub(super) fn use_average(&mut self) -> Result<()> {
        if let Some(average) = self.average.take() {
            self.head.take_from(&average)?;
        }
        if let Embedder::Tower(encoder) = &mut self.embedder
            && let Some(average) = encoder.average.take()
        {
            encoder.tower.set_params(average.average())?;
        }
        Ok(())
    }

    /// Whether encoder and head hold finite numbers, and make such of some of `rows`.
    pub(super) fn is_finite(&self, rows: &[u32]) -> Result<bool> {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        if !self.head.is_finite() {
            return Ok(false);
        }
        let Embedder::Tower(encoder) = &self.embedder else { return Ok(true) };
        if !finite(encoder.tower.params()) {
            return Ok(false);
        }
        let budget = self.task.config.training.tokens_per_batch;
        let mut groups = tokens::by_budget(encoder.tokens, rows, budget).into_iter();
        let Some(group) = groups.next() else { return Ok(true) };
        Ok(finite(&encoder.tower.embed(&encoder.tokens.batch(&group))?.into_host()))
    }

    /// The encoder, if it learned, and the head.
    pub(super) fn into_parts(mut self) -> Result<(Option<Box<Tower>>, HeadState)> {
        self.head.settle()?;
        let tower = match self.embedder {
            Embedder::Tower(encoder) => Some(Box::new(encoder.tower)),
            Embedder::Fixed(_) => None,
        };
        Ok((tower, self.head))
    }

    /// Everything that later steps depend on, by name.
    pub(super) fn state(&self) -> Vec<(String, &[f32])> {
        let mut state = self.head.state();
        state.extend(self.average.iter().flat_map(|swa| named("head.average", swa.state())));
        if let Embedder::Tower(encoder) = &self.embedder {
            state.push(("tower".to_owned(), encoder.tower.params()));
            state.extend(named("tower.adamw", encoder.optimizer.state()));
            state.extend(encoder.average.iter().flat_map(|swa| named("tower.average", swa.state())));
        }
        state
    }

    /// Puts back what `state` gave.
    pub(super) fn restore(&mut self, saved: &mut Checkpoint) -> Result<()> {
        self.head.restore(saved)?;
        if let Some(average) = &mut self.average {
            average.restore(|name| saved.take(&format!("head.average.{name}")))?;
        }
        if let Embedder::Tower(encoder) = &mut self.embedder {
            encoder.tower.set_params(&saved.take("tower").unwrap_or_default())?;
            encoder.optimizer.restore(|name| saved.take(&format!("tower.adamw.{name}")))?;
            if let Some(average) = &mut encoder.average {
                average.restore(|name| saved.take(&format!("tower.average.{name}")))?;
            }
        }
        Ok(())
    }
}

impl Schedules {
    fn new(task: &PhaseTask<'_>, steps: u64) -> Self {
        let config = &task.config.training;
        // Rounded: 0.06 as f32 is a little less, and 0.06 of 50 steps are 3.
        let warmup = (f64::from(config.warmup) * steps as f64).round() as u64;
        let rate = |lr: f32| LearningRate::with_warmup_steps(config.schedule, f64::from(lr), warmup, steps);
        Schedules {
            encoder: rate(task.phase.lr),
            clusters: rate(task.phase.cluster_lr),
            labels: rate(task.phase.label_lr),
        }
    }

    fn of_head(&self, step: u64) -> Rates {
        Rates { clusters: self.clusters.lr_at(step), labels: self.labels.lr_at(step) }
    }
}

/// Rows of a matrix, one below the other.
fn gather(embeddings: &Dense, rows: &[u32]) -> Result<Tensor> {
    let values = rows.iter().flat_map(|&row| embeddings.row(row as usize)).copied().collect();
    Ok(Tensor::from_host(rows.len(), embeddings.cols(), values, Device::Cpu)?)
}

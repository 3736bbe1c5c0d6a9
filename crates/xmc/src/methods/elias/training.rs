//! The loop of a phase (warm-up, stage 1, stage 2): steps, and what happens between them.
//!
//! ```text
//! for every epoch
//!     parents of the labels, as the edges are now
//!     for every step
//!         the next rows in the order of the epoch
//!         x = dropout(encoder(texts)), or embeddings that were made before
//!         loss of the head; its gradient into clusters, edges and classifiers, and through x into the encoder
//!         AdamW: the encoder with `lr`, the clusters with `cluster_lr`, classifiers and edges with `label_lr`
//!         from the end of epoch `swa_start` on, every `swa_every` steps and at last: parameters into their average
//! ```
//!
//! All rows take part but those that validate. One without labels is a negative of what it is compared with.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xmc_data::metrics::{EvaluateConfig, evaluate, label_counts};
use xmc_data::{Csr, Dense};
use xmc_nn::Device;
use xmc_nn::tokens::Tokens;
use xmc_nn::tower::{Tower, TowerConfig};

use super::config::{EliasConfig, Phase, Stage};
use super::first;
use super::learner::{Learner, StepReport};
use super::stages::Trained;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::methods::checkpoints::Checkpoints;
use crate::methods::speed::Speed;
use crate::random::{Draws, Purpose};

/// Labels that are looked at when training is measured, for recall among so many.
const DEEPEST: usize = 10;

/// What a phase is trained from.
#[derive(Clone, Copy)]
pub(super) struct PhaseTask<'a> {
    pub(super) config: &'a EliasConfig,
    pub(super) phase: &'a Phase,
    /// Which phase it is: warm-up, stage 1 or stage 2.
    pub(super) stage: Stage,
    pub(super) texts: Texts<'a>,
    /// Labels of the training rows `[n, L]`.
    pub(super) y: &'a Csr,
    /// Rows that do not train, rising.
    pub(super) validation: &'a [u32],
    pub(super) first: First<'a>,
    pub(super) seed: u64,
    pub(super) device: Device,
    pub(super) events: &'a dyn Events,
}

/// Texts of the training rows.
#[derive(Clone, Copy)]
pub(super) enum Texts<'a> {
    /// As token ids `[n]`, for an encoder that learns.
    Tokens {
        tokens: &'a Tokens,
        /// The folder of the encoder to begin with, and of its tokenizer.
        dir: &'a Path,
        /// What stands behind its transformer.
        tower: TowerConfig,
    },
    /// As embeddings `[n, d]` that stay as they are.
    Embeddings(&'a Dense),
}

/// What a phase begins with.
#[derive(Clone, Copy)]
pub(super) struct First<'a> {
    /// Edges from clusters to labels; none for a head without an index.
    pub(super) edges: Option<Edges<'a>>,
    /// The folder of an earlier phase whose clusters go on, and its classifiers if `classifier.keep` says so.
    pub(super) earlier: Option<&'a Path>,
}

/// Edges from clusters to labels.
#[derive(Clone, Copy)]
pub(super) enum Edges<'a> {
    /// The cluster of every label `[L]`, and how many clusters there are. These edges do not learn.
    Fixed { of_label: &'a [u32], clusters: usize },
    /// Edges that learn: the pattern of a matrix `[C, L]`.
    Learned(&'a Csr),
    /// Those that learned before, from the folder of an earlier phase with their logits; they go on.
    Stored(&'a Path),
}

/// Where a training stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Steps done.
    step: u64,
    /// Tokens of these.
    tokens: u64,
    /// Milliseconds of training, over all attempts.
    milliseconds: u64,
}

/// The training of a phase in progress.
pub(super) struct Training<'a> {
    task: PhaseTask<'a>,
    learner: Learner<'a>,
    /// Rows that train, rising.
    rows: Vec<u32>,
    seed: u64,
    /// Steps of the phase.
    steps: u64,
    /// An epoch, and the rows in its order.
    order: (u64, Vec<u32>),
    progress: Progress,
    checkpoints: Checkpoints,
    speed: Speed,
    /// Seconds of earlier attempts, and the beginning of this one.
    clock: (f64, Instant),
}

/// Trains a phase until its end, from the last checkpoint in the existing folder `unfinished` if there is one.
pub(super) fn fit(task: &PhaseTask<'_>, unfinished: &Path) -> Result<Trained> {
    let mut training = Training::begin(*task, unfinished)?;
    training.announce();
    while training.progress.step < training.steps {
        let start = Instant::now();
        let report = training.step()?;
        training.record(&report, start.elapsed().as_secs_f64())?;
    }
    training.finish()
}

impl<'a> Training<'a> {
    pub(super) fn begin(task: PhaseTask<'a>, unfinished: &Path) -> Result<Self> {
        let config = &task.config.training;
        let rows: Vec<u32> =
            (0..task.y.rows() as u32).filter(|row| task.validation.binary_search(row).is_err()).collect();
        if rows.is_empty() {
            let problem = "no rows are left to train with: set a smaller validation_rows".to_owned();
            return Err(Error::Mismatch(problem));
        }
        let steps = steps(task.phase.epochs, rows.len().div_ceil(config.batch_size));
        let seed = Draws::new(task.seed, Purpose::Level, task.stage as u64).next();
        let tower = match task.texts {
            Texts::Tokens { dir, tower, .. } => {
                Some(Tower::open(dir, tower, task.device, task.config.precision.resolve())?)
            }
            Texts::Embeddings(_) => None,
        };
        let head = first::head(&task, &rows, tower.as_ref().map(Tower::dim), (seed, unfinished))?;
        let mut learner = Learner::new(task, tower, head, steps, seed)?;
        let checkpoints = Checkpoints::new(unfinished, config.checkpoint_minutes);
        let progress: Progress = checkpoints.restore(|saved| learner.restore(saved))?.unwrap_or_default();
        Ok(Training {
            clock: (progress.milliseconds as f64 / 1e3, Instant::now()),
            order: (u64::MAX, Vec::new()),
            speed: Speed::in_rows(matches!(task.texts, Texts::Embeddings(_))),
            task,
            learner,
            rows,
            seed,
            steps,
            progress,
            checkpoints,
        })
    }

    fn announce(&self) {
        let (config, rows) = (&self.task.config.training, self.rows.len());
        self.task.events.message(&format!(
            "{}: {} step{} of {} of {rows} rows, {} labels",
            name(self.task.stage),
            self.steps,
            if self.steps == 1 { "" } else { "s" },
            config.batch_size.min(rows),
            self.task.y.cols(),
        ));
    }

    /// Steps of an epoch.
    fn batches(&self) -> u64 {
        self.rows.len().div_ceil(self.task.config.training.batch_size) as u64
    }

    /// Rows of the present step, rising.
    fn batch(&mut self) -> Vec<u32> {
        let size = self.task.config.training.batch_size;
        let (epoch, batch) = (self.progress.step / self.batches(), self.progress.step % self.batches());
        if self.order.0 != epoch {
            let mut rows = self.rows.clone();
            Draws::new(self.seed, Purpose::Order, epoch).shuffle(&mut rows);
            rows.chunks_mut(size).for_each(<[u32]>::sort_unstable);
            self.order = (epoch, rows);
        }
        self.order.1.chunks(size).nth(batch as usize).unwrap_or_default().to_vec()
    }

    pub(super) fn step(&mut self) -> Result<StepReport> {
        let step = self.progress.step;
        if step.is_multiple_of(self.batches()) {
            self.learner.begin_epoch();
        }
        let rows = self.batch();
        let report = self.learner.step(step, &rows)?;
        if !report.is_finite() {
            let StepReport { loss, norm, .. } = report;
            return Err(
                self.diverged(&format!("the loss is {loss}, the gradient of the encoder has norm {norm}"))
            );
        }
        self.progress.step += 1;
        self.progress.tokens += report.tokens;
        self.average()?;
        Ok(report)
    }

    /// Takes the parameters into their average if it is time: at the end of epoch `swa_start` for the first time, then
    /// after every step that `swa_every` divides, and after the last one. (spec: ELIAS, 3.5)
    fn average(&mut self) -> Result<()> {
        let Phase { swa_start, swa_every, .. } = *self.task.phase;
        let (step, start) = (self.progress.step, u64::from(swa_start) * self.batches());
        let due = step == start || step == self.steps || step.is_multiple_of(swa_every);
        if swa_start > 0 && step >= start && due {
            self.learner.average()?;
        }
        Ok(())
    }

    /// What to do about a step that left the ground.
    fn diverged(&self, what: &str) -> Error {
        let (Phase { lr, cluster_lr, label_lr, .. }, step) = (self.task.phase, self.progress.step);
        let phase = name(self.task.stage);
        Error::Mismatch(format!(
            "{phase}, step {step}: {what}; set a lower {phase}.lr (now {lr}), {phase}.cluster_lr (now {cluster_lr}) or \
             {phase}.label_lr (now {label_lr}), or precision = \"f32\""
        ))
    }

    /// Tells of a step, measures after an epoch, and writes a checkpoint if it is time.
    fn record(&mut self, report: &StepReport, seconds: f64) -> Result<()> {
        self.speed.push(report.loss, report.tokens, seconds);
        if self.progress.step.is_multiple_of(self.batches()) {
            self.validate(&format!("epoch {}", self.progress.step / self.batches()))?;
        }
        if self.checkpoints.due() && self.progress.step < self.steps {
            self.checkpoint()?;
        }
        self.task.events.status(&self.speed.to_string());
        self.task.events.progress(self.progress.step, self.steps);
        Ok(())
    }

    /// Says how good the parameters are on the rows that do not train, if there are any with labels.
    fn validate(&mut self, when: &str) -> Result<()> {
        let y = self.task.y.select_rows(self.task.validation);
        if y.nnz() == 0 {
            return Ok(());
        }
        let found = self.learner.best(self.task.validation, DEEPEST.min(y.cols()))?;
        let config = EvaluateConfig { ks: vec![1, DEEPEST], resamples: 0, ..EvaluateConfig::default() };
        let report = evaluate(&found, &y, &label_counts(self.task.y), self.task.y.rows(), &[], &config)?;
        let value = |name: &str| report.values.get(name).unwrap_or_default();
        self.task.events.message(&format!(
            "{}, {when}: {}   P@1 {:.2}   R@{DEEPEST} {:.2}",
            name(self.task.stage),
            self.speed,
            value("P@1"),
            value(&format!("R@{DEEPEST}")),
        ));
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) -> Result<()> {
        self.progress.milliseconds = (self.seconds() * 1e3) as u64;
        self.checkpoints.save(&self.learner.state(), &self.progress)
    }

    /// Seconds of training so far.
    fn seconds(&self) -> f64 {
        self.clock.0 + self.clock.1.elapsed().as_secs_f64()
    }

    pub(super) fn finish(mut self) -> Result<Trained> {
        let phase = name(self.task.stage);
        let averaged = self.learner.averaged();
        if averaged > 0 {
            self.learner.use_average()?;
            self.validate(&format!("mean of {averaged} sets of parameters"))?;
        }
        let (seconds, read) = (self.seconds(), self.progress.tokens);
        let unit = if matches!(self.task.texts, Texts::Tokens { .. }) { "tokens" } else { "rows" };
        self.task.events.message(&format!("{phase}: {}; {read} {unit}, {seconds:.0} s", self.speed));
        // No step follows that would notice what the last one did.
        if !self.learner.is_finite(&self.rows)? {
            return Err(
                self.diverged("encoder, clusters or classifiers are no longer made of finite numbers")
            );
        }
        let (tower, head) = self.learner.into_parts()?;
        let encoder = match (tower, self.task.texts) {
            (Some(tower), Texts::Tokens { dir, .. }) => Some((tower, dir.to_owned())),
            _ => None,
        };
        Ok(Trained::Now { encoder, head: Box::new(head) })
    }
}

/// Steps of so many epochs of `batches` steps each; one at least.
pub(super) fn steps(epochs: f32, batches: usize) -> u64 {
    ((f64::from(epochs) * batches as f64).round() as u64).max(1)
}

/// Name of a phase, as its table of settings is called.
pub(super) fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Warmup => "warmup",
        Stage::Stage2 => "stage2",
        _ => "stage1",
    }
}

#[cfg(test)]
mod tests;

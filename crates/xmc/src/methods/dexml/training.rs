//! The loop: epochs, steps, and what happens between them.
//!
//! ```text
//! for every epoch
//!     if negatives are mined: embed all, keep what each row wrongly ranks high
//!     for every batch of rows
//!         positives of the rows, kept or sampled; a pool of labels
//!         x, y = encoder(texts), encoder(label names)
//!         loss over all pairs; its gradient through y and x into the encoder
//!         AdamW
//!     validate; keep the best parameters; stop if there was no progress for long
//! ```

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use xmc_data::Csr;
use xmc_data::dataset::Dataset;

use super::checkpointing::Files;
use super::config::{DexmlConfig, Head, Negatives};
use super::estimate;
use super::inputs::TokenSets;
use super::learner::{Learner, StepReport};
use super::mining::{Shortlist, mine};
use super::negatives::Sampler;
use super::positives;
use super::trained::{Trained, open_tower};
use crate::encoder::fresh_pooler;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::methods::TrainOptions;
use crate::methods::checkpoints::{Checkpoints, Progress};
use crate::methods::curves::Curves;
use crate::methods::speed::Speed;
use crate::methods::split::Split;
use crate::methods::validation::Validation;
use crate::random::{Draws, Purpose};

/// What a training works on.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) data: &'a Dataset,
    /// The training labels as the settings read their values.
    pub(super) y: &'a Csr,
    pub(super) config: &'a DexmlConfig,
    pub(super) tokens: &'a TokenSets,
    pub(super) split: &'a Split,
    pub(super) options: &'a TrainOptions,
    pub(super) events: &'a dyn Events,
}

impl Task<'_> {
    /// Steps of an epoch.
    pub(super) fn batches(&self) -> usize {
        self.split.learn.len().div_ceil(self.config.batch_size)
    }

    /// Steps of the whole training.
    pub(super) fn steps(&self) -> u64 {
        self.batches() as u64 * self.config.epochs as u64
    }
}

/// A training in progress.
struct Training<'a> {
    task: Task<'a>,
    learner: Learner<'a>,
    sampler: Sampler,
    validation: Option<Validation<'a>>,
    shortlist: Option<Shortlist>,
    progress: Progress,
    checkpoints: Checkpoints,
    curves: Curves,
    speed: Speed,
    /// Seconds of earlier attempts, and the beginning of this one.
    clock: (f64, Instant),
    /// Whether it was said that rows are saturated.
    warned: bool,
}

/// Trains the encoder in `encoder` until the end, from the last checkpoint in `unfinished` if there is one.
pub(super) fn fit(task: &Task<'_>, encoder: &Path, unfinished: &Path) -> Result<Trained> {
    let mut training = Training::begin(*task, encoder, unfinished)?;
    let config = task.config;
    if training.validation.is_none() && config.validation > 0.0 {
        task.events.message("no rows to validate with: the parameters of the last epoch are kept");
    }
    if training.progress.step == 0 {
        estimate::announce(task, &training.learner, &training.sampler)?;
        training.validate_beginning()?;
    }
    while training.progress.epoch < config.epochs && !training.stuck() {
        training.mine_if_due()?;
        let order = training.order();
        for rows in order.chunks(config.batch_size).skip(training.progress.batch) {
            let start = Instant::now();
            let report = training.step(rows)?;
            training.record(&report, start.elapsed().as_secs_f64())?;
        }
        training.finish_epoch()?;
    }
    training.finish(encoder)
}

impl<'a> Training<'a> {
    fn begin(task: Task<'a>, encoder: &Path, unfinished: &Path) -> Result<Self> {
        let Task { data, y, config, tokens, split, options, events } = task;
        let tower = open_tower(encoder, config, options.device)?;
        if let Some(note) = fresh_pooler(encoder, &tower) {
            events.message(&note);
        }
        let mut learner = Learner::new(tower, config, tokens, data.labels.len(), task.steps(), options.seed);
        let checkpoints = Checkpoints::new(unfinished, config.checkpoint_minutes);
        let progress: Progress = checkpoints.restore(|saved| learner.restore(saved))?.unwrap_or_default();
        let files = Files(&checkpoints);
        Ok(Training {
            sampler: Sampler::new(config, y, &split.learn, options.seed),
            validation: Validation::new(data, &split.validate, &config.metric)?,
            shortlist: if progress.mined.is_some() { Some(files.load_shortlist()?) } else { None },
            curves: Curves::open(&files.curves(), progress.curves)?,
            clock: (progress.milliseconds as f64 / 1e3, Instant::now()),
            warned: false,
            task,
            learner,
            speed: Speed::default(),
            progress,
            checkpoints,
        })
    }

    /// The learning rows in the order of the present epoch, each batch sorted.
    fn order(&self) -> Vec<u32> {
        let mut rows = self.task.split.learn.clone();
        Draws::new(self.task.options.seed, Purpose::Order, self.progress.epoch as u64).shuffle(&mut rows);
        rows.chunks_mut(self.task.config.batch_size).for_each(<[u32]>::sort_unstable);
        rows
    }

    /// Mines labels in the epochs that begin with it.
    fn mine_if_due(&mut self) -> Result<()> {
        let (config, epoch) = (self.task.config, self.progress.epoch);
        let since = epoch.checked_sub(config.mine_after);
        let due = since.is_some_and(|since| since.is_multiple_of(config.mine_every));
        if config.negatives != Negatives::Hard || !due || self.progress.mined == Some(epoch) {
            return Ok(());
        }
        self.task.events.status("mining negatives");
        let scorer = self.learner.scorer()?;
        let labels = scorer.label_embeddings()?;
        let learn = &self.task.split.learn;
        let shortlist = mine(&|rows| scorer.rows(rows), &labels, self.task.data, learn, config.mine_top)?;
        self.files().save_shortlist(&shortlist)?;
        (self.shortlist, self.progress.mined) = (Some(shortlist), Some(epoch));
        Ok(())
    }

    /// One step on `rows` (rising).
    fn step(&mut self, rows: &[u32]) -> Result<StepReport> {
        let (config, seed, step) = (self.task.config, self.task.options.seed, self.progress.step);
        let targets = positives::draw(config, self.task.y, rows, seed, step)?;
        let pool = self.sampler.draw(step, rows, &targets, self.shortlist.as_ref());
        let report = self.learner.step(step, rows, &pool, &targets)?;
        if !(report.loss.is_finite() && report.norm.is_finite()) {
            return Err(Error::Mismatch(format!(
                "step {step}: the loss is {} and the gradient has norm {}; set a lower lr (now {}), a higher tau \
                 or precision = \"f32\"",
                report.loss, report.norm, config.lr
            )));
        }
        if report.saturated > 0 && !self.warned {
            self.warned = true;
            self.task.events.message(&format!(
                "step {step}: {} of {} rows have no more labels to choose from than the k of soft-topk, so they teach \
                 nothing; give them more negatives or set a lower topk",
                report.saturated,
                rows.len()
            ));
        }
        self.progress.step += 1;
        self.progress.batch += 1;
        Ok(report)
    }

    /// Writes down a step, and a checkpoint if it is time.
    fn record(&mut self, report: &StepReport, seconds: f64) -> Result<()> {
        let speed = report.tokens as f64 / seconds.max(1e-9);
        self.curves.push(&json!({
            "step": self.progress.step, "epoch": self.progress.epoch, "loss": report.loss, "lr": report.lr,
            "norm": report.norm, "tokens_per_second": speed.round(), "seconds": self.seconds(),
        }))?;
        self.speed.push(report.loss, report.tokens, seconds);
        let best = match (self.progress.best(), self.progress.best_epoch) {
            (Some(best), Some(epoch)) => format!("   {} {best:.2} (epoch {epoch})", self.task.config.metric),
            _ => String::new(),
        };
        let events = self.task.events;
        events.status(&format!("{}{best}", self.speed));
        events.progress(self.progress.step, self.task.steps());
        if self.checkpoints.due() { self.checkpoint() } else { Ok(()) }
    }

    /// Validates what training begins with: names alone often tell much, and what is not beaten is kept.
    fn validate_beginning(&mut self) -> Result<()> {
        match self.task.config.head {
            Head::LabelText if self.task.config.projection.is_none() => self.validate(None),
            _ => Ok(()),
        }
    }

    /// Measures the parameters, perhaps the average of some last epochs, and keeps them if there are no better ones.
    fn validate(&mut self, averaged: Option<u32>) -> Result<()> {
        let Some(validation) = &self.validation else { return Ok(()) };
        self.task.events.status("validating");
        let scorer = self.learner.scorer()?;
        let (metric, report) =
            validation.measure(&scorer.rows(validation.rows())?, &scorer.label_embeddings()?)?;
        let (step, epoch) = (self.progress.step, self.progress.epoch);
        let seconds = self.seconds();
        let mut record =
            json!({ "step": step, "epoch": epoch, "seconds": seconds, "validation": report.values });
        let mut name = format!("epoch {epoch}");
        if let Some(epochs) = averaged {
            record["average"] = epochs.into();
            name = format!("average of the last {epochs} epochs");
        }
        self.curves.push(&record)?;
        let shown = ["P@1", "P@5", "PSP@5", "R@10", "R@100"];
        let shown = shown.map(|name| format!("{name} {:.2}", report.values.get(name).unwrap_or(0.0)));
        let better = self.progress.note(epoch, metric);
        self.task.events.message(&format!(
            "{name}: {} {metric:.2}{}   {}   ({seconds:.0} s)",
            self.task.config.metric,
            if better { " (best)" } else { "" },
            shown.join("   ")
        ));
        if better { self.files().save_best(&self.learner) } else { Ok(()) }
    }

    /// Whether validations have shown no progress for too long.
    fn stuck(&self) -> bool {
        let patience = self.task.config.patience;
        patience > 0 && self.progress.stale >= patience
    }

    /// Averages and validates if it is time, and writes a checkpoint.
    fn finish_epoch(&mut self) -> Result<()> {
        let config = self.task.config;
        (self.progress.epoch, self.progress.batch) = (self.progress.epoch + 1, 0);
        let epoch = self.progress.epoch;
        if epoch + config.swa > config.epochs {
            self.learner.average()?;
        }
        if epoch.is_multiple_of(config.evaluate_every) || epoch == config.epochs {
            self.validate(None)?;
        }
        self.checkpoint()
    }

    /// The best parameters, or the average of the last if that is better, or the last if nothing was measured.
    fn finish(mut self, encoder: &Path) -> Result<Trained> {
        let averaged = self.learner.use_average()?;
        let (config, events) = (self.task.config, self.task.events);
        if config.swa > 0 && self.progress.epoch < config.epochs {
            events.message(&format!(
                "training ended early, so {} of the last {} epochs were averaged; patience = 0 trains to the end",
                averaged.unwrap_or(0),
                config.swa
            ));
        }
        if averaged.is_some() {
            self.validate(averaged)?;
        }
        if self.progress.best_epoch == Some(0) {
            events.message(
                "no epoch was as good as the encoder with which training began, so that one is kept; a lower lr or more \
                 epochs may help",
            );
        }
        if self.progress.best_epoch.is_some() {
            Files(&self.checkpoints).load_best(&mut self.learner)?;
        }
        self.curves.flush()?;
        let curves = self.files().curves();
        Trained::new(self.learner, encoder, curves)
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.progress.curves = self.curves.flush()?;
        self.progress.milliseconds = (self.seconds() * 1e3) as u64;
        self.checkpoints.save(&self.learner.state(), &self.progress)
    }

    fn files(&self) -> Files<'_> {
        Files(&self.checkpoints)
    }

    /// Seconds of training so far.
    fn seconds(&self) -> f64 {
        self.clock.0 + self.clock.1.elapsed().as_secs_f64()
    }
}

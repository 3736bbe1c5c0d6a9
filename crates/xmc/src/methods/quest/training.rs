//! The loop: epochs, steps, and what happens between them.
//!
//! ```text
//! for every epoch
//!     sampled pairs of the epoch, in random order
//!     if asked for: embeddings of all labels as they are now (the bank), and what each row wrongly ranks highest
//!     for every batch of pairs
//!         x, y = decoder(prompt, texts), decoder(prompt, labels), each once
//!         contrastive loss; its gradient through the frozen decoder into the prompt
//!         AdamW
//!     validate; keep the best parameters; stop if there was no progress for long
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_nn::checkpoint;
use xmc_nn::decoder::Prompted;

use super::config::QuestConfig;
use super::estimate::Work;
use super::learner::{Learner, StepReport, When};
use super::loss::{Compared, Drawn};
use super::sampled::Sampling;
use super::trained::Trained;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::index::LabelEmbeddings;
use crate::methods::TrainOptions;
use crate::methods::checkpoints::{Checkpoints, Progress, write};
use crate::methods::curves::Curves;
use crate::methods::dexml::{Shortlist, TokenSets, mine};
use crate::methods::speed::{Speed, duration};
use crate::methods::split::Split;
use crate::methods::validation::Validation;
use crate::random::{Draws, Purpose};

/// What a training works on.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) data: &'a Dataset,
    pub(super) config: &'a QuestConfig,
    pub(super) tokens: &'a TokenSets,
    pub(super) split: &'a Split,
    pub(super) sampling: &'a Sampling<'a>,
    pub(super) options: &'a TrainOptions,
    pub(super) events: &'a dyn Events,
}

/// What was embedded and searched at the beginning of an epoch.
#[derive(Default)]
struct Bank {
    labels: Option<LabelEmbeddings>,
    shortlist: Option<Shortlist>,
}

/// A training in progress.
struct Training<'a> {
    task: Task<'a>,
    learner: Learner<'a>,
    validation: Option<Validation<'a>>,
    /// Embeddings of all labels by the present parameters, if they were made.
    labels: Option<LabelEmbeddings>,
    bank: Bank,
    progress: Progress,
    checkpoints: Checkpoints,
    curves: Curves,
    speed: Speed,
    /// Steps of the first epoch.
    batches: usize,
    /// Seconds of earlier attempts, and the beginning of this one.
    clock: (f64, Instant),
}

/// Trains `prompted` until the end, from the last checkpoint in `unfinished` if there is one.
pub(super) fn fit(
    task: &Task<'_>,
    prompted: Prompted,
    fingerprint: &str,
    unfinished: &Path,
) -> Result<Trained> {
    let mut training = Training::begin(*task, prompted, unfinished)?;
    let config = task.config;
    if training.validation.is_none() && config.validation > 0.0 {
        task.events.message("no rows to validate with: the parameters of the last epoch are kept");
    }
    if training.progress.step == 0 {
        training.announce();
        training.validate()?;
    }
    while training.progress.epoch < config.epochs && !training.stuck() {
        let pairs = training.pairs()?;
        training.prepare()?;
        for batch in pairs.chunks(config.batch_size).skip(training.progress.batch) {
            let start = Instant::now();
            let report = training.step(batch, pairs.len().div_ceil(config.batch_size))?;
            training.record(&report, start.elapsed().as_secs_f64())?;
        }
        training.finish_epoch()?;
    }
    training.finish(fingerprint)
}

/// Sampled pairs (row, label) of the rows `learn` in `epoch`, in their random order.
fn ordered(pairs: &Csr, learn: &[u32], seed: u64, epoch: usize) -> Vec<(u32, u32)> {
    let of_row = |&row: &u32| pairs.row(row as usize).indices.iter().map(move |&label| (row, label));
    let mut ordered: Vec<(u32, u32)> = learn.iter().flat_map(of_row).collect();
    Draws::new(seed, Purpose::Order, epoch as u64).shuffle(&mut ordered);
    ordered
}

/// Each of `ids` once, rising.
fn once(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl<'a> Training<'a> {
    fn begin(task: Task<'a>, prompted: Prompted, unfinished: &Path) -> Result<Self> {
        let Task { data, config, tokens, split, sampling, options, .. } = task;
        let first = sampling.pairs(0)?;
        let pairs: usize = split.learn.iter().map(|&row| first.row(row as usize).len()).sum();
        if pairs == 0 {
            return Err(Error::Mismatch(
                "sampling left no pair of a row and a label to learn from: raise sampling.ratio".to_owned(),
            ));
        }
        let batches = pairs.div_ceil(config.batch_size);
        let mut learner = Learner::new(prompted, config, tokens, batches as u64, options.seed);
        let checkpoints = Checkpoints::new(unfinished, config.checkpoint_minutes);
        let progress: Progress = checkpoints.restore(|saved| learner.restore(saved))?.unwrap_or_default();
        let mut training = Training {
            validation: Validation::new(data, &split.validate, &config.metric)?,
            curves: Curves::open(&unfinished.join(CURVES), progress.curves)?,
            clock: (progress.milliseconds as f64 / 1e3, Instant::now()),
            labels: None,
            bank: Bank::default(),
            task,
            learner,
            batches,
            speed: Speed::default(),
            progress,
            checkpoints,
        };
        if training.progress.mined == Some(training.progress.epoch) {
            training.load_bank()?;
        }
        Ok(training)
    }

    /// Says what is ahead.
    fn announce(&self) {
        let Task { config, split, sampling, events, .. } = self.task;
        let work =
            Work::of(self.learner.prompted().decoder().config(), config, self.task.tokens, self.batches);
        events.message(&format!(
            "{} rows, {} sampled labels, {} parameters; an epoch has {} steps of {} pairs, about {:.0} tokens each; {:.1e} \
             operations in {} epochs",
            split.learn.len(),
            sampling.first.labels.len(),
            self.learner.prompted().layout().len(),
            self.batches,
            config.batch_size,
            work.tokens_of_a_step,
            work.operations(),
            config.epochs,
        ));
    }

    /// The pairs of the present epoch in their order.
    fn pairs(&self) -> Result<Vec<(u32, u32)>> {
        let (epoch, seed) = (self.progress.epoch, self.task.options.seed);
        Ok(ordered(&self.task.sampling.pairs(epoch as u64)?, &self.task.split.learn, seed, epoch))
    }

    /// Makes the bank of the epoch, if it has one that is not there yet.
    fn prepare(&mut self) -> Result<()> {
        let (config, epoch) = (self.task.config, self.progress.epoch);
        let hard = config.hard_negatives > 0 && epoch > 0;
        if self.progress.mined == Some(epoch) || config.negatives == 0 && !hard {
            return Ok(());
        }
        self.task.events.status("embedding all labels");
        let labels = self.all_labels()?;
        if hard {
            self.task.events.status("searching hard negatives");
            let (data, learn) = (self.task.data, &self.task.split.learn);
            let top = config.hard_negatives;
            let shortlist = mine(&|rows| self.learner.rows(rows), &labels, data, learn, top)?;
            shortlist.save(&self.file(SHORTLIST))?;
            self.bank.shortlist = Some(shortlist);
        }
        if config.negatives > 0 {
            labels.save(&self.file(BANK))?;
            self.bank.labels = Some(labels);
        }
        self.progress.mined = Some(epoch);
        Ok(())
    }

    fn load_bank(&mut self) -> Result<()> {
        let (config, epoch) = (self.task.config, self.progress.epoch);
        let read = |training: &Self| {
            let labels =
                if config.negatives > 0 { Some(LabelEmbeddings::open(&training.file(BANK))?) } else { None };
            let hard = config.hard_negatives > 0 && epoch > 0;
            let shortlist = if hard { Some(Shortlist::load(&training.file(SHORTLIST))?) } else { None };
            Ok(Bank { labels, shortlist })
        };
        self.bank = read(self).map_err(|problem| self.checkpoints.damaged(&problem))?;
        Ok(())
    }

    /// Embeddings of all labels by the present parameters.
    fn all_labels(&mut self) -> Result<LabelEmbeddings> {
        match self.labels.take() {
            Some(labels) => Ok(labels),
            None => self.learner.labels(&|_, _| ()),
        }
    }

    /// One step of an epoch of `batches` steps.
    fn step(&mut self, pairs: &[(u32, u32)], batches: usize) -> Result<StepReport> {
        let (config, step, epoch) = (self.task.config, self.progress.step, self.progress.epoch);
        let rows = once(pairs.iter().map(|pair| pair.0));
        let hard = self.hard(&rows, step);
        let labels = once(pairs.iter().map(|pair| pair.1).chain(hard));
        let drawn = self.drawn(&labels, step);
        let known = &self.task.data.train.y;
        let compared = Compared { pairs, rows: &rows, labels: &labels, drawn: &drawn, known };
        let place = epoch * self.batches + self.progress.batch * self.batches / batches;
        let report = self.learner.step(When { step, epoch, place: place as u64 }, &compared)?;
        self.labels = None;
        if !(report.loss.is_finite() && report.norm.is_finite()) {
            return Err(Error::Mismatch(format!(
                "step {step}: the loss is {} and the gradient has norm {}; set a lower lr (now {}), a higher tau \
                 or precision = \"f32\"",
                report.loss, report.norm, config.lr
            )));
        }
        self.progress.step += 1;
        self.progress.batch += 1;
        Ok(report)
    }

    /// Hard negatives of `rows`.
    fn hard(&self, rows: &[u32], step: u64) -> Vec<u32> {
        let draw =
            |list: &Shortlist| list.draw(rows, self.task.config.hard_negatives, self.task.options.seed, step);
        self.bank.shortlist.as_ref().map(draw).unwrap_or_default()
    }

    /// Labels of the bank that are not among `labels`.
    fn drawn(&self, labels: &[u32], step: u64) -> Drawn {
        let Some(bank) = &self.bank.labels else { return Drawn { ids: Vec::new(), values: Vec::new() } };
        let mut draws = Draws::new(self.task.options.seed, Purpose::Pool, step);
        let mut ids = draws.distinct(self.task.config.negatives, bank.rows());
        ids.retain(|id| labels.binary_search(id).is_err());
        let values = ids.iter().flat_map(|&id| bank.row(id as usize).into_owned()).collect();
        Drawn { ids, values }
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
        events.progress(self.progress.step, (self.batches * self.task.config.epochs) as u64);
        if self.checkpoints.due() { self.checkpoint() } else { Ok(()) }
    }

    /// Measures the parameters and keeps them if there are no better ones. Before the first step too: a decoder with a
    /// prompt that has learned nothing is what training must beat.
    fn validate(&mut self) -> Result<()> {
        if self.validation.is_none() {
            return Ok(());
        }
        self.task.events.status("validating");
        let labels = self.all_labels()?;
        let Some(validation) = &self.validation else { return Ok(()) };
        let (metric, report) = validation.measure(&self.learner.rows(validation.rows())?, &labels)?;
        self.labels = Some(labels);
        let (step, epoch, seconds) = (self.progress.step, self.progress.epoch, self.seconds());
        self.curves.push(
            &json!({ "step": step, "epoch": epoch, "seconds": seconds, "validation": report.values }),
        )?;
        let shown = ["P@1", "P@5", "PSP@5", "R@10", "R@100"];
        let shown = shown.map(|name| format!("{name} {:.2}", report.values.get(name).unwrap_or(0.0)));
        let better = self.progress.note(epoch, metric);
        self.task.events.message(&format!(
            "epoch {epoch}: {} {metric:.2}{}   {}   ({})",
            self.task.config.metric,
            if better { " (best)" } else { "" },
            shown.join("   "),
            duration(seconds)
        ));
        if better { write(&self.file(BEST), &self.learner.parameters(), &Value::Null) } else { Ok(()) }
    }

    /// Whether validations have shown no progress for too long.
    fn stuck(&self) -> bool {
        let patience = self.task.config.patience;
        patience > 0 && self.progress.stale >= patience
    }

    /// Validates and writes a checkpoint.
    fn finish_epoch(&mut self) -> Result<()> {
        (self.progress.epoch, self.progress.batch) = (self.progress.epoch + 1, 0);
        self.bank = Bank::default();
        self.validate()?;
        self.checkpoint()
    }

    /// The best parameters, or the last if nothing was measured.
    fn finish(mut self, fingerprint: &str) -> Result<Trained> {
        if self.progress.best_epoch == Some(0) {
            self.task.events.message(
                "no epoch was as good as the prompt with which training began, so that one is kept; another lr, more \
                 epochs or lora_rank may help",
            );
        }
        if self.progress.best_epoch.is_some() {
            let path = self.file(BEST);
            let read = |learner: &mut Learner<'_>| learner.set_parameters(&mut checkpoint::load(&path)?);
            read(&mut self.learner).map_err(|problem| self.checkpoints.damaged(&problem))?;
        }
        // What validated the parameters that are kept need not be embedded again.
        if let Some(labels) =
            self.labels.take().filter(|_| self.progress.best_epoch == Some(self.progress.epoch))
        {
            labels.save(&self.file(READY))?;
        }
        self.curves.flush()?;
        let curves = self.file(CURVES);
        let epochs = self.progress.best_epoch.unwrap_or(self.progress.epoch);
        Ok(Trained::now(self.learner.into_prompted(), epochs, fingerprint, curves))
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.progress.curves = self.curves.flush()?;
        self.progress.milliseconds = (self.seconds() * 1e3) as u64;
        self.checkpoints.save(&self.learner.state(), &self.progress)
    }

    /// A file of the unfinished training.
    fn file(&self, name: &str) -> PathBuf {
        self.checkpoints.dir().join(name)
    }

    /// Seconds of training so far.
    fn seconds(&self) -> f64 {
        self.clock.0 + self.clock.1.elapsed().as_secs_f64()
    }
}

/// Names of files; that of the curves also in the model.
pub(super) const CURVES: &str = "curves.jsonl";
const BEST: &str = "best.safetensors";
const BANK: &str = "bank";
/// Embeddings of all labels by the parameters that are kept, where the training had them.
pub(super) const READY: &str = "labels";
const SHORTLIST: &str = "shortlist.safetensors";

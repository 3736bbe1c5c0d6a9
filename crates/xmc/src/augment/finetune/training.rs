//! The loop.
//!
//! ```text
//! for every epoch, for every batch of examples in random order
//!     mean loss over the tokens of all answers of the batch, its gradient in passes of a bounded number of tokens
//!     clip, AdamW on the adapter
//!     every so many steps: the loss on held-out examples; keep the best adapter
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmc_nn::checkpoint::{self, Checkpoint};
use xmc_nn::dropout::DropoutKey;
use xmc_nn::optim::{AdamW, AdamWConfig, LearningRate, Schedule, clip_scale, global_norm};
use xmc_nn::tokens::by_budget;
use xmc_nn::tune::{Loss, Tuned};

use super::config::FinetuneConfig;
use super::examples::Examples;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::methods::checkpoints::{Checkpoints, named, write};
use crate::methods::curves::Curves;
use crate::methods::speed::{Speed, duration};
use crate::random::{Draws, Purpose};

/// Name of the curves in the finished folder.
pub(super) const CURVES: &str = "curves.jsonl";

/// The best adapter so far.
const BEST: &str = "best.safetensors";

/// Most examples that measure: more would say the same.
const MOST_HELD_OUT: usize = 1000;

/// What a training works on.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) config: &'a FinetuneConfig,
    pub(super) examples: &'a Examples,
    pub(super) seed: u64,
    pub(super) events: &'a dyn Events,
}

/// Where it stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    epoch: usize,
    /// Batches of the present epoch finished.
    batch: usize,
    step: u64,
    /// Bits of the held-out loss before the first step.
    first_bits: u64,
    /// The step with the lowest held-out loss, and the loss's bits.
    best: Option<(u64, u64)>,
    /// The step that was measured last.
    measured: Option<u64>,
    /// Bytes of the curves.
    curves: u64,
    milliseconds: u64,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Steps of all epochs.
    pub steps: u64,
    /// The step whose adapter is kept.
    pub best_step: u64,
    /// Held-out loss of a token before the first step; none if nothing was held out.
    pub loss_before: Option<f64>,
    /// The same with the adapter that is kept.
    pub loss_after: Option<f64>,
}

struct Training<'a> {
    task: Task<'a>,
    tuned: &'a mut Tuned,
    optimizer: AdamW,
    rate: LearningRate,
    /// Zero between steps.
    grads: Vec<f32>,
    learn: Vec<u32>,
    held_out: Vec<u32>,
    progress: Progress,
    checkpoints: Checkpoints,
    curves: Curves,
    speed: Speed,
    clock: (f64, Instant),
}

/// Trains `tuned` until the end, from the last checkpoint in `unfinished` if there is one; the curves stay there.
pub(super) fn fit(task: Task<'_>, tuned: &mut Tuned, unfinished: &Path) -> Result<Outcome> {
    let mut training = Training::begin(task, tuned, unfinished)?;
    if training.progress.step == 0 {
        training.announce();
        training.measure()?;
    }
    let config = task.config;
    while training.progress.epoch < config.epochs {
        let order = training.order();
        for rows in order.chunks(config.batch_size).skip(training.progress.batch) {
            training.step(rows)?;
        }
        (training.progress.epoch, training.progress.batch) = (training.progress.epoch + 1, 0);
        training.measure()?;
        training.checkpoint()?;
    }
    training.finish()
}

impl<'a> Training<'a> {
    fn begin(task: Task<'a>, tuned: &'a mut Tuned, unfinished: &Path) -> Result<Self> {
        let Task { config, examples, seed, .. } = task;
        let n = examples.len();
        let asked = (config.held_out * n as f32).ceil() as usize;
        let held_out = Draws::new(seed, Purpose::Split, 0).distinct(asked.min(MOST_HELD_OUT).min(n - 1), n);
        let learn: Vec<u32> = (0..n as u32).filter(|row| held_out.binary_search(row).is_err()).collect();
        let steps = (learn.len().div_ceil(config.batch_size) * config.epochs) as u64;
        let (lr, warmup) = (f64::from(config.lr), f64::from(config.warmup));
        let rate =
            LearningRate::new(Schedule::Cosine, lr, warmup, steps).with_floor(f64::from(config.lr_end));
        let adam = AdamWConfig {
            beta2: f64::from(config.beta2),
            weight_decay: f64::from(config.weight_decay),
            ..AdamWConfig::default()
        };
        let mut training = Training {
            optimizer: AdamW::new(tuned.layout(), adam),
            grads: vec![0.0; tuned.layout().len()],
            checkpoints: Checkpoints::new(unfinished, config.checkpoint_minutes),
            curves: Curves::open(&unfinished.join(CURVES), u64::MAX)?,
            progress: Progress::default(),
            speed: Speed::default(),
            clock: (0.0, Instant::now()),
            task,
            tuned,
            rate,
            learn,
            held_out,
        };
        training.resume(unfinished)?;
        Ok(training)
    }

    /// Puts back what the last checkpoint has, if there is one.
    fn resume(&mut self, unfinished: &Path) -> Result<()> {
        let (tuned, optimizer) = (&mut *self.tuned, &mut self.optimizer);
        let put_back = |saved: &mut Checkpoint| {
            tuned.set_params(&saved.take("adapter").unwrap_or_default())?;
            Ok(optimizer.restore(|name| saved.take(&format!("adamw.{name}")))?)
        };
        self.progress = self.checkpoints.restore(put_back)?.unwrap_or_default();
        self.curves = Curves::open(&unfinished.join(CURVES), self.progress.curves)?;
        self.clock.0 = self.progress.milliseconds as f64 / 1e3;
        Ok(())
    }

    fn steps(&self) -> u64 {
        (self.learn.len().div_ceil(self.task.config.batch_size) * self.task.config.epochs) as u64
    }

    fn announce(&self) {
        let Task { config, examples, events, .. } = self.task;
        events.message(&format!(
            "{} examples with {} tokens, {} of them answers; {} held out, {} answers cut, {} prompts too long; {} \
             parameters, {} steps of {} examples",
            examples.len(),
            examples.tokens().total(),
            examples.counted(&(0..examples.len() as u32).collect::<Vec<_>>()),
            self.held_out.len(),
            examples.cut,
            examples.skipped,
            self.tuned.layout().len(),
            self.steps(),
            config.batch_size,
        ));
    }

    /// Examples of the present epoch in their order.
    fn order(&self) -> Vec<u32> {
        let mut order = self.learn.clone();
        Draws::new(self.task.seed, Purpose::Order, self.progress.epoch as u64).shuffle(&mut order);
        order
    }

    /// One step, and what is due behind it.
    fn step(&mut self, rows: &[u32]) -> Result<()> {
        let Task { config, examples, seed, .. } = self.task;
        let (start, step) = (Instant::now(), self.progress.step);
        let scale = 1.0 / examples.counted(rows).max(1) as f32;
        let mut loss = Loss::default();
        for (part, rows) in by_budget(examples.tokens(), rows, config.tokens_per_batch).iter().enumerate() {
            let (batch, from) = examples.batch(rows);
            let key = (config.dropout > 0.0).then_some(DropoutKey { seed, step, part: part as u64 });
            loss = loss.and(self.tuned.learn(&batch, &from, key, scale, &mut self.grads)?);
        }
        let norm = global_norm(&self.grads);
        if !(loss.sum.is_finite() && norm.is_finite()) {
            return Err(Error::Mismatch(format!(
                "step {step}: the loss is {} and the gradient has norm {norm}; set a lower lr (now {}) or \
                 precision = \"f32\"",
                loss.mean(),
                config.lr
            )));
        }
        let clip = f64::from(config.clip);
        let shorten = if clip > 0.0 { clip_scale(norm, clip) } else { 1.0 };
        let lr = self.rate.lr_at(step);
        self.optimizer.step(self.tuned.params_mut(), &mut self.grads, lr, shorten)?;
        self.tuned.refresh();
        self.progress.step += 1;
        self.progress.batch += 1;
        let tokens = rows.iter().map(|&row| examples.tokens().row_len(row as usize) as u64).sum();
        self.record(loss.mean(), lr, norm, tokens, start.elapsed().as_secs_f64())
    }

    /// Writes down a step; measures and saves if it is time.
    fn record(&mut self, loss: f64, lr: f32, norm: f64, tokens: u64, seconds: f64) -> Result<()> {
        let (step, epoch) = (self.progress.step, self.progress.epoch);
        self.curves.push(&json!({
            "step": step, "epoch": epoch, "loss": loss, "lr": lr, "norm": norm,
            "tokens_per_second": (tokens as f64 / seconds.max(1e-9)).round(), "seconds": self.seconds(),
        }))?;
        self.speed.push(loss, tokens, seconds);
        let every = self.task.config.validate_steps;
        if every > 0 && step.is_multiple_of(every) {
            self.measure()?;
        }
        if self.checkpoints.due() {
            self.checkpoint()?;
        }
        let events = self.task.events;
        events.status(&self.speed.to_string());
        events.progress(step, self.steps());
        Ok(())
    }

    /// The loss on held-out examples; keeps the adapter if none was better. Before the first step too: a decoder that has
    /// learned nothing is what training must beat.
    fn measure(&mut self) -> Result<()> {
        let (step, epoch) = (self.progress.step, self.progress.epoch);
        if self.held_out.is_empty() || self.progress.measured == Some(step) {
            return Ok(());
        }
        self.task.events.status("measuring held-out examples");
        let Task { examples, config, .. } = self.task;
        let mut loss = Loss::default();
        for rows in by_budget(examples.tokens(), &self.held_out, config.tokens_per_batch) {
            let (batch, from) = examples.batch(&rows);
            loss = loss.and(self.tuned.loss(&batch, &from)?);
        }
        let mean = loss.mean();
        if step == 0 {
            self.progress.first_bits = mean.to_bits();
        }
        let better = self.progress.best.is_none_or(|(_, bits)| mean < f64::from_bits(bits));
        if better {
            self.progress.best = Some((step, mean.to_bits()));
            write(&self.file(BEST), &[("adapter".to_owned(), self.tuned.params())], &Value::Null)?;
        }
        self.progress.measured = Some(step);
        let seconds = self.seconds();
        self.curves
            .push(&json!({ "step": step, "epoch": epoch, "held_out_loss": mean, "seconds": seconds }))?;
        let best = if better { " (best)" } else { "" };
        let time = duration(seconds);
        self.task.events.message(&format!("step {step}: held-out loss {mean:.4}{best}   ({time})"));
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.progress.curves = self.curves.flush()?;
        self.progress.milliseconds = (self.seconds() * 1e3) as u64;
        let mut state = vec![("adapter".to_owned(), self.tuned.params())];
        state.extend(named("adamw", self.optimizer.state()));
        self.checkpoints.save(&state, &self.progress)
    }

    /// The best adapter, or the last if nothing was measured.
    fn finish(mut self) -> Result<Outcome> {
        self.curves.flush()?;
        let steps = self.progress.step;
        let mut outcome = Outcome { steps, best_step: steps, ..Outcome::default() };
        if let Some((step, bits)) = self.progress.best {
            let path = self.file(BEST);
            let params = checkpoint::load(&path)
                .and_then(|mut saved| self.tuned.set_params(&saved.take("adapter").unwrap_or_default()));
            params.map_err(|problem| self.checkpoints.damaged(&problem.into()))?;
            outcome.best_step = step;
            outcome.loss_before = Some(f64::from_bits(self.progress.first_bits));
            outcome.loss_after = Some(f64::from_bits(bits));
            if step == 0 {
                self.task.events.message(
                    "no step was as good as the decoder as it was, so that one is kept; another lr, more \
                     epochs or more examples may help",
                );
            }
        }
        Ok(outcome)
    }

    /// Seconds of this and earlier attempts.
    fn seconds(&self) -> f64 {
        self.clock.0 + self.clock.1.elapsed().as_secs_f64()
    }

    /// A file of the unfinished training.
    fn file(&self, name: &str) -> PathBuf {
        self.checkpoints.dir().join(name)
    }
}

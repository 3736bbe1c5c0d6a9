//! The loop of one level: steps, and what happens between them.
//!
//! ```text
//! for every step
//!     the next rows in the order of the epoch, and the active nodes of each
//!     x = encoder(texts)
//!     loss over the active nodes; its gradient into the head and through x into the encoder
//!     AdamW for both
//! ```
//!
//! Rows without an active node take no part: a row without labels is a negative of all nodes at the first level, and
//! below it only where the level above finds nodes for it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xmc_nn::tower::Tower;

use super::active::{ActiveNodes, Width};
use super::head::first_weights;
use super::learner::{Learner, StepReport};
use super::levels::Task;
use super::matcher::{Above, HEAD};
use super::plan::Level;
use crate::encoder::save_folder;
use crate::error::{Error, Result};
use crate::methods::checkpoints::Checkpoints;
use crate::methods::classifier::save_weights;
use crate::methods::dexml::ENCODER;
use crate::methods::speed::Speed;
use crate::random::{Draws, Purpose};
use crate::run::Artifact;

/// What a level is trained from.
#[derive(Clone, Copy)]
pub(super) struct LevelTask<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) level: &'a Level,
    pub(super) nodes: ActiveNodes<'a>,
    /// What the level above left; `None` at the first.
    pub(super) above: Option<&'a Above>,
}

impl LevelTask<'_> {
    /// The encoder in the folder `dir`; embeddings keep their length.
    pub(super) fn open(&self, dir: &Path) -> Result<Tower> {
        let Task { config, start, options, .. } = self.task;
        Ok(Tower::open(dir, start.tower, options.device, config.precision.resolve())?)
    }
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

/// The training of a level in progress.
pub(super) struct Training<'a> {
    task: LevelTask<'a>,
    learner: Learner<'a>,
    /// Rows that train, and how many nodes they see.
    width: Width,
    /// Steps of the level.
    steps: u64,
    /// An epoch, and the rows in its order.
    order: (u64, Vec<u32>),
    progress: Progress,
    checkpoints: Checkpoints,
    speed: Speed,
    /// Seconds of earlier attempts, and the beginning of this one.
    clock: (f64, Instant),
}

/// Trains a level until its end, from the last checkpoint in `unfinished` if there is one.
pub(super) fn fit(task: &LevelTask<'_>, unfinished: &Path) -> Result<FineTuned> {
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
    pub(super) fn begin(task: LevelTask<'a>, unfinished: &Path) -> Result<Self> {
        let config = &task.task.config.training;
        let checkpoints = Checkpoints::new(unfinished, config.checkpoint_minutes);
        let width = task.nodes.width()?;
        let steps = task.level.steps(width.rows.len(), config.batch_size);
        let tower = match task.above {
            Some(above) => task.open(&above.encoder())?,
            None => task.open(&task.task.start.dir)?,
        };
        // What a checkpoint replaces need not be made.
        let weights = if checkpoints.exist() {
            vec![0.0; task.level.nodes * (tower.dim() + 1)]
        } else {
            first_weights(&task, tower.dim())?
        };
        let mut learner =
            Learner::new(tower, weights, config, task.level, task.nodes, task.task.tokens, steps);
        let progress: Progress = checkpoints.restore(|saved| learner.restore(saved))?.unwrap_or_default();
        let mut training = Training {
            clock: (progress.milliseconds as f64 / 1e3, Instant::now()),
            order: (u64::MAX, Vec::new()),
            speed: Speed::default(),
            task,
            learner,
            width,
            steps,
            progress,
            checkpoints,
        };
        // First weights may have taken long.
        if training.progress.step == 0 && training.checkpoints.due() {
            training.checkpoint()?;
        }
        Ok(training)
    }

    fn announce(&self) {
        let (Level { t, nodes, .. }, config) = (self.task.level, &self.task.task.config.training);
        let Width { rows, mean, most, sampled } = &self.width;
        let events = self.task.task.events;
        let sampled = match sampled {
            0 => String::new(),
            rows => format!("; {rows} rows have more than training.max_active = {}", config.max_active),
        };
        events.message(&format!(
            "level {t}: {nodes} nodes; {mean:.1} active for a row, {most} at most{sampled}; {} step{} of {} of {} rows",
            self.steps,
            if self.steps == 1 { "" } else { "s" },
            config.batch_size.min(rows.len()),
            rows.len(),
        ));
    }

    /// Rows of the present step, rising.
    fn rows(&mut self) -> &[u32] {
        let size = self.task.task.config.training.batch_size;
        let batches = self.width.rows.len().div_ceil(size) as u64;
        let (epoch, batch) = (self.progress.step / batches, self.progress.step % batches);
        if self.order.0 != epoch {
            let mut rows = self.width.rows.clone();
            Draws::new(self.task.level.seed, Purpose::Order, epoch).shuffle(&mut rows);
            rows.chunks_mut(size).for_each(<[u32]>::sort_unstable);
            self.order = (epoch, rows);
        }
        self.order.1.chunks(size).nth(batch as usize).unwrap_or_default()
    }

    pub(super) fn step(&mut self) -> Result<StepReport> {
        let step = self.progress.step;
        let rows = self.rows().to_vec();
        let report = self.learner.step(step, &rows)?;
        if !report.is_finite() {
            let [encoder, head] = report.norms;
            return Err(self.diverged(&format!(
                "the loss is {}, the gradients of encoder and head have norms {encoder} and {head}",
                report.loss
            )));
        }
        self.progress.step += 1;
        self.progress.tokens += report.tokens;
        Ok(report)
    }

    /// What to do about a step that left the ground.
    fn diverged(&self, what: &str) -> Error {
        let (Level { t, lr, head_lr, .. }, step) = (self.task.level, self.progress.step);
        Error::Mismatch(format!(
            "level {t}, step {step}: {what}; set a lower training.lr (now {lr}) or training.head_lr (now {head_lr}), or \
             precision = \"f32\""
        ))
    }

    /// Tells of a step, and writes a checkpoint if it is time.
    fn record(&mut self, report: &StepReport, seconds: f64) -> Result<()> {
        self.speed.push(report.loss, report.tokens, seconds);
        let due = self.checkpoints.due() && self.progress.step < self.steps;
        if due {
            self.checkpoint()?;
        }
        let events = self.task.task.events;
        events.status(&self.speed.to_string());
        events.progress(self.progress.step, self.steps);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.progress.milliseconds = (self.seconds() * 1e3) as u64;
        self.checkpoints.save(&self.learner.state(), &self.progress)
    }

    /// Seconds of training so far.
    fn seconds(&self) -> f64 {
        self.clock.0 + self.clock.1.elapsed().as_secs_f64()
    }

    pub(super) fn finish(self) -> Result<FineTuned> {
        let (seconds, tokens) = (self.seconds(), self.progress.tokens);
        self.task.task.events.message(&format!(
            "level {}: {}; {tokens} tokens, {seconds:.0} s",
            self.task.level.t, self.speed
        ));
        // No step follows that would notice what the last one did.
        if !self.learner.is_finite(&self.width.rows)? {
            return Err(self.diverged("the encoder or its head is no longer made of finite numbers"));
        }
        let (tower, head) = self.learner.into_parts()?;
        Ok(FineTuned::Now { tower: Box::new(tower), head, tokenizer: self.task.task.start.dir.clone() })
    }
}

/// A level that has trained.
pub(super) enum FineTuned {
    /// Just now.
    Now {
        /// The encoder.
        tower: Box<Tower>,
        /// The head `[L_t, h + 1]`.
        head: Vec<f32>,
        /// Where the tokenizer lies.
        tokenizer: PathBuf,
    },
    /// In an earlier run; its files are enough.
    Earlier,
}

impl Artifact for FineTuned {
    fn save(&self, dir: &Path) -> Result<()> {
        let FineTuned::Now { tower, head, tokenizer } = self else { return Ok(()) };
        save_folder(tower, tokenizer, &dir.join(ENCODER))?;
        save_weights(&dir.join(HEAD), tower.dim() + 1, head)
    }

    fn load(dir: &Path) -> Result<Self> {
        let needed = [dir.join(ENCODER).join("model.safetensors"), dir.join(HEAD)];
        match needed.iter().find(|path| !path.is_file()) {
            None => Ok(FineTuned::Earlier),
            Some(missing) => Err(Error::file(missing, "missing")),
        }
    }
}

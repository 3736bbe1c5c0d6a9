//! How does a small decoder learn to answer like a large one? From the answers of a teacher (`teach`), by an adapter of low
//! rank beside its frozen weights; the loss is over the tokens of the answers alone (`xmc_nn::tune`).
//!
//! What comes out is a decoder like any other, a folder with the adapter added to the weights and the tokenizer beside
//! them, which the generator `decoder` reads. A run that was killed goes on from its last checkpoint and ends with the
//! same bits.

mod config;
mod examples;
#[cfg(test)]
mod tests;
mod training;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xmc_data::formats::atomic::write_atomically;
use xmc_nn::checkpoint;
use xmc_nn::decoder::{Decoder, Source};
use xmc_nn::tune::Tuned;

pub use config::FinetuneConfig;
pub use training::Outcome;

use crate::config::{Checked, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::checkpoints::write;
use crate::model::finish::take;
use crate::model::publish::{is_empty, replace};
use crate::run::{Artifact, Identity, Run, remove};
use examples::Examples;
use training::{CURVES, Task};

/// Name of the file that says how a decoder was tuned; a folder that has it may be replaced.
pub const TUNED: &str = "tuned.json";

const ADAPTER: &str = "adapter.safetensors";

/// What to learn from, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Finetune<'a> {
    /// The decoder: a `.gguf` file or a folder of Hugging Face.
    pub decoder: &'a Path,
    /// The examples, as `teach` writes them.
    pub examples: &'a Path,
    /// The folder of the decoder that comes out.
    pub out: &'a Path,
    /// Seed of every random choice.
    pub seed: u64,
    /// Whether an unfinished run goes on.
    pub resume: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinetuneReport {
    /// Fingerprint of the decoder that it began with.
    pub base: String,
    /// Its settings.
    pub settings: FinetuneConfig,
    /// Examples that were learned from or measured with.
    pub examples: usize,
    /// Examples whose answer was cut to `max_len`.
    pub cut: usize,
    /// Examples whose prompt left no room for an answer.
    pub skipped: usize,
    /// Losses and steps.
    pub outcome: Outcome,
}

/// Tunes a decoder on examples and writes it with its adapter merged.
pub fn finetune(
    task: &Finetune<'_>,
    config: &Checked<FinetuneConfig>,
    events: &dyn Events,
) -> Result<FinetuneReport> {
    refuse_foreign(task.out)?;
    let source = Source::open(task.decoder)?;
    let examples = Examples::read(task.examples, &source, config.max_len)?;
    let base = source.fingerprint()?;
    let mut run = Run::start(task.out, &identity(task, config, &base)?, task.resume, events)?;
    let decoder = Decoder::open(&source, config.quantization.0, config.precision.resolve())?;
    let mut tuned = Tuned::new(Arc::new(decoder), config.lora(), task.seed)?;

    // The adapter learns, checkpoint by checkpoint.
    let unfinished = run.ongoing("tune")?;
    let learned = run.stage("tune", || {
        let all = Task { config, examples: &examples, seed: task.seed, events };
        let outcome = training::fit(all, &mut tuned, &unfinished)?;
        Ok(Learned { params: tuned.params().to_vec(), outcome, curves: unfinished.join(CURVES) })
    })?;
    remove(&unfinished)?;

    // It becomes a part of the weights, and they take their place.
    tuned.set_params(&learned.params)?;
    let whole = run.scratch("whole")?;
    tuned.export(&whole, config.export)?;
    source.tokenizer(source.config().positions)?.save(&whole)?;
    take(&run.stage_dir("tune").join(CURVES), &whole.join(CURVES))?;
    let report = FinetuneReport {
        base,
        settings: (**config).clone(),
        examples: examples.len(),
        cut: examples.cut,
        skipped: examples.skipped,
        outcome: learned.outcome,
    };
    let path = whole.join(TUNED);
    let json = serde_json::to_vec_pretty(&report).map_err(|e| Error::file(&path, e.to_string()))?;
    write_atomically(&path, |file| file.write_all(&json).map_err(xmc_data::Error::io(&path)))?;
    replace(&whole, task.out, &run.stage_dir("old"))?;
    run.succeed()?;
    Ok(report)
}

/// An adapter that has learned.
struct Learned {
    params: Vec<f32>,
    outcome: Outcome,
    curves: PathBuf,
}

impl Artifact for Learned {
    fn save(&self, dir: &Path) -> Result<()> {
        let meta = serde_json::to_value(self.outcome).map_err(|e| Error::Mismatch(e.to_string()))?;
        write(&dir.join(ADAPTER), &[("adapter".to_owned(), &self.params)], &meta)?;
        take(&self.curves, &dir.join(CURVES))
    }

    fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(ADAPTER);
        let mut saved = checkpoint::load(&path)?;
        let params = saved.take("adapter").unwrap_or_default();
        let outcome = serde_json::from_value(saved.meta).map_err(|e| Error::file(&path, e.to_string()))?;
        Ok(Learned { params, outcome, curves: dir.join(CURVES) })
    }
}

/// Refuses to replace what is not a tuned decoder.
fn refuse_foreign(out: &Path) -> Result<()> {
    if std::fs::symlink_metadata(out).is_err() || out.join(TUNED).is_file() || is_empty(out)? {
        return Ok(());
    }
    Err(Error::file(
        out,
        "exists and is not a tuned decoder, so it is not overwritten: choose another folder",
    ))
}

/// What must not change between the two halves of an interrupted run.
fn identity(task: &Finetune<'_>, config: &FinetuneConfig, base: &str) -> Result<Identity> {
    let mut print = Fingerprint::new();
    print.file(task.examples)?;
    print.value(&base)?;
    let mut config = serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?;
    if let Some(config) = config.as_object_mut() {
        config.remove("checkpoint_minutes");
    }
    Ok(Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: FinetuneConfig::METHOD.to_owned(),
        config,
        seed: task.seed,
        data: print.finish(),
    })
}

//! `xmc augment finetune`: a small decoder learns to answer like a teacher.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use xmc::augment::finetune::{Finetune as Task, FinetuneConfig, finetune};
use xmc::config;

use super::print;
use crate::Outcome;
use crate::progress::Terminal;

/// Tune a decoder on a teacher's answers
///
/// An adapter learns beside the decoder's frozen weights and is added to them at the end: what is written is a decoder that
/// any command reads. Only answers count, not prompts.
#[derive(Debug, Parser)]
pub(crate) struct Finetune {
    /// The decoder to begin with: a .gguf file, or a folder in Hugging Face layout.
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) decoder: PathBuf,
    /// Examples: one JSON object with `prompt` and `completion` a line.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) examples: PathBuf,
    /// Folder for the decoder that has learned.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Settings as a TOML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as lr=0.0001; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of all chance.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Go on where an interrupted run stopped.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) fn run(verb: &Finetune, terminal: &Terminal) -> Result<Outcome> {
    let config = config::load::<FinetuneConfig>(verb.config.as_deref(), &verb.set)?;
    let Finetune { decoder, examples, out, seed, resume, .. } = verb;
    let task = Task { decoder, examples, out, seed: *seed, resume: *resume };
    let report = finetune(&task, &config, terminal)?;
    terminal.stage_over();
    terminal.say(&format!("{}: a decoder that has learned {} examples\n", out.display(), report.examples));
    print(&report, verb.json)
}

//! The command line `xmc`.
//!
//! `main` maps a result to an exit code, [`run`] is one `match` over the verbs, and every verb is one file in
//! `verbs/`. Data goes to stdout, everything else to stderr.

mod args;
mod encoder;
mod input;
mod output;
mod progress;
mod table;
mod verbs;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::args::{Args, Verb};

/// The result is there, but below what `--fail-under` asks for.
const BELOW: u8 = 1;
/// Something is wrong; the message on stderr says what. Wrong usage ends with the same code, by clap.
const ERROR: u8 = 2;

/// How a verb that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Done,
    /// A metric is below its `--fail-under`.
    Below,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Below) => ExitCode::from(BELOW),
        // Whoever reads our output has seen enough: `xmc predict … | head -1` is no failure.
        Err(problem) if is_broken_pipe(&problem) => ExitCode::SUCCESS,
        Err(problem) => {
            progress::complain(&in_words(&problem));
            ExitCode::from(ERROR)
        }
    }
}

fn run(args: Args) -> Result<Outcome> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get().into());
        pool.build_global().context("could not start the threads")?;
    }
    match args.verb {
        Verb::Quickstart(verb) => verbs::quickstart::run(&verb, args.quiet),
        Verb::Train(verb) => verbs::train::run(&verb, args.quiet),
        Verb::Predict(verb) => verbs::predict::run(&verb, args.quiet),
        Verb::Evaluate(verb) => verbs::evaluate::run(&verb),
        Verb::Inspect(verb) => verbs::inspect::run(&verb),
        Verb::Explain(verb) => verbs::explain::run(&verb),
        Verb::Import(verb) => verbs::import::run(&verb, args.quiet),
        Verb::HelpConfig(verb) => verbs::help_config::run(verb.of),
        Verb::Embed(verb) => verbs::embed::run(&verb, args.quiet),
        Verb::Sample(verb) => verbs::sample::run(&verb, args.quiet),
        Verb::Similar(verb) => verbs::similar::run(&verb),
        Verb::AddLabels(verb) => verbs::add_labels::run(&verb, args.quiet),
        Verb::Ensemble(verb) => verbs::ensemble::run(&verb, args.quiet),
        Verb::Augment(verb) => verbs::augment::run(&verb, args.quiet),
    }
}

/// The error and its causes, each said once: many errors quote their cause already.
fn in_words(problem: &anyhow::Error) -> String {
    let mut words = problem.to_string();
    for cause in problem.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words.push_str(": ");
            words.push_str(&cause);
        }
    }
    words
}

fn is_broken_pipe(problem: &anyhow::Error) -> bool {
    let io_errors = problem.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.into_iter().any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

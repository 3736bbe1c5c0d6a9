//! `xmc augment …`: fill in labels that are missing in a training matrix.

pub(crate) mod args;
pub(crate) mod finetune;
mod show;
mod simulate;

use std::io::{self, Write};

use anyhow::Result;
use serde_json::Value;

use crate::Outcome;
use crate::progress::Terminal;
use args::{Augment, Stage};
use show::show;

pub(crate) fn run(verb: &Augment, quiet: bool) -> Result<Outcome> {
    let terminal = Terminal::new(quiet);
    match &verb.stage {
        Stage::Finetune(verb) => finetune::run(verb, &terminal),
        Stage::SimulateBias(verb) => simulate::run(verb, &terminal),
    }
}

fn print(report: &Value, json: bool) -> Result<Outcome> {
    let text = if json { serde_json::to_string_pretty(report)? + "\n" } else { show(report) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

//! `xmc train elias --dry-run`, and of quest: what would it cost?

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::{Result, bail};
use serde_json::json;
use xmc::config::{self, Checked, Settings};
use xmc::memory;
use xmc::methods::elias::{self, Costs, EliasConfig, Stage};
use xmc::methods::quest::{self, QuestConfig};
use xmc_data::dataset::Dataset;
use xmc_nn::decoder;

use super::with_encoder;
use crate::Outcome;
use crate::args::{Method, Train};
use crate::table::{Align, Table};

pub(super) fn run(verb: &Train) -> Result<Outcome> {
    match verb.method {
        Method::Elias => {}
        Method::Quest => return of_quest(verb),
        _ => bail!(
            "--dry-run: only elias and quest say their costs without training; the others say time and memory when they \
             begin"
        ),
    }
    let costs = elias::costs(&Dataset::open(&verb.data)?, &*settings(verb)?)?;
    let text = if verb.json {
        let mut whole = serde_json::to_value(&costs)?;
        whole["bytes"] = json!(costs.bytes());
        serde_json::to_string_pretty(&whole)? + "\n"
    } else {
        show(&costs)
    };
    io::stdout().write_all(text.as_bytes())?;
    costs.check(verb.max_memory)?;
    Ok(Outcome::Done)
}

/// The settings of QUEST that the options ask for, with a decoder.
pub(super) fn quest_settings(verb: &Train) -> Result<Checked<QuestConfig>> {
    let preset = quest::preset(verb.preset.as_deref().unwrap_or("laptop"))?;
    let mut sets = verb.set.clone();
    if let Some(path) = &verb.decoder {
        // Strings of JSON are strings of TOML.
        sets.push(format!("decoder={}", serde_json::to_string(path)?));
    }
    let config = config::load_preset::<QuestConfig>(preset, verb.config.as_deref(), &sets)?;
    match &config.decoder {
        Some(path) if path.exists() => Ok(config),
        Some(path) => bail!("{}: no such file or folder; a decoder was to be there", path.display()),
        None => bail!(
            "quest begins with a decoder: name its .gguf file or folder with --decoder PATH; `scripts/fetch-decoder` gets one"
        ),
    }
}

/// Operations, memory and hours of QUEST; of the decoder its sizes are enough.
fn of_quest(verb: &Train) -> Result<Outcome> {
    let config = quest_settings(verb)?;
    let path = config.decoder.clone().unwrap_or_default();
    let sizes = if path.extension().is_some_and(|end| end == "json") {
        decoder::Config::open(&path)?
    } else {
        decoder::Source::open(&path)?.config().clone()
    };
    let stored = path.extension().is_some_and(|end| end == "gguf");
    let file_bytes = if stored { Some(std::fs::metadata(&path)?.len()) } else { None };
    let costs = quest::costs(&Dataset::open(&verb.data)?, &sizes, file_bytes, &config)?;
    let bytes = costs.bytes();
    let text = if verb.json {
        let mut whole = serde_json::to_value(&costs)?;
        whole["bytes"] = json!(bytes);
        serde_json::to_string_pretty(&whole)? + "\n"
    } else {
        let work = &costs.work;
        let mut text = format!(
            "{} weights of layers, {} that learn; {:.0} steps of about {:.0} tokens\n\n",
            count(work.weights),
            count(work.parameters),
            work.steps,
            work.tokens_of_a_step
        );
        let mut parts = Table::new(&[("memory", Align::Left), ("bytes", Align::Right)]);
        for (name, bytes) in &costs.memory {
            parts.row([(*name).to_owned(), memory::show(*bytes)]);
        }
        parts.row(["together".to_owned(), memory::show(bytes)]);
        text.push_str(&parts.render());
        let _ = writeln!(
            text,
            "\n{} operations, of which this machine does {} a second at best: at least {}, and often three times that",
            count(costs.operations),
            count(costs.speed),
            hours(costs.hours)
        );
        text
    };
    io::stdout().write_all(text.as_bytes())?;
    costs.check(verb.max_memory)?;
    Ok(Outcome::Done)
}

/// The settings of ELIAS that the options ask for.
pub(super) fn settings(verb: &Train) -> Result<Checked<EliasConfig>> {
    let preset = elias::preset(verb.preset.as_deref().unwrap_or("laptop"))?;
    let look = config::load_preset::<EliasConfig>(preset, verb.config.as_deref(), &verb.set)?;
    let sets = match look.stages.as_slice() {
        // It reads words alone.
        [Stage::Cluster] => verb.set.clone(),
        _ => with_encoder(verb, EliasConfig::METHOD, look.encoder.as_deref())?,
    };
    Ok(config::load_preset(preset, verb.config.as_deref(), &sets)?)
}

/// Sizes, memory, a step, and the trainings.
fn show(costs: &Costs) -> String {
    let mut text = format!(
        "{} rows, {} labels, {} clusters, {} edges at most, {} parameters of the encoder, about {} tokens a step\n\n",
        costs.rows, costs.labels, costs.clusters, costs.edges, costs.parameters, costs.tokens
    );
    let memory = format!("memory, most in {}", costs.peak);
    let mut parts = Table::new(&[(memory.as_str(), Align::Left), ("bytes", Align::Right)]);
    for part in &costs.memory {
        parts.row([part.name.to_owned(), memory::show(part.bytes)]);
    }
    parts.row(["together".to_owned(), memory::show(costs.bytes())]);
    if costs.mapped > 0 {
        parts.row(["in a file: the classifiers".to_owned(), memory::show(costs.mapped)]);
    }
    text.push_str(&parts.render());
    if costs.phases.is_empty() {
        return text;
    }
    let right = ["operations", "bytes moved"].map(|name| (name, Align::Right));
    let mut step = Table::new(&[&[("a step", Align::Left)][..], &right].concat());
    for work in &costs.step {
        step.row([work.name.to_owned(), count(work.operations), memory::show(work.bytes as u64)]);
    }
    let (operations, bytes) =
        costs.step.iter().fold((0.0, 0.0), |sum, work| (sum.0 + work.operations, sum.1 + work.bytes));
    step.row(["together".to_owned(), count(operations), memory::show(bytes as u64)]);
    let _ = write!(text, "\n{}", step.render());
    let right = ["steps", "operations"].map(|name| (name, Align::Right));
    let mut phases = Table::new(&[&[("training", Align::Left)][..], &right].concat());
    for phase in &costs.phases {
        let name = format!("{:?}", phase.stage).to_lowercase();
        phases.row([name, phase.steps.to_string(), count(phase.operations)]);
    }
    let _ = write!(text, "\n{}", phases.render());
    text
}

/// `0.02` to `1.2 minutes`.
fn hours(hours: f64) -> String {
    if hours < 1.0 { format!("{:.1} minutes", 60.0 * hours) } else { format!("{hours:.1} hours") }
}

/// `1234567890` to `1.23 G`.
fn count(number: f64) -> String {
    let units = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", number / unit),
        None => format!("{number:.0}"),
    }
}

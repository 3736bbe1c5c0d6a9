//! `xmc augment …`: fill in labels that are missing in a training matrix.

pub(crate) mod args;
pub(crate) mod finetune;
mod show;
mod simulate;

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use xmc::augment::build::BuildReport;
use xmc::augment::config::AugmentConfig;
use xmc::augment::map::MapReport;
use xmc::augment::pipeline::{EmbedReport, Evidence, ParseReport, Pipeline};
use xmc::augment::questions::GenerateReport;
use xmc::augment::validate::Report;
use xmc::config;

use crate::Outcome;
use crate::progress::{Terminal, complain};
use args::{Augment, Build, Explain, Gate, Generate, Init, OfRun, RunAll, Side, Stage, Sweep, Validate};
use show::show;

pub(crate) fn run(verb: &Augment, quiet: bool) -> Result<Outcome> {
    let terminal = Terminal::new(quiet);
    match &verb.stage {
        Stage::Init(verb) => init(verb, &terminal),
        Stage::Run(verb) => all(verb, &terminal),
        Stage::Generate(verb) => generate(verb, &terminal),
        Stage::Teach(verb) => stage(&verb.of, &terminal, |run| run.teach(verb.count, &verb.out)),
        Stage::Parse(of) => stage(of, &terminal, Pipeline::parse),
        Stage::Embed(of) => stage(of, &terminal, Pipeline::embed),
        Stage::Map(of) => stage(of, &terminal, Pipeline::map),
        Stage::Build(verb) => build(verb, &terminal),
        Stage::Validate(verb) => validate(verb, &terminal),
        Stage::Sweep(verb) => sweep(verb, &terminal),
        Stage::Calibrate(of) => stage(of, &terminal, Pipeline::calibrate),
        Stage::Explain(verb) => explain(verb, &terminal),
        Stage::Finetune(verb) => finetune::run(verb, &terminal),
        Stage::SimulateBias(verb) => simulate::run(verb, &terminal),
    }
}

/// Does one stage of a run and prints its report.
fn stage<'e, R: Serialize>(
    of: &OfRun,
    terminal: &'e Terminal,
    work: impl FnOnce(&Pipeline<'e>) -> xmc::Result<R>,
) -> Result<Outcome> {
    let report = work(&open(of, terminal)?)?;
    terminal.stage_over();
    print(&report, of.json)
}

fn open<'e>(of: &OfRun, terminal: &'e Terminal) -> Result<Pipeline<'e>> {
    Ok(Pipeline::open(&of.run, &of.set, terminal)?)
}

fn print<R: Serialize>(report: &R, json: bool) -> Result<Outcome> {
    let text = if json {
        serde_json::to_string_pretty(report)? + "\n"
    } else {
        show(&serde_json::to_value(report)?)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn init(verb: &Init, terminal: &Terminal) -> Result<Outcome> {
    // Strings of JSON are strings of TOML.
    let path = |path: &std::path::Path| -> Result<String> {
        Ok(serde_json::to_string(&std::path::absolute(path)?)?)
    };
    let direction = match verb.direction {
        Side::Label => "label",
        Side::Instance => "instance",
    };
    let mut sets = vec![format!("direction={direction}"), format!("data={}", path(&verb.data)?)];
    if let Some(meta) = &verb.meta {
        sets.push(format!("meta={}", path(meta)?));
    }
    sets.extend(verb.set.iter().cloned());
    let config = config::load::<AugmentConfig>(verb.config.as_deref(), &sets)?;
    let pipeline = Pipeline::init(&verb.out, config, terminal)?;
    terminal.say(&format!(
        "{}: settings are in run.toml; `xmc augment run --run {0}` does all stages\n",
        verb.out.display()
    ));
    print(&json!({ "sources": pipeline.items()?.len() }), verb.json)
}

fn generate(verb: &Generate, terminal: &Terminal) -> Result<Outcome> {
    if verb.dry_run {
        return stage(&verb.of, terminal, |run| run.estimate(verb.retry_failed));
    }
    stage(&verb.of, terminal, |run| run.generate(verb.retry_failed))
}

fn build(verb: &Build, terminal: &Terminal) -> Result<Outcome> {
    stage(&verb.of, terminal, |pipeline| pipeline.build(verb.out.as_deref()))
}

fn validate(verb: &Validate, terminal: &Terminal) -> Result<Outcome> {
    let pipeline = open(&verb.of, terminal)?;
    let (report, outcome) = judge(&pipeline, &verb.gate)?;
    terminal.stage_over();
    print(&report, verb.of.json)?;
    Ok(outcome)
}

/// The report of a validation, and whether it passes.
fn judge(pipeline: &Pipeline<'_>, gate: &Gate) -> Result<(Report, Outcome)> {
    let evidence = Evidence { hidden: gate.hidden.as_deref(), other: gate.other.as_deref() };
    let report = pipeline.validate(&evidence)?;
    let mut outcome = Outcome::Done;
    report.invariants.require()?;
    for (name, least) in &gate.fail_under {
        let value = report.value(name)?;
        if value < *least {
            complain(&format!("{name} is {value:.4}, below {least}"));
            outcome = Outcome::Below;
        }
    }
    Ok((report, outcome))
}

/// Reports of all stages.
#[derive(Serialize)]
struct Stages {
    generate: GenerateReport,
    parse: ParseReport,
    embed: EmbedReport,
    map: MapReport,
    build: BuildReport,
    validate: Report,
}

fn all(verb: &RunAll, terminal: &Terminal) -> Result<Outcome> {
    let pipeline = open(&verb.of, terminal)?;
    let (generate, parse) = (pipeline.generate(false)?, pipeline.parse()?);
    let (embed, map) = (pipeline.embed()?, pipeline.map()?);
    let build = pipeline.build(verb.out.as_deref())?;
    let (validate, outcome) = judge(&pipeline, &verb.gate)?;
    terminal.stage_over();
    print(&Stages { generate, parse, embed, map, build, validate }, verb.of.json)?;
    Ok(outcome)
}

fn sweep(verb: &Sweep, terminal: &Terminal) -> Result<Outcome> {
    stage(&verb.of, terminal, |pipeline| pipeline.sweep(&verb.tau, &verb.k, verb.hidden.as_deref()))
}

fn explain(verb: &Explain, terminal: &Terminal) -> Result<Outcome> {
    stage(&verb.of, terminal, |pipeline| pipeline.explain(verb.row, verb.col))
}

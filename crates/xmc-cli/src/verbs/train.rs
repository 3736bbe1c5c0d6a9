//! `xmc train METHOD`: learn from a dataset and write a model folder.

mod costs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;
use xmc::config::{self, Settings};
use xmc::memory;
use xmc::methods::dexml::{self, DexmlConfig};
use xmc::methods::elias;
use xmc::methods::quest;
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::methods::xr_transformer::{self, XrTransformerConfig};
use xmc::methods::{Summary, TrainOptions};
use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use crate::Outcome;
use crate::args::{Method, Train};
use crate::encoder;
use crate::progress::Terminal;
use crate::table::{Align, Table};

pub(crate) fn run(verb: &Train, quiet: bool) -> Result<Outcome> {
    refuse_foreign_start(verb)?;
    if verb.dry_run {
        return costs::run(verb);
    }
    let terminal = Terminal::new(quiet);
    let options = TrainOptions {
        out: verb.out.clone().unwrap_or_default(),
        seed: verb.seed,
        resume: verb.resume,
        max_memory: verb.max_memory,
        evaluate: !verb.no_evaluation,
        device: verb.device,
    };
    let summary = match verb.method {
        Method::XrLinear => {
            refuse_encoder(verb)?;
            // Settings first: a typing error should not wait for the data.
            let config = config::load::<XrLinearConfig>(verb.config.as_deref(), &verb.set)?;
            let data = Dataset::open(&verb.data)?;
            xr_linear::train(&data, &config, &options, &terminal)?
        }
        Method::XrTransformer => {
            let preset = xr_transformer::preset(verb.preset.as_deref().unwrap_or("laptop"))?;
            let look = config::load_preset::<XrTransformerConfig>(preset, verb.config.as_deref(), &verb.set)?;
            let sets = with_encoder(verb, XrTransformerConfig::METHOD, look.encoder.as_deref())?;
            let config = config::load_preset(preset, verb.config.as_deref(), &sets)?;
            let data = Dataset::open(&verb.data)?;
            terminal.say(&format!("settings    {}", changed(&*config)?));
            xr_transformer::train(&data, &config, &options, &terminal)?
        }
        Method::Dexml => {
            let preset: dexml::Preset = verb.preset.as_deref().unwrap_or("laptop").parse()?;
            let look = config::look::<DexmlConfig>(verb.config.as_deref(), &verb.set)?;
            let sets = with_encoder(verb, DexmlConfig::METHOD, look.encoder.as_deref())?;
            let data = Dataset::open(&verb.data)?;
            let preset = preset.config(dexml::Scale::of(&data));
            let config = config::load_over(preset, verb.config.as_deref(), &sets)?;
            terminal.say(&format!("settings    {}", changed(&*config)?));
            dexml::train(&data, &config, &options, &terminal)?
        }
        Method::Elias => {
            let config = costs::settings(verb)?;
            let data = Dataset::open(&verb.data)?;
            terminal.say(&format!("settings    {}", changed(&*config)?));
            elias::train(&data, &config, &options, &terminal)?
        }
        Method::Quest => {
            let config = costs::quest_settings(verb)?;
            let data = Dataset::open(&verb.data)?;
            terminal.say(&format!("settings    {}", changed(&*config)?));
            quest::train(&data, &config, &options, &terminal)?
        }
    };
    terminal.say(&show(&summary, &options.out));
    Ok(Outcome::Done)
}

/// Only quest begins with a decoder, and it has no encoder.
fn refuse_foreign_start(verb: &Train) -> Result<()> {
    match (verb.method, &verb.decoder, &verb.encoder) {
        (Method::Quest, _, Some(_)) => {
            bail!("--encoder: quest begins with a decoder: name it with --decoder PATH")
        }
        (Method::Quest, ..) | (_, None, _) => Ok(()),
        _ => bail!("--decoder: only quest begins with a decoder; the others with --encoder DIR"),
    }
}

/// Options that only methods with an encoder have.
fn refuse_encoder(verb: &Train) -> Result<()> {
    let options =
        [("--encoder", verb.encoder.is_some(), "encoder"), ("--preset", verb.preset.is_some(), "presets")];
    for (option, given, what) in options {
        if given {
            bail!("{option}: xr-linear has no {what}; did you mean `xmc train xr-transformer` or `dexml`?");
        }
    }
    Ok(())
}

/// The settings of the options, with the encoder as a folder that exists: that of `--encoder`, else the one that is `set`.
fn with_encoder(verb: &Train, method: &str, set: Option<&Path>) -> Result<Vec<String>> {
    let set = set.map(|path| path.to_string_lossy().into_owned());
    let Some(name) = verb.encoder.clone().or(set) else {
        bail!(
            "{method} begins with an encoder: name its folder with --encoder DIR; `scripts/fetch-encoder` gets one"
        );
    };
    let mut sets = verb.set.clone();
    // Strings of JSON are strings of TOML.
    sets.push(format!("encoder={}", serde_json::to_string(&encoder::folder(&name)?)?));
    Ok(sets)
}

/// What differs from the defaults: `epochs 8, max_len 24`, in tables `training.lr 0.0002`.
fn changed<C: Settings>(config: &C) -> Result<String> {
    let (mut now, mut usual) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &serde_json::to_value(config)?, &mut now);
    flatten("", &serde_json::to_value(C::default())?, &mut usual);
    let differs = now.iter().filter(|&(key, value)| usual.get(key) != Some(value));
    let words: Vec<String> = differs.map(|(key, value)| format!("{key} {}", in_words(value))).collect();
    Ok(words.join(", "))
}

/// Settings by their dotted names; positions of lists of tables are names too.
fn flatten(prefix: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    let name = |part: &str| if prefix.is_empty() { part.to_owned() } else { format!("{prefix}.{part}") };
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| flatten(&name(key), value, out)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(i, item)| flatten(&name(&i.to_string()), item, out));
        }
        _ => drop(out.insert(prefix.to_owned(), value.clone())),
    }
}

/// A value as a person writes it.
fn in_words(value: &Value) -> String {
    match value {
        // A text of several words or lines would run into what stands around it.
        Value::String(text) if text.contains(char::is_whitespace) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        // All floats are f32, and have the digits of one.
        Value::Number(number) if number.is_f64() => (number.as_f64().unwrap_or_default() as f32).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(in_words).collect::<Vec<_>>().join(", ")),
        _ => value.to_string(),
    }
}

/// What every stage took, and what came out in the folder `out`.
pub(crate) fn show(summary: &Summary, out: &Path) -> String {
    let columns = [("stage", Align::Left), ("seconds", Align::Right), ("peak memory", Align::Right)];
    let mut table = Table::new(&columns);
    for stage in &summary.stages {
        let name = if stage.resumed { format!("{} (done earlier)", stage.name) } else { stage.name.clone() };
        table.row([name, format!("{:.2}", stage.seconds), memory::show(stage.peak_memory)]);
    }
    let mut text = table.render();
    let (what, bytes) = (summary.alone.unwrap_or("model"), memory::show(summary.model_bytes));
    let _ = write!(text, "\n{what:<7} {bytes}");
    if summary.alone.is_some() {
        let _ = write!(text, " in {}", out.display());
    }
    text.push('\n');
    if let Some(report) = &summary.metrics {
        let _ = writeln!(text, "test    {}", precisions(report));
    }
    text.trim_end().to_owned()
}

/// `P@1 85.10   P@3 70.22   P@5 57.31   (4092 rows, 9000 a second)`
pub(crate) fn precisions(report: &Report) -> String {
    let values = ["P@1", "P@3", "P@5"].iter().filter_map(|name| Some((name, report.values.get(name)?)));
    let values: Vec<String> = values.map(|(name, value)| format!("{name} {value:.2}")).collect();
    let speed = report.docs_per_second.unwrap_or(0.0);
    format!("{}   ({} rows, {speed:.0} a second)", values.join("   "), report.rows)
}

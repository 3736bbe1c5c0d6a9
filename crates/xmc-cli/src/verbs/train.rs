//! `xmc train METHOD`: learn from a dataset and write a model folder.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use xmc::config;
use xmc::memory;
use xmc::methods::dexml::{self, DexmlConfig};
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::methods::{Summary, TrainOptions};
use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use crate::Outcome;
use crate::args::{Method, Preset, Train};
use crate::encoder;
use crate::progress::Terminal;
use crate::table::{Align, Table};

pub(crate) fn run(verb: &Train, quiet: bool) -> Result<Outcome> {
    let terminal = Terminal::new(quiet);
    let options = TrainOptions {
        out: verb.out.clone(),
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
        Method::Dexml => {
            let sets = with_encoder(verb)?;
            let data = Dataset::open(&verb.data)?;
            let preset = match verb.preset.unwrap_or(Preset::Laptop) {
                Preset::Laptop => dexml::Preset::Laptop,
                Preset::Server => dexml::Preset::Server,
                Preset::Paper => dexml::Preset::Paper,
            };
            let preset = preset.config(dexml::Scale::of(&data));
            let config = config::load_over(preset, verb.config.as_deref(), &sets)?;
            terminal.say(&format!("settings    {}", changed(&config)?));
            dexml::train(&data, &config, &options, &terminal)?
        }
    };
    terminal.say(&show(&summary));
    Ok(Outcome::Done)
}

/// Options that only an encoder has a use for.
fn refuse_encoder(verb: &Train) -> Result<()> {
    for (option, given) in [("--encoder", verb.encoder.is_some()), ("--preset", verb.preset.is_some())] {
        if given {
            bail!("{option}: xr-linear has no encoder; did you mean `xmc train dexml`?");
        }
    }
    Ok(())
}

/// The settings of the options, each checked before the data are read, with the encoder as a folder that exists.
/// Whether they fit together depends on the preset, which depends on the data.
fn with_encoder(verb: &Train) -> Result<Vec<String>> {
    let mut sets = verb.set.clone();
    let config = config::look::<DexmlConfig>(verb.config.as_deref(), &sets)?;
    let set = config.encoder.as_deref().map(|path| path.to_string_lossy().into_owned());
    let Some(name) = verb.encoder.clone().or(set) else {
        bail!(
            "dexml begins with an encoder: name its folder with --encoder DIR; `scripts/fetch-encoder` gets one"
        );
    };
    let folder = encoder::folder(&name)?;
    // Strings of JSON are strings of TOML.
    sets.push(format!("encoder={}", serde_json::to_string(&folder)?));
    Ok(sets)
}

/// What differs from the defaults: `epochs 8, max_len 24`.
fn changed(config: &DexmlConfig) -> Result<String> {
    let (now, usual) = (serde_json::to_value(config)?, serde_json::to_value(DexmlConfig::default())?);
    let differs = now.as_object().into_iter().flatten().filter(|(key, value)| usual.get(key) != Some(value));
    let words: Vec<String> = differs
        .map(|(key, value)| match (value.as_str(), value.as_f64()) {
            (Some(text), _) => format!("{key} {text}"),
            // All floats are f32, and have the digits of one.
            (_, Some(number)) => format!("{key} {}", number as f32),
            _ => format!("{key} {value}"),
        })
        .collect();
    Ok(words.join(", "))
}

/// What every stage took, and what came out.
pub(crate) fn show(summary: &Summary) -> String {
    let columns = [("stage", Align::Left), ("seconds", Align::Right), ("peak memory", Align::Right)];
    let mut table = Table::new(&columns);
    for stage in &summary.stages {
        let name = if stage.resumed { format!("{} (done earlier)", stage.name) } else { stage.name.clone() };
        table.row([name, format!("{:.2}", stage.seconds), memory::show(stage.peak_memory)]);
    }
    let mut text = table.render();
    let _ = writeln!(text, "\nmodel   {}", memory::show(summary.model_bytes));
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

//! `xmc train METHOD`: learn from a dataset and write a model folder.

use std::fmt::Write as _;

use anyhow::Result;
use xmc::config;
use xmc::memory;
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::methods::{Summary, TrainOptions};
use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use crate::Outcome;
use crate::args::{Method, Train};
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
            // Settings first: a typing error should not wait for the data.
            let config = config::load::<XrLinearConfig>(verb.config.as_deref(), &verb.set)?;
            let data = Dataset::open(&verb.data)?;
            xr_linear::train(&data, &config, &options, &terminal)?
        }
    };
    terminal.say(&show(&summary));
    Ok(Outcome::Done)
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

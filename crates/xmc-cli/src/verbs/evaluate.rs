//! `xmc evaluate MODEL --data DATA`: how good is a model on labelled rows?

mod biased;
mod sweep;

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::{Result, bail};
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::model::Model;
use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use crate::Outcome;
use crate::args::{Evaluate, Split};
use crate::progress::complain;
use crate::table::{Align, Table, counted};

/// Cuts of the report, and resamples behind its confidence intervals.
const CUTS: [usize; 5] = [1, 3, 5, 10, 100];
const RESAMPLES: usize = 1000;

pub(crate) fn run(verb: &Evaluate) -> Result<Outcome> {
    let model = Model::open_with(&verb.model, &verb.compute.options())?;
    let data = Dataset::open(&verb.data)?;
    let part = match verb.split {
        Split::Train => &data.train,
        Split::Test => data.test_part()?,
    };
    if !verb.sweep.is_empty() {
        io::stdout().write_all(sweep::run(verb, &model, &data, part)?.as_bytes())?;
        return Ok(Outcome::Done);
    }
    let options = EvaluateOptions {
        cuts: CUTS.to_vec(),
        resamples: RESAMPLES,
        search: verb.search.options(0),
        drop_self: verb.drop_self,
    };
    if let Some(path) = &verb.biased {
        let sides = biased::Sides::measure(&model, &data, part, path, &options)?;
        let outcome = compare(&sides.unbiased, &verb.fail_under)?;
        let text = if verb.json { sides.json()? } else { sides.show() };
        io::stdout().write_all(text.as_bytes())?;
        return Ok(outcome);
    }
    let report = evaluate(&model, &data, part, &options)?;
    let outcome = compare(&report, &verb.fail_under)?;
    let text = if verb.json { serde_json::to_string_pretty(&report)? + "\n" } else { show(&report) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(outcome)
}

/// Whether every metric reaches what was asked of it.
fn compare(report: &Report, least: &[(String, f64)]) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    for (metric, least) in least {
        let Some(value) = report.values.get(metric) else {
            let known: Vec<&str> = report.values.iter().map(|(name, _)| name).collect();
            bail!("--fail-under {metric}: no such metric; there are {}", known.join(" "));
        };
        if value < *least {
            complain(&format!("{metric} is {value:.2}, below {least}"));
            outcome = Outcome::Below;
        }
    }
    Ok(outcome)
}

/// Metrics by cut, then by band of label frequency.
fn show(report: &Report) -> String {
    let cuts: Vec<String> = CUTS.iter().map(|k| format!("@{k}")).collect();
    let mut columns = vec![("percent", Align::Left)];
    columns.extend(cuts.iter().map(|cut| (cut.as_str(), Align::Right)));
    let mut table = Table::new(&columns);
    let mut names: Vec<&str> = report.values.iter().filter_map(|(name, _)| name.split('@').next()).collect();
    names.dedup();
    for name in names {
        let cell = |cut: &String| report.values.get(&format!("{name}{cut}"));
        let cells = cuts.iter().map(|cut| cell(cut).map_or_else(String::new, |value| format!("{value:.2}")));
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    let mut text = table.render();
    text.push('\n');
    text.push_str(&show_bands(report));
    let intervals = ["P@1", "P@5", "PSP@5"].iter().filter_map(|name| {
        let [low, high] = report.confidence.get(name)?;
        Some(format!("{name} {low:.2} to {high:.2}"))
    });
    let _ = writeln!(text, "\n95% intervals   {}", intervals.collect::<Vec<_>>().join("   "));
    let speed = report.docs_per_second.unwrap_or(0.0);
    let (rows, skipped, labels) = (report.rows, report.rows_without_labels, report.labels);
    let _ = writeln!(
        text,
        "{rows} rows, {skipped} without labels left out; {labels} labels; {speed:.0} rows a second"
    );
    if let Some(unseen) = &report.unseen {
        let percent = |name: &str| unseen.values.get(name).unwrap_or(0.0);
        let chance = 1000.0 / (report.labels.max(10) as f64);
        let _ = writeln!(
            text,
            "{} never seen in training, right for {} rows: P@1 {:.2}   R@10 {:.2} (by chance {chance:.2})   R@100 {:.2}",
            counted(unseen.labels as usize, "label"),
            unseen.rows,
            percent("P@1"),
            percent("R@10"),
            percent("R@100"),
        );
    }
    if let Some(unknown) = report.unknown_labels {
        let _ = writeln!(
            text,
            "{} of the data {} unknown to the model, which cannot predict {}",
            counted(unknown as usize, "label"),
            if unknown == 1 { "is" } else { "are" },
            if unknown == 1 { "it" } else { "them" },
        );
    }
    text
}

fn show_bands(report: &Report) -> String {
    let mut table = Table::new(&[
        ("labels by frequency", Align::Left),
        ("labels", Align::Right),
        ("true in rows", Align::Right),
        ("share of P@5", Align::Right),
        ("R@5", Align::Right),
        ("coverage@5", Align::Right),
    ]);
    let bands = &report.bands;
    for (name, scores) in [("head", &bands.head), ("torso", &bands.torso), ("tail", &bands.tail)] {
        let value = |name: &str| scores.values.get(name).map_or_else(String::new, |v| format!("{v:.2}"));
        let counts = [name.to_owned(), scores.labels.to_string(), scores.positives.to_string()];
        table.row(counts.into_iter().chain([value("P@5"), value("R@5"), value("coverage@5")]));
    }
    table.render()
}

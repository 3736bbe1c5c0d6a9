//! `--sweep beam=1,2,5`: what is gained by searching further, and what does it cost?

use anyhow::{Result, bail};
use serde_json::{Value, json};
use xmc::evaluation::{Sweep, sweep};
use xmc::model::{Model, PredictOptions};
use xmc_data::dataset::{Dataset, Part};

use crate::args::{Evaluate, Knob};
use crate::table::{Align, Table};

/// Metrics of a line, and the cuts that they need.
const METRICS: [&str; 4] = ["P@1", "P@5", "R@10", "R@100"];
const CUTS: [usize; 4] = [1, 5, 10, 100];

/// Measures every combination of the numbers asked for, as a table or as JSON.
pub(super) fn run(verb: &Evaluate, model: &Model, data: &Dataset, part: &Part) -> Result<String> {
    let searches = searches(verb)?;
    let found = sweep(model, data, part, &CUTS, &searches)?;
    Ok(if verb.json {
        serde_json::to_string_pretty(&as_json(verb, &found))? + "\n"
    } else {
        table(verb, &found)
    })
}

/// All combinations; a key that is repeated has the values of all its lists.
fn searches(verb: &Evaluate) -> Result<Vec<PredictOptions>> {
    let mut given = verb.search.options(0);
    let mut lists: Vec<(Knob, Vec<usize>)> = Vec::new();
    for (knob, values) in &verb.sweep {
        if let (Some(n), Some((name, _))) = (*knob.of(&mut given), Knob::ALL.iter().find(|(_, k)| k == knob))
        {
            bail!("--{name} {n} and --sweep {name}=...: expected one of the two; leave --{name} out");
        }
        match lists.iter_mut().find(|(known, _)| known == knob) {
            Some((_, known)) => known.extend_from_slice(values),
            None => lists.push((*knob, values.clone())),
        }
    }
    let mut searches = vec![given];
    for (knob, values) in &lists {
        searches =
            searches.iter().flat_map(|search| values.iter().map(|&n| with(*knob, n, search))).collect();
    }
    Ok(searches)
}

fn with(knob: Knob, n: usize, search: &PredictOptions) -> PredictOptions {
    let mut search = *search;
    *knob.of(&mut search) = Some(n);
    search
}

/// Names of what is changed.
fn names(verb: &Evaluate) -> Vec<(&'static str, Knob)> {
    let asked = |named: &(&str, Knob)| verb.sweep.iter().any(|(knob, _)| *knob == named.1);
    Knob::ALL.into_iter().filter(asked).collect()
}

fn table(verb: &Evaluate, found: &Sweep) -> String {
    let names = names(verb);
    let columns = names.iter().map(|(name, _)| *name).chain(METRICS).chain(["\u{b5}s a query"]);
    let mut table = Table::new(&columns.map(|name| (name, Align::Right)).collect::<Vec<_>>());
    for point in &found.points {
        let mut search = point.search;
        let numbers = names.iter().map(|(_, knob)| knob.of(&mut search).unwrap_or(0).to_string());
        let mut cells: Vec<String> = numbers.collect();
        cells.extend(METRICS.map(|name| format!("{:.2}", point.report.values.get(name).unwrap_or(0.0))));
        cells.push(format!("{:.0}", point.micros));
        table.row(cells);
    }
    let note = match found.encoder_micros {
        Some(micros) => format!(
            "search alone, one thread, median; the encoder takes {micros:.0} \u{b5}s a text beside it"
        ),
        None => "whole answers, one thread, median".to_owned(),
    };
    format!("{}\n{note}\n", table.render())
}

fn as_json(verb: &Evaluate, found: &Sweep) -> Value {
    let names = names(verb);
    let point = |point: &xmc::evaluation::SweepPoint| {
        let (mut search, mut row) = (point.search, json!({ "micros": point.micros }));
        for (name, knob) in &names {
            row[*name] = json!(knob.of(&mut search));
        }
        for name in METRICS {
            row[name] = json!(point.report.values.get(name));
        }
        row
    };
    let points: Vec<Value> = found.points.iter().map(point).collect();
    json!({ "encoder_micros": found.encoder_micros, "points": points })
}

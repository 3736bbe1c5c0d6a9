//! `xmc inspect DATA|MODEL`: what does it look like?

mod dataset;

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use xmc::memory;
use xmc::model::{Model, Predictor};
use xmc_data::dataset::Dataset;
use xmc_data::inspect::inspect;

use crate::Outcome;
use crate::args::Inspect;
use crate::table::{Align, Table};

pub(crate) fn run(verb: &Inspect) -> Result<Outcome> {
    let text = if Model::is_at(&verb.path) { of_model(&verb.path, verb.json)? } else { of_data(verb)? };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

fn of_data(verb: &Inspect) -> Result<String> {
    let report = inspect(&Dataset::open(&verb.path)?);
    if verb.json {
        return Ok(serde_json::to_string_pretty(&report)? + "\n");
    }
    Ok(dataset::show(&report))
}

fn of_model(path: &Path, json: bool) -> Result<String> {
    let model = Model::open(path)?;
    let trees: Vec<_> = model
        .xr_linear()
        .trees()
        .iter()
        .map(|tree| {
            let widths: Vec<usize> = (1..=tree.tree().depth()).map(|t| tree.tree().width(t)).collect();
            let weights: Vec<usize> = tree.levels().iter().map(xmc_linear::store::Level::nnz).collect();
            json!({ "nodes": widths, "weights": weights })
        })
        .collect();
    if json {
        let whole = json!({
            "path": path, "labels": model.labels().len(), "features": model.xr_linear().num_features(),
            "reads_texts": model.reads_texts(), "trees": trees, "manifest": model.manifest(),
        });
        return Ok(serde_json::to_string_pretty(&whole)? + "\n");
    }
    let mut table = Table::new(&[("model", Align::Left), (&path.display().to_string(), Align::Left)]);
    table.row(["reads", if model.reads_texts() { "texts" } else { "features" }]);
    table.row(["labels", &model.labels().len().to_string()]);
    table.row(["features", &model.xr_linear().num_features().to_string()]);
    if let Some(manifest) = model.manifest() {
        table.row(["method", &manifest.method]);
        table.row(["made by", &format!("xmc {}, format {}", manifest.version, manifest.format)]);
        table.row(["trained on", &format!("{} ({} rows)", manifest.data.name, manifest.data.rows)]);
        table.row(["seed", &manifest.seed.to_string()]);
        table.row(["size", &memory::show(manifest.bytes())]);
        for (name, value) in manifest.metrics.iter().flatten().filter(|(name, _)| name.starts_with("P@")) {
            table.row([name.clone(), format!("{:.2}", value.as_f64().unwrap_or(0.0))]);
        }
    }
    for (t, tree) in trees.iter().enumerate() {
        table.row([format!("tree {t}"), format!("nodes {}, weights {}", tree["nodes"], tree["weights"])]);
    }
    Ok(table.render())
}

//! The description of a model as a table.

use anyhow::Result;
use serde_json::{Value, json};
use xmc::memory;
use xmc::methods::Method;
use xmc::methods::dexml::Dexml;
use xmc::methods::xr_linear::XrLinear;
use xmc::model::manifest::Manifest;
use xmc::model::{Model, Predictor};

use crate::table::{Align, Table};

/// What every model has, then what only those of its method have.
pub(super) fn show(model: &Model, json: bool) -> Result<String> {
    let mut whole = json!({
        "path": model.path(), "labels": model.labels().len(), "reads_texts": model.reads_texts(),
        "manifest": model.manifest(),
    });
    let mut table = Table::new(&[("model", Align::Left), (&model.path().display().to_string(), Align::Left)]);
    table.row(["reads", if model.reads_texts() { "texts" } else { "features" }]);
    table.row(["labels", &model.labels().len().to_string()]);
    if let Some(manifest) = model.manifest() {
        training(manifest, &mut table);
    }
    match model.method() {
        Method::XrLinear(method) => xr_linear(method, &mut whole, &mut table),
        Method::Dexml(method) => dexml(method, &mut whole, &mut table),
    }
    Ok(if json { serde_json::to_string_pretty(&whole)? + "\n" } else { table.render() })
}

fn training(manifest: &Manifest, table: &mut Table) {
    table.row(["method", &manifest.method]);
    table.row(["made by", &format!("xmc {}, format {}", manifest.version, manifest.format)]);
    table.row(["trained on", &format!("{} ({} rows)", manifest.data.name, manifest.data.rows)]);
    table.row(["seed", &manifest.seed.to_string()]);
    table.row(["size", &memory::show(manifest.bytes())]);
    for (name, value) in manifest.metrics.iter().flatten().filter(|(name, _)| name.starts_with("P@")) {
        table.row([name.clone(), format!("{:.2}", value.as_f64().unwrap_or(0.0))]);
    }
}

fn xr_linear(method: &XrLinear, whole: &mut Value, table: &mut Table) {
    table.row(["features", &method.num_features().to_string()]);
    let mut trees = Vec::new();
    for (t, tree) in method.trees().iter().enumerate() {
        let widths: Vec<usize> = (1..=tree.tree().depth()).map(|t| tree.tree().width(t)).collect();
        let weights: Vec<usize> = tree.levels().iter().map(xmc_linear::store::Level::nnz).collect();
        table.row([format!("tree {t}"), format!("nodes {widths:?}, weights {weights:?}")]);
        trees.push(json!({ "nodes": widths, "weights": weights }));
    }
    whole["features"] = method.num_features().into();
    whole["trees"] = trees.into();
}

fn dexml(method: &Dexml, whole: &mut Value, table: &mut Table) {
    let (tower, labels) = (method.encoder().tower(), method.label_embeddings());
    let (transformer, behind) = (tower.transformer_config(), tower.config());
    let family = format!("{:?}", transformer.family).to_lowercase();
    let pooling = format!("{:?}", behind.pooling).to_lowercase();
    let parameters = tower.layout().len();
    let sizes = [
        ("encoder", family.clone()),
        ("layers", transformer.layers.to_string()),
        ("width", format!("{}, {} heads", transformer.hidden, transformer.heads)),
        ("parameters", parameters.to_string()),
        ("pooling", pooling.clone()),
        ("tokens", format!("{} of a text", method.encoder().max_len())),
        ("embeddings", {
            let normalized = if behind.normalize { ", normalized" } else { "" };
            format!("{} values{normalized}", tower.dim())
        }),
        ("label matrix", format!("{} x {} {}", labels.rows(), labels.dim(), labels.dtype())),
        ("its size", memory::show(labels.bytes())),
    ];
    for (name, value) in sizes {
        table.row([name.to_owned(), value]);
    }
    whole["encoder"] = json!({
        "type": family, "layers": transformer.layers, "width": transformer.hidden, "heads": transformer.heads,
        "parameters": parameters, "pooling": pooling, "projection": behind.projection,
        "normalize": behind.normalize, "max_len": method.encoder().max_len(), "dim": tower.dim(),
    });
    whole["label_embeddings"] = json!({
        "rows": labels.rows(), "dim": labels.dim(), "dtype": labels.dtype(), "bytes": labels.bytes(),
    });
}

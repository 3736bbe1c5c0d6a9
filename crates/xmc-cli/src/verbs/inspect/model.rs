//! The description of a model as a table.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use xmc::memory;
use xmc::methods::Method;
use xmc::methods::dexml::Dexml;
use xmc::methods::xr_linear::XrLinear;
use xmc::model::manifest::Manifest;
use xmc::model::{Model, Predictor};

use crate::table::{Align, Table};

/// File of a model of dexml with one record a step and a validation.
const CURVES: &str = "curves.jsonl";

/// What every model has, then what only those of its method have.
pub(super) fn show(model: &Model, json: bool) -> Result<String> {
    let mut whole = json!({
        "path": model.path(), "labels": model.labels().len(), "reads_texts": model.reads_texts(),
        "manifest": model.manifest(),
    });
    let mut table = Table::new(&[("model", Align::Left), (&model.path().display().to_string(), Align::Left)]);
    table.row(["reads", if model.reads_texts() { "texts" } else { "features" }]);
    let added = model.manifest().map_or(0, |manifest| manifest.added_labels);
    let after = if added > 0 { format!(" ({added} added after training)") } else { String::new() };
    table.row(["labels", &format!("{}{after}", model.labels().len())]);
    if let Some(manifest) = model.manifest() {
        training(manifest, &mut table);
    }
    match model.method() {
        Method::XrLinear(method) => xr_linear(method, &mut whole, &mut table),
        Method::Ensemble(method) => {
            whole["members"] = json!(method.members().len());
            table.row(["members", &method.members().len().to_string()]);
        }
        Method::XrTransformer(method) => xr_linear(method.linear(), &mut whole, &mut table),
        Method::Dexml(method) => {
            dexml(method, &mut whole, &mut table);
            curves(model, &mut whole, &mut table);
        }
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

/// First and last of the losses, and the best validation, if the model kept them.
fn curves(model: &Model, whole: &mut Value, table: &mut Table) {
    let text = fs::read_to_string(model.path().join(CURVES)).unwrap_or_default();
    let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let losses: Vec<f64> = records.iter().filter_map(|record| record["loss"].as_f64()).collect();
    let tenth = losses.len().div_ceil(10);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    if let (Some(first), Some(last)) = (losses.get(..tenth), losses.get(losses.len() - tenth..))
        && tenth > 0
    {
        let (first, last) = (mean(first), mean(last));
        table.row(["loss".to_owned(), format!("{first:.3} at first, {last:.3} at last")]);
        whole["training"]["loss"] = json!({ "first": first, "last": last, "steps": losses.len() });
    }
    let config = model.manifest().map(|manifest| &manifest.config);
    let Some(metric) = config.and_then(|config| config["metric"].as_str()) else { return };
    let measured = records.iter().filter_map(|record| {
        Some((record["validation"][metric].as_f64()?, record["epoch"].as_u64().unwrap_or(0)))
    });
    if let Some((value, epoch)) = measured.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) {
        table.row(["validation".to_owned(), format!("{metric} {value:.2} after {epoch} epochs, the best")]);
        whole["training"]["validation"] = json!({ "metric": metric, "value": value, "epoch": epoch });
    }
}

//! The description of a model as a table.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use xmc::encoder::Encoder;
use xmc::index::LabelEmbeddings;
use xmc::memory;
use xmc::methods::Method;
use xmc::methods::elias::{Elias, Search};
use xmc::methods::quest::Quest;
use xmc::methods::xr_linear::XrLinear;
use xmc::model::ensemble::Ensemble;
use xmc::model::manifest::Manifest;
use xmc::model::{Model, Predictor};

use super::tree::{self, Extent};
use crate::table::{Align, Table};

/// File of a model of dexml with one record a step and a validation.
const CURVES: &str = "curves.jsonl";

/// What every model has, then what only those of its method have.
pub(super) fn show(model: &Model, json: bool, extent: Extent) -> Result<String> {
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
        training(manifest, model.ensemble().is_none(), &mut table);
    }
    match model.method() {
        Method::XrLinear(method) => trees(method, &mut table),
        Method::XrTransformer(method) => {
            encoder(method.encoder(), &mut whole, &mut table);
            trees(method.linear(), &mut table);
        }
        Method::Ensemble(method) => {
            whole["combine"] = json!(method.rule());
            table.row(["combine", json!(method.rule()).as_str().unwrap_or_default()]);
        }
        Method::Elias(method) => {
            encoder(method.encoder(), &mut whole, &mut table);
            label_vectors(method.label_embeddings(), &mut whole, &mut table);
            index(method, &mut whole, &mut table);
        }
        Method::Quest(method) => {
            prompted(method, &mut whole, &mut table);
            label_vectors(method.label_embeddings(), &mut whole, &mut table);
            curves(model, &mut whole, &mut table);
        }
        Method::Dexml(method) => {
            encoder(method.encoder(), &mut whole, &mut table);
            label_vectors(method.label_embeddings(), &mut whole, &mut table);
            curves(model, &mut whole, &mut table);
        }
    }
    if !json {
        let below = match (model.trees(), model.ensemble()) {
            (Some(method), _) => tree::show(method, model.labels(), extent),
            (None, Some(method)) => format!("\n{}", members(method)),
            (None, None) => String::new(),
        };
        return Ok(table.render() + &below);
    }
    if let Some(method) = model.trees() {
        whole["features"] = method.num_features().into();
        whole["trees"] = tree::to_json(method, model.labels(), extent);
    }
    if let Some(method) = model.ensemble() {
        whole["members"] =
            method.members().iter().map(|member| json!({ "manifest": member.manifest() })).collect();
    }
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

/// The models that answer together.
fn members(method: &Ensemble) -> String {
    let columns = ["seed", "size", "P@1", "P@5"].map(|name| (name, Align::Right));
    let columns = [("member", Align::Left), ("method", Align::Left)].into_iter().chain(columns);
    let mut table = Table::new(&columns.collect::<Vec<_>>());
    for (i, manifest) in method.members().iter().map(Model::manifest).enumerate() {
        let Some(manifest) = manifest else { continue };
        let metric = |name: &str| manifest.metrics.as_ref().and_then(|metrics| metrics.get(name)?.as_f64());
        let percent = |name: &str| metric(name).map_or(String::new(), |value| format!("{value:.2}"));
        let (seed, size) = (manifest.seed.to_string(), memory::show(manifest.bytes()));
        table.row([i.to_string(), manifest.method.clone(), seed, size, percent("P@1"), percent("P@5")]);
    }
    table.render()
}

fn training(manifest: &Manifest, has_seed: bool, table: &mut Table) {
    table.row(["method", &manifest.method]);
    table.row(["made by", &format!("xmc {}, format {}", manifest.version, manifest.format)]);
    table.row(["trained on", &format!("{} ({} rows)", manifest.data.name, manifest.data.rows)]);
    if has_seed {
        table.row(["seed", &manifest.seed.to_string()]);
    }
    table.row(["size", &memory::show(manifest.bytes())]);
    for (name, value) in manifest.metrics.iter().flatten().filter(|(name, _)| name.starts_with("P@")) {
        table.row([name.clone(), format!("{:.2}", value.as_f64().unwrap_or(0.0))]);
    }
}

/// What the rankers of the trees know; the trees themselves are drawn below the table.
fn trees(method: &XrLinear, table: &mut Table) {
    table.row(["features", &method.num_features().to_string()]);
    if method.trees().len() > 1 {
        table.row(["trees", &method.trees().len().to_string()]);
    }
}

fn encoder(encoder: &Encoder, whole: &mut Value, table: &mut Table) {
    let Some(tower) = encoder.tower() else { return };
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
        ("tokens", format!("{} of a text", encoder.max_len())),
        ("embeddings", {
            let normalized = if behind.normalize { ", normalized" } else { "" };
            format!("{} values{normalized}", tower.dim())
        }),
    ];
    for (name, value) in sizes {
        table.row([name.to_owned(), value]);
    }
    whole["encoder"] = json!({
        "type": family, "layers": transformer.layers, "width": transformer.hidden, "heads": transformer.heads,
        "parameters": parameters, "pooling": pooling, "projection": behind.projection,
        "normalize": behind.normalize, "max_len": encoder.max_len(), "dim": tower.dim(),
    });
}

/// The decoder, the prompt in front of it, and the labels that were learned from.
fn prompted(method: &Quest, whole: &mut Value, table: &mut Table) {
    let Some(prompted) = method.encoder().decoder() else { return };
    let (decoder, around) = (prompted.decoder(), prompted.config());
    let (sizes, base, sampled) = (decoder.config(), method.base(), method.sampled());
    let pooling = json!(around.pooling).as_str().unwrap_or_default().to_owned();
    let trained = prompted.layout().len();
    let adapters = around.lora.map_or_else(|| "none".to_owned(), |lora| format!("of rank {}", lora.rank));
    let rows = [
        ("decoder", base.path.display().to_string()),
        ("fingerprint", base.fingerprint.clone()),
        ("layers", sizes.layers.to_string()),
        ("width", format!("{}, {} heads, {} of keys", sizes.hidden, sizes.heads, sizes.kv_heads)),
        ("its weights", memory::show(decoder.bytes() as u64)),
        ("prompt", format!("{} vectors", prompted.prompt_tokens())),
        ("adapters", adapters),
        ("parameters", trained.to_string()),
        ("pooling", pooling.clone()),
        ("tokens", format!("{} of a text", method.encoder().max_len())),
        ("learned from", format!("{} of {} labels", sampled.seen.len(), method.num_labels())),
    ];
    for (name, value) in rows {
        table.row([name.to_owned(), value]);
    }
    whole["decoder"] = json!({
        "path": base.path, "fingerprint": base.fingerprint, "layers": sizes.layers, "width": sizes.hidden,
        "heads": sizes.heads, "kv_heads": sizes.kv_heads, "bytes": decoder.bytes(), "pooling": pooling,
        "prompt_tokens": prompted.prompt_tokens(), "parameters": trained, "lora": around.lora,
        "max_len": method.encoder().max_len(),
    });
    whole["sampled"] = json!({ "labels": sampled.seen.len(), "report": sampled.sample.report });
}

fn label_vectors(labels: &LabelEmbeddings, whole: &mut Value, table: &mut Table) {
    table
        .row(["label matrix".to_owned(), format!("{} x {} {}", labels.rows(), labels.dim(), labels.dtype())]);
    table.row(["its size", &memory::show(labels.bytes())]);
    whole["label_embeddings"] = json!({
        "rows": labels.rows(), "dim": labels.dim(), "dtype": labels.dtype(), "bytes": labels.bytes(),
    });
}

/// Clusters and edges, if the model has them.
fn index(method: &Elias, whole: &mut Value, table: &mut Table) {
    let Search::Index(index) = method.search() else {
        table.row(["search", "all labels, there is no index"]);
        whole["index"] = Value::Null;
        return;
    };
    let (clusters, edges) = (index.clusters(), index.edges());
    let (c, l) = (clusters.rows().max(1) as f64, edges.num_labels().max(1) as f64);
    let of_cluster = (0..clusters.rows()).map(|c| edges.of(c).0.len());
    let (least, most) = (of_cluster.clone().min().unwrap_or(0), of_cluster.max().unwrap_or(0));
    let per_label = edges.per_label();
    let with = |n: u32| per_label.iter().filter(|&&edges| edges == n).count();
    let most_of_label = per_label.iter().copied().max().unwrap_or(0);
    let (mean, of_label) = (edges.len() as f64 / c, edges.len() as f64 / l);
    let size = memory::show(clusters.bytes() + edges.bytes());
    let rows = [
        ("clusters", format!("{} x {} {}", clusters.rows(), clusters.dim(), clusters.dtype())),
        ("edges", edges.len().to_string()),
        ("of a cluster", format!("{least} to {most}, {mean:.1} on average")),
        ("to a label", format!("{of_label:.2} on average, {most_of_label} at most")),
        ("labels with one", with(1).to_string()),
        ("labels with none", with(0).to_string()),
        ("size of the index", size),
    ];
    for (name, value) in rows {
        table.row([name.to_owned(), value]);
    }
    whole["index"] = json!({
        "clusters": clusters.rows(), "dtype": clusters.dtype(), "edges": edges.len(),
        "of_cluster": { "least": least, "mean": mean, "most": most },
        "of_label": { "mean": of_label, "most": most_of_label },
        "labels_with_one_edge": with(1), "labels_without_edges": with(0),
        "bytes": clusters.bytes() + edges.bytes(),
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

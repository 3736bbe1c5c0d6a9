//! How does a trained model learn of new labels without training?
//!
//! A dual encoder scores a label by the embedding of its name, so a new name only has to be embedded. The model with
//! the new labels behind the old ones is put together beside its place and published like a trained one; a crash leaves
//! the old model. Nobody else may change it from before it is read until the new one lies there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use xmc_data::formats::atomic::FolderAside;
use xmc_data::{LabelSet, Strings};
use xmc_nn::Tensor;
use xmc_nn::hf::Tokenizer;

use crate::config::Settings;
use crate::error::{Error, Result};
use crate::index::LabelEmbeddings;
use crate::methods::Method;
use crate::methods::dexml::{DexmlConfig, ENCODER, Head, LABEL_EMBEDDINGS};
use crate::methods::quest::QuestConfig;
use crate::model::finish::take;
use crate::model::manifest::{self, Manifest};
use crate::model::publish::{publish, refuse_foreign};
use crate::model::{LABELS, Model, OpenOptions, Predictor, settings};
use crate::run::Claim;

/// What became of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Labels that the model did not have.
    pub added: usize,
    /// Names that were left out: the model has them, or they are there twice.
    pub known: usize,
    /// Labels of the new model.
    pub labels: usize,
}

/// Writes to `out`, which may be `model` itself, the same model with the labels `names` behind its own; `progress` hears
/// how many tokens of how many are embedded.
///
/// Names that the model has already are left out. Scores on test rows are left out as well: they are those of fewer
/// labels.
pub fn add_labels(
    model: &Path,
    names: &Strings,
    out: &Path,
    options: &OpenOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Added> {
    Model::require(model)?;
    refuse_foreign(out)?;
    // A link to a model stays one: the folder that it leads to changes.
    let (out, place) = (&resolved(out)?, &resolved(model)?);
    let _claim = Claim::new(out)?;
    let opened = Model::open_with(model, options)?;
    let (manifest, embeddings) = addable(&opened)?;
    let new = new_names(opened.labels(), names)?;
    let mut labels = opened.labels().clone();
    for name in new.iter() {
        labels.push(name);
    }
    let added = Added { added: new.len(), known: names.len() - new.len(), labels: labels.len() };
    if new.is_empty() && out == place {
        return Ok(added);
    }

    let rows = embed(&opened, manifest, &new, progress)?;

    let aside = FolderAside::new(out)?;
    let dir = aside.path().join("model");
    fs::create_dir(&dir).map_err(Error::io(&dir))?;
    labels.names().save(&dir.join(LABELS))?;
    embeddings.append(&dir.join(LABEL_EMBEDDINGS), new.len(), |file| file.push(rows.host()))?;
    let bring = if out == place { take } else { copy };
    take_rest(model, manifest, &dir, bring)?;
    let manifest = Manifest {
        format: manifest::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        metrics: manifest.metrics.clone().filter(|_| new.is_empty()),
        added_labels: manifest.added_labels + new.len(),
        ..manifest.clone()
    };
    manifest.seal(&dir)?;
    publish(&dir, out, &aside.path().join("old"))?;
    Ok(added)
}

/// Embeddings `[n, d]` of new names.
fn embed(model: &Model, manifest: &Manifest, names: &Strings, progress: &dyn Fn(u64, u64)) -> Result<Tensor> {
    match model.method() {
        Method::Quest(method) => method.embed_labels(model.path(), names, progress),
        Method::Dexml(method) => {
            let config: DexmlConfig = settings(model.path(), manifest)?;
            let max_len = config.label_max_len.min(method.encoder().max_positions());
            let tokens = Tokenizer::open(&model.path().join(ENCODER), max_len)?.encode(names)?;
            method.encoder().embed_tokens(&tokens, progress)
        }
        _ => Err(Error::file(model.path(), "its labels are not embedded names")),
    }
}

/// The manifest and the label vectors of a model that can take labels.
fn addable(model: &Model) -> Result<(&Manifest, &LabelEmbeddings)> {
    let refuse = |reason: &str| {
        Err(Error::file(model.path(), format!("cannot take new labels without training: {reason}")))
    };
    match (model.method(), model.manifest()) {
        (Method::Dexml(method), Some(_)) if method.head() == Head::Classifier => {
            refuse("it has learnt weights for each label; train dexml with head = \"label-text\"")
        }
        (Method::Dexml(method), Some(manifest)) => Ok((manifest, method.label_embeddings())),
        (Method::Quest(method), Some(manifest)) => Ok((manifest, method.label_embeddings())),
        (Method::Elias(_), _) => {
            refuse("it has learnt a classifier and edges for each label; train elias with them")
        }
        _ => {
            let advice = format!("only models of {} and {} do", DexmlConfig::METHOD, QuestConfig::METHOD);
            refuse(&advice)
        }
    }
}

/// The names that are new, each once, in their order.
fn new_names(known: &LabelSet, names: &Strings) -> Result<Strings> {
    if let Some(line) = names.iter().position(|name| name.trim().is_empty()) {
        let problem = format!("name {} of the new labels is empty: there is nothing to embed", line + 1);
        return Err(Error::Mismatch(problem));
    }
    if names.is_empty() {
        return Err(Error::Mismatch("no new labels were given".to_owned()));
    }
    let index = known.index();
    let mut seen = HashSet::new();
    Ok(Strings::new(names.iter().filter(|name| !index.contains_key(name) && seen.insert(*name))))
}

/// The folder that `path` leads to, if there is one.
fn resolved(path: &Path) -> Result<PathBuf> {
    if path.exists() { fs::canonicalize(path).map_err(Error::io(path)) } else { Ok(path.to_owned()) }
}

/// Two models share no file: whoever changes one in place must not change the other.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(|_| ()).map_err(Error::io(from))
}

/// Brings the files that stay as they are.
fn take_rest(
    model: &Path,
    manifest: &Manifest,
    dir: &Path,
    bring: impl Fn(&Path, &Path) -> Result<()>,
) -> Result<()> {
    for entry in &manifest.files {
        let (name, path) = (entry.name.as_str(), dir.join(&entry.name));
        if ![LABELS, LABEL_EMBEDDINGS].contains(&name) {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(Error::io(folder))?;
            }
            bring(&model.join(name), &path)?;
        }
    }
    Ok(())
}

//! XR-Linear (Yu, Zhong, Zhang, Chang, Dhillon: "PECOS", arXiv 2010.05878).
//!
//! Labels are grouped into a tree of similar ones. Every node learns a linear ranker against its siblings, on the rows
//! that reach its parent. A query walks down the tree and keeps the best few nodes of every level, so it meets
//! O(beam * branching * depth) rankers instead of all L.
//!
//! [`train`] is the whole method, from top to bottom.

mod config;
mod estimate;
mod inputs;
pub(in crate::methods) mod keys;
mod predict;
mod stages;
mod write;

use std::cell::OnceCell;

use xmc_data::dataset::Dataset;
use xmc_linear::Features;
use xmc_linear::cluster::build_tree;
use xmc_linear::ranker::{self, TrainInput};
use xmc_linear::store::TreeModel;

pub use config::{FeatureSource, Files, XrLinearConfig};
pub use predict::{Session, XrLinear};
pub(crate) use stages::VECTORIZER;

use crate::config::{Checked, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::{Summary, TrainOptions, measure};
use crate::model::Model;
use crate::model::finish::Finished;
use crate::model::publish::refuse_foreign;
use crate::run::{Artifact, Identity, Run};
pub(in crate::methods) use config::within;
use inputs::{Extra, features, label_rows, uses_given};
use write::write;

/// Learns from the training rows of `data` and writes a model folder.
pub fn train(
    data: &Dataset,
    config: &Checked<XrLinearConfig>,
    options: &TrainOptions,
    events: &dyn Events,
) -> Result<Summary> {
    refuse_foreign(&options.out)?;
    let extra = Extra::read(config, data.labels.len())?;
    let identity = identity(data, config, &extra, options.seed)?;
    let mut run = Run::start(&options.out, &identity, options.resume, events)?;

    // Texts to features x [n, d].
    if !uses_given(config.features, data)? {
        estimate::check_texts(data, config, options.max_memory)?;
    }
    let (vectorizer, x) = features(&mut run, data, config)?;
    let x = Features::from(x);
    estimate::check(data, x.sparse(), config, options.max_memory)?;

    // Label features z [L, d'], and from them one tree for every seed.
    let z = OnceCell::new();
    let mut trees = Vec::with_capacity(config.trees);
    for t in 0..config.trees {
        let seed = seed_of(options.seed, t);
        trees.push(run.stage(&format!("tree.{t}"), || {
            if let Some(tree) = &extra.tree {
                return Ok(tree.clone());
            }
            if z.get().is_none() {
                let _ = z.set(label_rows(data, config, &extra, &x, vectorizer.as_ref())?);
            }
            Ok(build_tree(z.get().unwrap_or(&x), &config.cluster, seed)?)
        })?);
    }
    drop(z);

    // One linear ranker for every node of every tree.
    let input = TrainInput {
        x: &x,
        y: &data.train.y,
        relevance: extra.relevance.as_ref(),
        negatives: extra.negatives.as_ref(),
    };
    for (t, tree) in trees.into_iter().enumerate() {
        let seed = seed_of(options.seed, t);
        run.stage(&format!("ranker.{t}"), || {
            let progress = |done, total| events.progress(done, total);
            Ok(ranker::train(input, tree, &config.ranker, seed, &progress)
                .map_err(|e| within("ranker", e))?)
        })?;
    }
    drop(x);

    // The parts as one model: measured, then written.
    let rankers = (0..config.trees).map(|t| TreeModel::load(&run.stage_dir(&format!("ranker.{t}"))));
    let method = XrLinear::new(vectorizer, rankers.collect::<Result<_>>()?, config.combine)?;
    let features = method.num_features();
    let model = Model::assemble(&options.out, data.labels.clone(), method.into());
    let metrics = measure(&model, data, options)?;
    let (identity, out) = (&identity, options.out.as_path());
    let finished = Finished { data, identity, features, metrics: metrics.as_ref(), out };
    let manifest = write(&run, &finished, model.reads_texts(), config.trees)?;
    Ok(Summary { stages: run.succeed()?, model_bytes: manifest.bytes(), metrics })
}

/// Seed of tree `t`; an ensemble of n trees contains those of n - 1.
fn seed_of(seed: u64, t: usize) -> u64 {
    seed.wrapping_add(t as u64)
}

/// What must not change between the two halves of an interrupted run.
fn identity(data: &Dataset, config: &XrLinearConfig, extra: &Extra, seed: u64) -> Result<Identity> {
    let mut print = Fingerprint::of(data);
    extra.mark(&mut print);
    Ok(Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: XrLinearConfig::METHOD.to_owned(),
        config: serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?,
        seed,
        data: print.finish(),
    })
}

//! XR-Linear (Yu, Zhong, Zhang, Chang, Dhillon: "PECOS", arXiv 2010.05878).
//!
//! Labels are grouped into a tree of similar ones. Every node learns a linear ranker against its siblings, on the rows
//! that reach its parent. A query walks down the tree and keeps the best few nodes of every level, so it meets
//! O(beam * branching * depth) rankers instead of all L.
//!
//! [`train`] is the whole method, from top to bottom.

mod config;
pub(in crate::methods) mod estimate;
pub(in crate::methods) mod forest;
pub(in crate::methods) mod inputs;
pub(in crate::methods) mod keys;
mod predict;
mod stages;
pub(in crate::methods) mod write;

use xmc_data::dataset::Dataset;
use xmc_linear::Features;

pub use config::{FeatureSource, Files, XrLinearConfig};
pub use predict::{Session, XrLinear};
pub(crate) use stages::VECTORIZER;

use crate::config::{Checked, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::{Summary, TrainOptions, measure};
use crate::model::Model;
use crate::model::finish::{Finished, finish};
use crate::model::publish::refuse_foreign;
use crate::run::{Identity, Run};
pub(in crate::methods) use config::within;
use forest::{Forest, trained};
use inputs::{Extra, features, uses_given, widths};
use write::parts;

/// Learns from the training rows of `data` and writes a model folder.
pub fn train(
    data: &Dataset,
    config: &Checked<XrLinearConfig>,
    options: &TrainOptions,
    events: &dyn Events,
) -> Result<Summary> {
    refuse_foreign(&options.out)?;
    let extra = Extra::read(config, data)?;
    if let Some(levels) = widths(data.labels.len(), &config.cluster, extra.tree.as_ref())? {
        config.ranker.check_levels(Some(levels.len())).map_err(|e| within("ranker", e))?;
    }
    if !uses_given(config.features, data)? {
        estimate::check_texts(data, config, options.max_memory)?;
    }
    let identity = identity(data, config, &extra, options.seed)?;
    let mut run = Run::start(&options.out, &identity, options.resume, events)?;

    // Texts to features x [n, d].
    let (vectorizer, x) = features(&mut run, data, config)?;
    let x = Features::from(x);
    estimate::check(data, x.sparse(), config, options.max_memory)?;

    // Label features z [L, d'], and from them one tree for every seed; then one linear ranker for every node.
    let (vectors, seed) = (vectorizer.as_ref(), options.seed);
    let forest = Forest { data, config, extra: &extra, x: &x, vectorizer: vectors, seed, events };
    let trees = forest.grow(&mut run)?;
    forest.rank(&mut run, trees)?;
    drop(x);

    // The parts as one model: measured, then written.
    let method = XrLinear::new(vectorizer, 0, trained(&run, config.trees)?, config.combine)?;
    let features = method.num_features();
    let model = Model::assemble(&options.out, data.labels.clone(), method.into());
    let metrics = measure(&model, data, options)?;
    let (identity, out) = (&identity, options.out.as_path());
    let finished = Finished { data, identity, features, metrics: metrics.as_ref(), out };
    let manifest = finish(&run, &finished, |dir| parts(&run, model.reads_texts(), config.trees, dir))?;
    Ok(Summary { stages: run.succeed()?, model_bytes: manifest.bytes(), metrics, alone: None })
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

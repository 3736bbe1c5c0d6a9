//! DEXML (Gupta, Khatri, Rawat, Bhojanapalli, Jain, Dhillon: "Dual-encoders for Extreme Multi-label Classification",
//! ICLR 2024, arXiv 2310.10636).
//!
//! One encoder embeds texts and label names; a label's score is the inner product of both. What makes this work with
//! many labels is a loss in which the positives of a text do not compete, and many negatives, up to all labels.
//!
//! [`train`] is the whole method, from top to bottom; `training` is its loop over epochs and steps.

mod checkpointing;
mod config;
mod estimate;
mod inputs;
mod keys;
mod learner;
mod mining;
mod model;
mod negatives;
mod positives;
mod presets;
mod scoring;
mod trained;
mod training;

use xmc_data::dataset::Dataset;

pub(in crate::methods) use config::parse_metric;
pub use config::{CriterionKind, DexmlConfig, Head, Negatives, OfPositives, PoolBy, Positives, TopkSize};
pub(in crate::methods) use inputs::{TokenSets, check_names};
pub(in crate::methods) use keys::METRICS;
pub(in crate::methods) use mining::{Shortlist, filter_of, mine};
pub use model::{Dexml, Session};
pub(crate) use model::{ENCODER, LABEL_EMBEDDINGS, tower_config};
pub use presets::{Preset, Scale};

use crate::config::{Checked, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::soft::{self, SoftValue};
use crate::methods::split::Split;
use crate::methods::{Summary, TrainOptions, measure};
use crate::model::Model;
use crate::model::finish::{Finished, finish, take};
use crate::model::publish::refuse_foreign;
use crate::run::{Artifact, Identity, Run, remove};
use inputs::{check_start, required};
use trained::{CURVES, Vectors};

/// Learns from the training rows of `data` and writes a model folder.
pub fn train(
    data: &Dataset,
    config: &Checked<DexmlConfig>,
    options: &TrainOptions,
    events: &dyn Events,
) -> Result<Summary> {
    refuse_foreign(&options.out)?;
    let (encoder, texts) = required(data, config)?;
    if config.head == Head::LabelText {
        check_names(&data.labels, ", or set head = \"classifier\"", events)?;
    }
    check_start(encoder, config, events)?;
    if config.value == SoftValue::Target {
        soft::check_probabilities(data)?;
    }
    let identity = identity(data, config, options.seed)?;
    let mut run = Run::start(&options.out, &resumable(&identity), options.resume, events)?;

    // Texts and label names to token ids, once; kept in files and mapped.
    drop(run.stage("tokens", || TokenSets::read(encoder, texts, &data.labels, config))?);
    let tokens = TokenSets::load(&run.stage_dir("tokens"))?;

    // Rows that train, and rows that find the best epoch.
    let apart = (config.validation, config.validation_rows);
    let split = Split::new(&data.train.y, texts, apart, options.seed)?;
    if split.unlabelled > 0 {
        events.message(&format!("{} training rows have no label and take no part", split.unlabelled));
    }

    // The encoder learns, checkpoint by checkpoint.
    let unfinished = run.ongoing("train")?;
    let y = soft::read(&data.train.y, config.value);
    let task = training::Task { data, y: &y, config, tokens: &tokens, split: &split, options, events };
    drop(run.stage("train", || training::fit(&task, encoder, &unfinished))?);

    // Every label becomes a vector, with which searches compare texts.
    let trained = run.stage_dir("train");
    drop(run.stage("labels", || Vectors::of(&trained, &tokens, config, options.device))?);
    remove(&unfinished)?;

    // The parts as one model: measured, then written.
    let (encoder, vectors) = (trained.join(ENCODER), run.stage_dir("labels").join(LABEL_EMBEDDINGS));
    let method = Dexml::open(&encoder, &vectors, config, options.device, config.precision.resolve())?;
    let features = method.label_embeddings().dim();
    let model = Model::assemble(&options.out, data.labels.clone(), method.into());
    let metrics = measure(&model, data, options)?;
    let finished =
        Finished { data, identity: &identity, features, metrics: metrics.as_ref(), out: &options.out };
    let manifest = finish(&run, &finished, |dir| {
        take(&encoder, &dir.join(ENCODER))?;
        take(&vectors, &dir.join(LABEL_EMBEDDINGS))?;
        take(&trained.join(CURVES), &dir.join(CURVES))
    })?;
    Ok(Summary { stages: run.succeed()?, model_bytes: manifest.bytes(), metrics, alone: None })
}

/// What must not change between the two halves of an interrupted run: what the encoder holds but not where it lies,
/// and not how often the run is saved.
fn resumable(identity: &Identity) -> Identity {
    let mut identity = identity.clone();
    if let Some(config) = identity.config.as_object_mut() {
        config.retain(|key, _| key != "encoder" && key != "checkpoint_minutes");
    }
    identity
}

/// What the model is made from.
fn identity(data: &Dataset, config: &DexmlConfig, seed: u64) -> Result<Identity> {
    let mut print = Fingerprint::of(data);
    print.pairs(&data.train.filter);
    if let Some(encoder) = &config.encoder {
        print.encoder(encoder)?;
    }
    Ok(Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: DexmlConfig::METHOD.to_owned(),
        config: serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?,
        seed,
        data: print.finish(),
    })
}

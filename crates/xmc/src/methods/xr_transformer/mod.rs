//! XR-Transformer (Zhang, Chang, Yu, Dhillon: "Fast Multi-Resolution Transformer Fine-tuning for Extreme Multi-label Text
//! Classification", NeurIPS 2021, arXiv 2110.00685).
//!
//! An encoder learns to tell the groups of a label tree apart, from the few large groups to the many small ones; the
//! finer level only tells the children of groups that a text may belong to apart. Then the rankers of XR-Linear see the
//! embedding of a text beside its sparse features. A prediction is one forward pass and one walk down the tree.
//!
//! [`train`] is the whole method, from top to bottom.

mod active;
mod config;
mod estimate;
mod head;
mod inputs;
mod keys;
mod learner;
mod levels;
mod matcher;
mod model;
mod plan;
mod presets;
#[cfg(test)]
pub(super) mod toy;
mod training;
mod write;

use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_data::text::Vectorizer;
use xmc_linear::cluster::build_tree;
use xmc_linear::{Features, Tree};
use xmc_nn::tokens::Tokens;

pub use config::{Bootstrap, HeadLoss, MatcherConfig, Matching, TrainingConfig, XrTransformerConfig};
pub use model::{Session, XrTransformer};
pub use presets::{PRESETS, preset};

use crate::config::{Checked, Settings};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::dexml::ENCODER;
use crate::methods::start::{self, Start};
use crate::methods::text_stages::{self, Embedding, Unchanged};
use crate::methods::xr_linear::XrLinear;
use crate::methods::xr_linear::forest::{Forest, trained};
use crate::methods::xr_linear::inputs::{Extra, label_rows};
use crate::methods::{Summary, TrainOptions, measure};
use crate::model::finish::Finished;
use crate::model::publish::refuse_foreign;
use crate::model::{Model, encoder_folder};
use crate::run::{Artifact, Identity, Run};
use estimate::Ahead;
use inputs::needs_preliminary;
use levels::Task;

/// Name of the stage that embeds the training rows.
const EMBEDDING: &str = "embedding";

/// Learns from the training rows of `data` and writes a model folder, or the folder of an encoder if that is all that is
/// wanted.
pub fn train(
    data: &Dataset,
    config: &Checked<XrTransformerConfig>,
    options: &TrainOptions,
    events: &dyn Events,
) -> Result<Summary> {
    let refuse = if config.only_encoder { encoder_folder::refuse_foreign } else { refuse_foreign };
    refuse(&options.out)?;
    inputs::check(config)?;
    let start = Start::find(config.encoder.as_deref(), config.pooling)?;
    let texts = start::texts(data, "XR-Transformer")?;
    let linear = config.linear();
    let extra = inputs::extra(config, data)?;
    inputs::check_levels(config, &extra, data.labels.len())?;
    let ahead = Ahead::new(data, (config, &linear), &start, options, events)?;
    ahead.check_texts()?;
    let identity = identity(data, config, &extra, &start, options.seed)?;
    let mut run = Run::start(&options.out, &resumable(&identity), options.resume, events)?;

    // Texts to sparse features x [n, d], and from them the tree along which the encoder learns.
    let (vectorizer, x) = inputs::sparse(&mut run, data, &linear)?;
    let x = Features::from(x);
    let vectors = vectorizer.as_ref();
    let preliminary = preliminary(&mut run, &Rows { data, extra: &extra, x: &x, vectors }, config, options)?;

    // Texts to token ids, once; kept in a file and mapped.
    drop(run.stage("tokens", || text_stages::tokens(&start, texts, config.max_len))?);
    let tokens = <Tokens as Artifact>::load(&run.stage_dir("tokens"))?;

    ahead.check(x.sparse(), &tokens, preliminary.as_ref(), &run)?;

    // The encoder learns, level by level of the tree.
    let encoder = match &preliminary {
        Some(tree) if config.do_fine_tune => {
            let (y, relevance) = (extra.labels(data), extra.relevance.as_ref());
            let (x, tokens, start) = (&x, &tokens, &start);
            levels::fine_tune(
                &mut run,
                &Task { config, x, y, relevance, tree, tokens, start, options, events },
            )?
        }
        _ => {
            drop(run.stage("encoder", || Unchanged::open(&start, options.device))?);
            run.stage_dir("encoder").join(ENCODER)
        }
    };
    if config.only_encoder {
        return write::encoder(run, (&encoder, &start), config, &options.out);
    }

    // Embeddings [n, h] of length 1 beside the sparse features.
    let opened = Encoder::open(
        &encoder,
        start.normalized(),
        config.max_len,
        options.device,
        config.precision.resolve(),
    )?;
    let embedding = run.stage(EMBEDDING, || Embedding::of(&tokens, &opened, events))?;
    let x = x.beside(embedding.0)?;

    // From both the tree that answers, and a ranker for every node.
    let extra = Extra { tree: preliminary.filter(|_| config.fix_clustering), ..extra };
    let seed = options.seed;
    let forest = Forest { data, config: &linear, extra: &extra, x: &x, vectorizer: vectors, seed, events };
    let trees = forest.grow(&mut run)?;
    forest.rank(&mut run, trees)?;
    let features = x.cols();
    drop(x);

    let parts = Trained { config, identity: &identity, start: &start, encoder: &encoder, opened, features };
    parts.publish(run, data, vectorizer, options)
}

/// Everything that has been learned but the rankers, which lie in the run.
struct Trained<'a> {
    config: &'a XrTransformerConfig,
    identity: &'a Identity,
    start: &'a Start,
    /// Folder of the encoder, and itself.
    encoder: &'a Path,
    opened: Encoder,
    /// Columns of the rankers.
    features: usize,
}

impl Trained<'_> {
    /// The parts as one model: measured, then written.
    fn publish(
        self,
        run: Run,
        data: &Dataset,
        vectorizer: Option<Vectorizer>,
        options: &TrainOptions,
    ) -> Result<Summary> {
        let Trained { config, identity, start, encoder, opened, features } = self;
        let reads_words = vectorizer.is_some();
        let rankers = XrLinear::new(vectorizer, opened.dim(), trained(&run, config.trees)?, config.combine)?;
        let method = XrTransformer::new(opened, rankers)?;
        let model = Model::assemble(&options.out, data.labels.clone(), method.into());
        let metrics = measure(&model, data, options)?;
        let out = options.out.as_path();
        let finished = Finished { data, identity, features, metrics: metrics.as_ref(), out };
        let manifest = write::model(&run, &finished, (encoder, start), config, reads_words)?;
        Ok(Summary { stages: run.succeed()?, model_bytes: manifest.bytes(), metrics, alone: None })
    }
}

/// What the preliminary tree is grown from.
struct Rows<'a> {
    data: &'a Dataset,
    extra: &'a Extra,
    x: &'a Features,
    vectors: Option<&'a Vectorizer>,
}

/// The tree along which the encoder learns, if anything needs it: the given one, or one of the sparse features.
fn preliminary(
    run: &mut Run,
    rows: &Rows<'_>,
    config: &XrTransformerConfig,
    options: &TrainOptions,
) -> Result<Option<Tree>> {
    if !needs_preliminary(config) {
        return Ok(None);
    }
    let tree = run.stage("preliminary", || {
        if let Some(tree) = &rows.extra.tree {
            return Ok(tree.clone());
        }
        let z = label_rows(rows.data, &config.linear(), rows.extra, rows.x, rows.vectors)?;
        Ok(build_tree(&z, &config.preliminary, options.seed)?)
    })?;
    Ok(Some(tree))
}

/// What must not change between the two halves of an interrupted run: what the encoder holds but not where it lies,
/// and not how often the run is saved.
fn resumable(identity: &Identity) -> Identity {
    let mut identity = identity.clone();
    if let Some(config) = identity.config.as_object_mut() {
        config.retain(|key, _| key != "encoder");
        if let Some(training) = config.get_mut("training").and_then(|training| training.as_object_mut()) {
            training.retain(|key, _| key != "checkpoint_minutes");
        }
    }
    identity
}

/// What the model is made from.
fn identity(
    data: &Dataset,
    config: &XrTransformerConfig,
    extra: &Extra,
    start: &Start,
    seed: u64,
) -> Result<Identity> {
    let mut print = Fingerprint::of(data);
    extra.mark(&mut print);
    print.encoder(&start.dir)?;
    print.value(&start.tower)?;
    Ok(Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: XrTransformerConfig::METHOD.to_owned(),
        config: serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?,
        seed,
        data: print.finish(),
    })
}

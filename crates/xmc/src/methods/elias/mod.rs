//! ELIAS (Gupta, Chen, Yu, Hsieh, Dhillon: "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
//! NeurIPS 2022, arXiv 2210.08410).
//!
//! A text goes to a few clusters, a cluster has weighted edges to labels, and only the labels with the best paths are
//! scored. Encoder, clusters, edges and label classifiers learn together.

mod adjacency;
mod batch;
mod beam;
mod calibrate;
mod cluster_head;
mod clusters;
mod config;
mod earlier;
mod edge_slopes;
mod edges;
mod estimate;
mod exhaustive;
mod first;
mod graph;
mod head;
mod index;
mod inputs;
mod keys;
mod learner;
mod merge;
mod model;
mod part;
mod path_loss;
mod paths;
mod pipeline;
mod presets;
mod ranker;
mod search;
mod stages;
mod training;
mod write;

use std::path::{Path, PathBuf};

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_linear::Features;
use xmc_nn::tokens::Tokens;

pub use batch::search_all;
pub use config::{
    ClassifierConfig, Clustering, EliasConfig, Files, FirstBias, FirstEdges, Head, IndexConfig, Moments,
    Phase, RankerConfig, Stage, Stored, TrainingConfig,
};
pub use edges::Edges;
pub use estimate::{Bytes, Costs, PhaseCost, Work, costs};
pub use graph::{Graph, PAD};
pub use index::{Index, IndexOptions, Part, PartGradients, Rates, Scale, Shortlist};
pub use model::{Elias, Search, Session};
pub use presets::{PRESETS, preset};
pub use search::{LearnedIndex, Reach, Searcher};

use crate::config::{Checked, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::dexml::{ENCODER, LABEL_EMBEDDINGS};
use crate::methods::start::{self, Start};
use crate::methods::text_stages::{self, Embedding};
use crate::methods::xr_linear::VECTORIZER;
use crate::methods::{Summary, TrainOptions, measure};
use crate::model::encoder_folder::describe;
use crate::model::finish::{Finished, finish, take};
use crate::model::publish::refuse_foreign;
use crate::model::{Model, OpenOptions};
use crate::run::{Artifact, Identity, Run};
use adjacency::ADJACENCY;
use clusters::{CLUSTERS, Clusters, centroids};
use earlier::Model as Begun;
use inputs::{End, Given};
use pipeline::{Pipeline, begin, fixed};
use training::{Edges as First, First as Beginning};

/// Learns from the training rows of `data` and writes a model folder, or clusters or edges alone if the stages end there.
pub fn train(
    data: &Dataset,
    config: &Checked<EliasConfig>,
    options: &TrainOptions,
    events: &dyn Events,
) -> Result<Summary> {
    let end = End::of(config);
    match end {
        End::Clusters => write::refuse_foreign(&options.out, CLUSTERS)?,
        End::Adjacency => write::refuse_foreign(&options.out, ADJACENCY)?,
        End::Model => refuse_foreign(&options.out)?,
    }
    let model = Begun::find(config, &data.labels)?;
    let stored = inputs::check(config, model.as_ref())?;
    if let Some(model) = model.as_ref().filter(|model| !model.same_labels) {
        let dir = model.dir.display();
        events.message(&format!("{dir}: a model of elias with other labels: only its encoder goes on"));
    }
    let model = model.filter(Begun::goes_on);
    let start = inputs::start(config)?;
    let texts = start::texts(data, "ELIAS")?;
    let validation = inputs::validation(config, data.train.rows(), options.seed)?;
    let learned = inputs::learned(&data.train.y, &validation);
    let given = Given::read(config, data.labels.len())?;
    given.check(config, model.as_ref(), data.labels.len())?;
    costs(data, config)?.check(options.max_memory)?;
    let identity = identity(data, config, &given, (start.as_ref(), model.as_ref()), options.seed)?;
    let mut run = Run::start(&options.out, &resumable(&identity), options.resume, events)?;
    if let Some(message) = inputs::seen_before(config, data.train.rows(), options.seed)? {
        events.message(&message);
    }

    // Labels into clusters by the words of their texts.
    let (vectorizer, words) = inputs::words(&mut run, data, config)?;
    let mut words = Features::from(words);
    let forget = |words: &mut Features, later: &[Stage]| {
        if !later.iter().any(|&stage| config.does(stage)) {
            *words = Features::from(Csr::empty(data.train.rows(), 0));
        }
    };
    let mut clusters = given.clusters;
    if config.does(Stage::Cluster) {
        clusters = Some(run.stage("cluster", || {
            let z = centroids(&words, None, &learned)?;
            Clusters::grow(&z, &config.cluster, options.seed)
        })?);
    }
    forget(&mut words, &[Stage::Recluster, Stage::Ranker]);
    let Some(start) = start else { return write::matrix(run, "cluster", CLUSTERS, &options.out) };

    // Texts to token ids, once; and to embeddings, if the encoder does not learn.
    drop(run.stage("tokens", || text_stages::tokens(&start, texts, config.max_len))?);
    let tokens = <Tokens as Artifact>::load(&run.stage_dir("tokens"))?;
    let (validation, learned, start) = (validation.as_slice(), learned.as_ref(), &start);
    let mut work =
        Pipeline { data, config, options, events, start, tokens: &tokens, frozen: None, validation, learned };
    let frozen = (!config.train_encoder)
        .then(|| run.stage("embedding", || Embedding::of(&tokens, &work.open(None)?, events)))
        .transpose()?;
    work.frozen = frozen.as_ref().map(|embedding| &embedding.0);

    // What a model of ELIAS that training begins with has, as if a phase had left it.
    let begun = model.as_ref().map(|model| begin(&mut run, model)).transpose()?;
    if let Some(begun) = &begun {
        clusters = Some(work.clusters_of(begun)?);
    }
    let mut last = begun.clone();

    // A short stage 1; then labels into clusters again, by words and embeddings.
    if config.does(Stage::Warmup) {
        let first = Beginning { edges: clusters.as_ref().map(fixed), earlier: last.as_deref() };
        last = Some(work.fit(&mut run, Stage::Warmup, first, last.as_deref())?);
    }
    let mut kept = last.clone();
    if config.does(Stage::Recluster) {
        clusters = Some(run.stage("recluster", || work.recluster(&words, last.as_deref()))?);
        kept = None;
        forget(&mut words, &[Stage::Ranker]);
    }
    if end == End::Clusters {
        return write::matrix(run, "recluster", CLUSTERS, &options.out);
    }

    // Stage 1: encoder, clusters and classifiers along these clusters.
    if config.does(Stage::Stage1) {
        let first = Beginning { edges: clusters.as_ref().map(fixed), earlier: kept.as_deref() };
        last = Some(work.fit(&mut run, Stage::Stage1, first, last.as_deref())?);
    }

    // Which edges a cluster may have, then stage 2: everything learns, edges too.
    let mut edges = given.adjacency;
    if config.does(Stage::Adjacency) {
        edges = Some(run.stage("adjacency", || work.adjacency(last.as_deref()))?);
    }
    if end == End::Adjacency {
        return write::matrix(run, "adjacency", ADJACENCY, &options.out);
    }
    if config.does(Stage::Stage2) {
        if let Some(message) =
            edges.as_ref().and_then(|edges| inputs::unreachable(edges, config.files.adjacency.as_deref()))
        {
            events.message(&message);
        }
        let edges = match &edges {
            Some(edges) => Some(First::Learned(&edges.0)),
            None => begun.as_deref().filter(|_| stored).map(First::Stored),
        };
        let first = Beginning { edges, earlier: last.as_deref() };
        last = Some(work.fit(&mut run, Stage::Stage2, first, last.as_deref())?);
    }
    let last = last.ok_or_else(|| Error::Mismatch("no stage trained a model".to_owned()))?;
    publish(run, &work, &last, (&words, vectorizer.is_some()), &identity)
}

/// The parts as one model, with a ranker on top if there is to be one: measured, then written.
fn publish(
    mut run: Run,
    work: &Pipeline<'_>,
    last: &Path,
    (words, vectorizer): (&Features, bool),
    identity: &Identity,
) -> Result<Summary> {
    let Pipeline { data, config, options, start, .. } = *work;
    let _ = run.stage("parts", || Ok(write::Parts { of: Some((last, config)) }))?;
    let encoder = work.encoder(Some(last));
    let mut parts = vec![(run.stage_dir("parts").join(LABEL_EMBEDDINGS), LABEL_EMBEDDINGS)];
    if config.head == Head::Index {
        parts.extend([model::CLUSTERS, model::EDGES].map(|name| (run.stage_dir("parts").join(name), name)));
    }
    let fill = |parts: &[(PathBuf, &str)], dir: &Path| -> Result<()> {
        take(&encoder, &dir.join(ENCODER))?;
        describe(&dir.join(ENCODER), start.tower, config.max_len)?;
        parts.iter().try_for_each(|(from, name)| take(from, &dir.join(name)))
    };
    let open = |dir: &Path| {
        let options =
            OpenOptions { device: options.device, precision: config.precision.resolve(), decoder: None };
        Elias::open(dir, config, &options)
    };
    let whole = |run: &Run, parts: &[(PathBuf, &str)]| -> Result<Elias> {
        let dir = run.scratch("whole")?;
        fill(parts, &dir)?;
        open(&dir)
    };
    let mut method = whole(&run, &parts)?;
    if config.does(Stage::Ranker) {
        drop(run.stage("ranker", || work.ranker(&method, words, last))?);
        let names =
            [ranker::RANKER, ranker::CALIBRATION].into_iter().take(1 + usize::from(config.ranker.calibrate));
        parts.extend(names.map(|name| (run.stage_dir("ranker").join(name), name)));
        if vectorizer {
            parts.push((run.stage_dir(VECTORIZER).join(VECTORIZER), VECTORIZER));
        }
        method = whole(&run, &parts)?;
    }
    let features = method.encoder().dim();
    let model = Model::assemble(&options.out, data.labels.clone(), method.into());
    let metrics = measure(&model, data, options)?;
    let finished = Finished { data, identity, features, metrics: metrics.as_ref(), out: &options.out };
    let manifest = finish(&run, &finished, |dir| fill(&parts, dir))?;
    Ok(Summary { stages: run.succeed()?, model_bytes: manifest.bytes(), metrics, alone: None })
}

/// What must not change between the two halves of an interrupted run: what the encoder holds but not where it lies,
/// and not how often the run is saved.
fn resumable(identity: &Identity) -> Identity {
    let mut identity = identity.clone();
    if let Some(config) = identity.config.as_object_mut() {
        config.retain(|key, _| key != "encoder" && key != "files");
        if let Some(training) = config.get_mut("training").and_then(|training| training.as_object_mut()) {
            training.retain(|key, _| key != "checkpoint_minutes");
        }
    }
    identity
}

/// What the model is made from.
fn identity(
    data: &Dataset,
    config: &EliasConfig,
    given: &Given,
    (start, model): (Option<&Start>, Option<&Begun<'_>>),
    seed: u64,
) -> Result<Identity> {
    let mut print = Fingerprint::of(data);
    given.mark(&mut print);
    if let Some(start) = start {
        print.encoder(&start.dir)?;
        print.value(&start.tower)?;
    }
    if let Some(model) = model {
        model.mark(&mut print)?;
    }
    Ok(Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: EliasConfig::METHOD.to_owned(),
        config: serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?,
        seed,
        data: print.finish(),
    })
}

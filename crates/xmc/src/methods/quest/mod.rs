//! QUEST (Zhou, Dong, Huang, Liu, Zhou, Xu: "QUEST: Efficient Extreme Multi-Label Text Classification with LLMs on
//! Commodity Hardware", Findings of EMNLP 2024).
//!
//! A frozen language model of few bits reads texts and label names behind a prompt: a few vectors, all that is learned.
//! A label's score is the cosine of both embeddings. The prompt learns from a sample of the labels that is chosen so that
//! labels that are alike do not crowd it; at the end every label is embedded, seen in training or not.
//!
//! [`train`] is the whole method, from top to bottom; `training` is its loop over epochs and steps.

mod base;
mod config;
mod estimate;
mod keys;
mod learner;
mod loss;
mod model;
mod presets;
mod prompt;
mod sampled;
pub(crate) mod template;
mod trained;
mod training;

use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_nn::Tokens;
use xmc_nn::decoder::{Decoder, Prompted, Source};

pub use base::Base;
pub use config::{Bits, DecoderPooling, PromptInit, QuestConfig, ScheduleBy};
pub use estimate::{Costs, Work, costs};
pub use model::{Quest, Session};
pub use presets::{PRESETS, preset};
pub use sampled::Sampled;

use crate::config::{Checked, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::methods::dexml::{TokenSets, check_names};
use crate::methods::split::Split;
use crate::methods::start::texts;
use crate::methods::{Summary, TrainOptions, measure};
use crate::model::finish::{Finished, finish, take};
use crate::model::publish::refuse_foreign;
use crate::model::{Model, OpenOptions};
use crate::run::{Artifact, Identity, Run, create, remove};
use crate::sampling::label_features;
use sampled::{SAMPLE, Sampling};
use template::{LABEL, TEXT, begin_all, framed};
use trained::{LABEL_EMBEDDINGS, Vectors};

/// Learns from the training rows of `data` and writes a model folder.
pub fn train(
    data: &Dataset,
    config: &Checked<QuestConfig>,
    options: &TrainOptions,
    events: &dyn Events,
) -> Result<Summary> {
    refuse_foreign(&options.out)?;
    let (path, texts) = (decoder_path(config)?, texts(data, QuestConfig::METHOD)?);
    check_names(&data.labels, "", events)?;
    let source = Source::open(path)?;
    estimate::check(data, source.config(), path, config, options.max_memory)?;
    let base = Base::of(&source, path)?;
    let identity = identity(data, config, &base, options.seed)?;
    let mut run = Run::start(&options.out, &resumable(&identity), options.resume, events)?;

    // Rows that train, and rows that find the best epoch.
    let apart = (config.validation, config.validation_rows);
    let split = Split::new(&data.train.y, texts, apart, options.seed)?;
    if split.unlabelled > 0 {
        events.message(&format!("{} training rows have no label and take no part", split.unlabelled));
    }

    // The labels that are enough to learn from.
    let positions = positions(&source, config)?;
    let features = label_features(&config.sampling, data.labels.names(), Some(&source))?;
    let sampling = Sampling::new(&data.train.y, &split.learn, features, config, options.seed)?;

    // Texts and label names to token ids, once; kept in files and mapped.
    drop(run.stage("tokens", || tokens(&source, data, texts, config, positions))?);
    let tokens = TokenSets::load(&run.stage_dir("tokens"))?;

    // The prompt learns, checkpoint by checkpoint.
    let decoder = base::read(&source, config.quantization, config.precision.resolve())?;
    let prompted = |rows: &[f32]| Prompted::new(decoder.clone(), prompt::around(config), rows, options.seed);
    let unfinished = run.ongoing("train")?;
    let task =
        training::Task { data, config, tokens: &tokens, split: &split, sampling: &sampling, options, events };
    drop(run.stage("train", || {
        let first = prompt::first(&decoder, &source, config, options.seed)?;
        training::fit(&task, prompted(&first)?, &base.fingerprint, &unfinished)
    })?);
    let epochs = prompt::epochs(&run.stage_dir("train"))?;
    run.stage("sample", || sampling.sampled(epochs))?;

    // Every label becomes a vector, with which searches compare texts.
    let (trained, embedding) = (run.stage_dir("train"), run.ongoing("labels")?);
    drop(run.stage("labels", || {
        let learned = learned(&trained, config, &decoder)?;
        Vectors::of(&learned, &tokens, config, [&unfinished.join(training::READY), &embedding], events)
    })?);
    remove(&unfinished)?;
    remove(&embedding)?;

    // The parts as one model: put together, measured, published.
    let whole = run.scratch("whole")?;
    assemble(&run, &whole, config)?;
    base.save(&whole)?;
    drop(decoder);
    let how = OpenOptions {
        device: options.device,
        precision: config.precision.resolve(),
        decoder: Some(path.to_owned()),
    };
    let method = Quest::open(&whole, config, &how)?;
    let features = method.label_embeddings().dim();
    let model = Model::assemble(&options.out, data.labels.clone(), method.into());
    let metrics = measure(&model, data, options)?;
    let finished =
        Finished { data, identity: &identity, features, metrics: metrics.as_ref(), out: &options.out };
    let manifest = finish(&run, &finished, |dir| {
        for entry in std::fs::read_dir(&whole).map_err(Error::io(&whole))? {
            let entry = entry.map_err(Error::io(&whole))?;
            take(&entry.path(), &dir.join(entry.file_name()))?;
        }
        Ok(())
    })?;
    Ok(Summary { stages: run.succeed()?, model_bytes: manifest.bytes(), metrics, alone: None })
}

/// Brings what the stages of `run` made into the folder `whole`.
fn assemble(run: &Run<'_>, whole: &Path, config: &QuestConfig) -> Result<()> {
    let trained = run.stage_dir("train");
    for name in [prompt::PROMPT, training::CURVES] {
        take(&trained.join(name), &whole.join(name))?;
    }
    if config.lora_rank > 0 {
        take(&trained.join(prompt::LORA), &whole.join(prompt::LORA))?;
    }
    take(&run.stage_dir("sample").join(SAMPLE), &whole.join(SAMPLE))?;
    take(&run.stage_dir("labels").join(LABEL_EMBEDDINGS), &whole.join(LABEL_EMBEDDINGS))?;
    take(&run.stage_dir("tokens").join(model::TOKENIZER), &whole.join(model::TOKENIZER))
}

/// The decoder with what the training in the folder `trained` learned.
fn learned(trained: &Path, config: &QuestConfig, decoder: &std::sync::Arc<Decoder>) -> Result<Prompted> {
    let params = prompt::parameters(trained, config)?;
    let rows = params.get(..config.prompt_tokens * decoder.config().hidden).unwrap_or_default();
    let mut prompted = Prompted::new(decoder.clone(), prompt::around(config), rows, 0)?;
    prompted.set_params(&params)?;
    Ok(prompted)
}

/// Where the decoder is.
fn decoder_path(config: &QuestConfig) -> Result<&Path> {
    let expected = "a decoder: a .gguf file, or a folder with config.json and safetensors";
    let unset = || Error::from(xmc_data::Error::config("decoder", "nothing", expected));
    config.decoder.as_deref().ok_or_else(unset)
}

/// Positions that the prompt, and an end-of-text token if vectors are read there, leave to a text.
fn positions(source: &Source, config: &QuestConfig) -> Result<usize> {
    let all = source.config().positions;
    let own = config.prompt_tokens + usize::from(config.pooling == DecoderPooling::Eos);
    let left = all.saturating_sub(own);
    if left > 0 {
        return Ok(left);
    }
    let expected = format!("fewer than the {all} positions of the decoder, so that texts have some too");
    Err(xmc_data::Error::config("prompt_tokens", config.prompt_tokens, expected).into())
}

/// Token ids, with the tokenizer that made them.
struct Tokenized {
    sets: TokenSets,
    tokenizer: Option<xmc_nn::hf::Tokenizer>,
}

impl Artifact for Tokenized {
    fn save(&self, dir: &Path) -> Result<()> {
        self.sets.save(dir)?;
        let Some(tokenizer) = &self.tokenizer else { return Ok(()) };
        let folder = dir.join(model::TOKENIZER);
        create(&folder)?;
        Ok(tokenizer.save(&folder)?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Tokenized { sets: TokenSets::load(dir)?, tokenizer: None })
    }
}

/// Token ids of texts and label names in their frames.
fn tokens(
    source: &Source,
    data: &Dataset,
    texts: &xmc_data::Strings,
    config: &QuestConfig,
    positions: usize,
) -> Result<Tokenized> {
    let (text, label) = (config.text_template.as_str(), config.label_template.as_str());
    let tokenizer = framed(source.tokenizer(config.max_len.min(positions))?, text, TEXT)?;
    let rows: Tokens = tokenizer.encode(&begin_all(text, TEXT, texts))?;
    let of_labels = framed(source.tokenizer(config.label_max_len.min(positions))?, label, LABEL)?;
    let labels = of_labels.encode(&begin_all(label, LABEL, data.labels.names()))?;
    Ok(Tokenized { sets: TokenSets { rows, labels }, tokenizer: Some(tokenizer) })
}

/// What must not change between the two halves of an interrupted run: what the decoder holds but not where it lies, and
/// not how often the run is saved.
fn resumable(identity: &Identity) -> Identity {
    let mut identity = identity.clone();
    if let Some(config) = identity.config.as_object_mut() {
        config.retain(|key, _| key != "decoder" && key != "checkpoint_minutes");
    }
    identity
}

/// What the model is made from.
fn identity(data: &Dataset, config: &QuestConfig, base: &Base, seed: u64) -> Result<Identity> {
    let mut print = Fingerprint::of(data);
    print.pairs(&data.train.filter);
    print.value(&base.fingerprint)?;
    for file in [&config.prompt_file, &config.sampling.features_file].into_iter().flatten() {
        print.file(file)?;
    }
    Ok(Identity {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: QuestConfig::METHOD.to_owned(),
        config: serde_json::to_value(config).map_err(|e| Error::Mismatch(e.to_string()))?,
        seed,
        data: print.finish(),
    })
}

//! The methods: each reads like its paper.
//!
//! What all of them share stands here: how a training is asked for, what it reports, and [`Method`], the trained ones.

mod caching;
pub(crate) mod checkpoints;
mod classifier;
pub(crate) mod curves;
pub mod dexml;
pub mod elias;
pub mod quest;
mod soft;
pub(crate) mod speed;
mod split;
mod start;
mod text_stages;
mod validation;
pub mod xr_linear;
pub mod xr_transformer;

pub use soft::SoftValue;

use std::path::PathBuf;

use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;
use xmc_nn::Device;

use crate::error::{Error, Result};
use crate::evaluation::{EvaluateOptions, evaluate};
use crate::events::StageReport;
use crate::methods::dexml::Dexml;
use crate::methods::elias::Elias;
use crate::methods::quest::Quest;
use crate::methods::xr_linear::XrLinear;
use crate::methods::xr_transformer::XrTransformer;
use crate::model::Model;
use crate::model::ensemble::Ensemble;

/// Cuts of the metrics that training reports.
pub(crate) const CUTS: [usize; 3] = [1, 3, 5];

/// What belongs to one training but not to its method.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Folder for the model.
    pub out: PathBuf,
    /// Seed of every random choice.
    pub seed: u64,
    /// Continue an interrupted run.
    pub resume: bool,
    /// Most memory to use, in bytes.
    pub max_memory: Option<u64>,
    /// Measure the model on the test rows, if there are any.
    pub evaluate: bool,
    /// Where an encoder computes.
    pub device: Device,
}

impl TrainOptions {
    /// A model at `out`, from the beginning, with seed 0, measured on the test rows, on this machine's processor.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        let out = out.into();
        TrainOptions { out, seed: 0, resume: false, max_memory: None, evaluate: true, device: Device::Cpu }
    }
}

/// What a training did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What every stage took.
    pub stages: Vec<StageReport>,
    /// Bytes of the model folder without its manifest.
    pub model_bytes: u64,
    /// How good it is on the test rows.
    pub metrics: Option<Report>,
    /// What it ended with if there is no model: the folder of an `encoder`, as XR-Transformer writes when told to, or the
    /// matrix of `clusters` or `edges` of ELIAS.
    pub alone: Option<&'static str>,
}

/// A trained model of any method.
pub enum Method {
    /// A tree of linear rankers.
    XrLinear(XrLinear),
    /// An encoder, and a tree of linear rankers that see its embeddings.
    XrTransformer(Box<XrTransformer>),
    /// An encoder and one vector for every label.
    Dexml(Box<Dexml>),
    /// An encoder, an index and a classifier for every label.
    Elias(Box<Elias>),
    /// A frozen decoder behind a prompt, and one vector for every label.
    Quest(Box<Quest>),
    /// Several models of any of these.
    Ensemble(Ensemble),
}

impl Method {
    /// Number of labels L that it knows.
    pub fn num_labels(&self) -> usize {
        match self {
            Method::XrLinear(model) => model.num_labels(),
            Method::XrTransformer(model) => model.num_labels(),
            Method::Dexml(model) => model.num_labels(),
            Method::Elias(model) => model.num_labels(),
            Method::Quest(model) => model.num_labels(),
            Method::Ensemble(model) => model.num_labels(),
        }
    }
}

impl From<XrLinear> for Method {
    fn from(trained: XrLinear) -> Self {
        Method::XrLinear(trained)
    }
}

impl From<XrTransformer> for Method {
    fn from(trained: XrTransformer) -> Self {
        Method::XrTransformer(Box::new(trained))
    }
}

impl From<Dexml> for Method {
    fn from(trained: Dexml) -> Self {
        Method::Dexml(Box::new(trained))
    }
}

impl From<Elias> for Method {
    fn from(trained: Elias) -> Self {
        Method::Elias(Box::new(trained))
    }
}

impl From<Quest> for Method {
    fn from(trained: Quest) -> Self {
        Method::Quest(Box::new(trained))
    }
}

impl From<Ensemble> for Method {
    fn from(ensemble: Ensemble) -> Self {
        Method::Ensemble(ensemble)
    }
}

/// The end of a training, before anything is published: how good is `model` on the test rows of `data`?
pub(crate) fn measure(model: &Model, data: &Dataset, options: &TrainOptions) -> Result<Option<Report>> {
    let Some(test) = data.test.as_ref().filter(|_| options.evaluate) else { return Ok(None) };
    let wanted = EvaluateOptions::at(&CUTS);
    evaluate(model, data, test, &wanted).map(Some).map_err(|problem| {
        // Training is done; only its test rows are at fault. The finished stages wait in the run directory.
        Error::Mismatch(format!(
            "all stages are done, but the test rows cannot be measured: {problem}; to have the model without, \
             run the same command with --resume --no-evaluation"
        ))
    })
}

//! Why did a text get a label? For models with label trees.
//!
//! A label's score comes along a path through the tree. At each node of it a linear ranker computes a margin
//!
//! ```text
//! margin = bias + sum over features j of weight_j * value_j + (embedding part)
//! ```
//!
//! and the margins of a path become its score, step by step (see [`PostProcessor`]). The contribution of a feature is
//! its term of that sum: weight times value, where the value is the tf-idf of a word in the text and the weight is what
//! the node's ranker learned. Above 0 it speaks for the node, below 0 against it. What the values of an embedding add is
//! one number, as they mean nothing one by one. Bias, embedding and all contributions sum to the margin, up to rounding.
//!
//! A model of several trees has as many paths for a label; those of its first tree are shown, the score is that of the
//! whole model.

use serde::Serialize;
use xmc_data::text::{Scratch, Vectorizer};
use xmc_data::{LabelId, LabelSet, Row};
use xmc_linear::PostProcessor;
use xmc_linear::search::{self, Query, SearchOptions, Searcher};
use xmc_linear::store::TreeModel;

use crate::error::{Error, Result};
use crate::model::{Model, PredictOptions, Predictor};

/// What to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainOptions {
    /// How to search; `top_k` labels are explained.
    pub predict: PredictOptions,
    /// Labels that stand for a node.
    pub examples: usize,
}

/// Why a text got its labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Trees of the model; the paths are those of the first.
    pub trees: usize,
    /// The best labels, best first.
    pub labels: Vec<LabelExplanation>,
}

/// Why a text got one label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelExplanation {
    /// Its name.
    pub label: String,
    /// Its number.
    pub id: u32,
    /// Its score, of all trees together.
    pub score: f32,
    /// From below the root to the label; empty if the first tree does not hold it.
    pub path: Vec<Step>,
}

/// One node of a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Level of the node: 1 below the root.
    pub level: usize,
    /// The node, from 1 to `nodes`.
    pub node: u32,
    /// Nodes of its level.
    pub nodes: usize,
    /// Labels below it.
    pub labels: usize,
    /// Some of them: the likeliest of those below it.
    pub such_as: Vec<String>,
    /// Sum of the contributions of all features.
    pub words: f32,
    /// What the embedding adds, in models with an encoder.
    pub embedding: Option<f32>,
    /// What every text gets.
    pub bias: f32,
    /// words + embedding + bias.
    pub margin: f32,
    /// How the margin becomes a score.
    pub post_processor: PostProcessor,
    /// Score of the path up to here.
    pub score: f32,
    /// Features of the text that the node's ranker knows, the largest contributions first.
    pub terms: Vec<Term>,
}

/// What one feature of the text adds to a margin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// The word or words; hashed features have no name.
    pub term: String,
    /// The column.
    pub feature: u32,
    /// Weight times value.
    pub contribution: f32,
}

/// Finds the best labels of `text`, and why they are.
///
/// Errors: a model without trees, or one that reads features instead of texts.
pub fn explain(model: &Model, text: &str, options: &ExplainOptions) -> Result<Explanation> {
    let Some(trees) = model.trees() else {
        let problem = match model.ensemble() {
            Some(_) => {
                "an ensemble has many reasons: explain one of its members, for example the folder member.0 in it"
            }
            None => "only models with label trees can be explained: those of xr-linear and xr-transformer",
        };
        return Err(Error::Mismatch(problem.to_owned()));
    };
    if !model.reads_texts() {
        let problem =
            "the model was trained on given features: it knows no words, and its labels cannot be explained";
        return Err(Error::Mismatch(problem.to_owned()));
    }
    let (best, dense) = match model.xr_transformer() {
        Some(method) => {
            let dense = method.encoder().embed_one(text)?.into_host();
            (method.predict_beside(text, &dense, options.predict)?, dense)
        }
        None => (model.session(options.predict).text(text)?.to_vec(), Vec::new()),
    };
    let mut scratch = Scratch::default();
    let sparse = match trees.vectorizer() {
        Some(vectorizer) => vectorizer.transform_one(text, &mut scratch),
        None => Row { indices: &[], values: &[] },
    };
    let Some(first) = trees.trees().first() else { return Ok(Explanation { trees: 0, labels: Vec::new() }) };
    let names = Names { labels: model.labels(), vectorizer: trees.vectorizer(), examples: options.examples };
    let mut searcher = Searcher::new(first);
    let search = SearchOptions { beam_size: options.predict.beam_size, ..SearchOptions::default() };
    let labels = best
        .into_iter()
        .map(|(id, score)| {
            let query = Query { sparse, dense: &dense };
            let found = searcher.explain(query, id, &search);
            let path = found.into_iter().flat_map(|found| found.steps);
            let path = path.map(|step| names.step(first, step)).collect();
            LabelExplanation { label: names.label(id), id, score, path }
        })
        .collect();
    Ok(Explanation { trees: trees.trees().len(), labels })
}

/// What numbers are called.
struct Names<'m> {
    labels: &'m LabelSet,
    vectorizer: Option<&'m Vectorizer>,
    examples: usize,
}

impl Names<'_> {
    fn label(&self, id: u32) -> String {
        self.labels.get(LabelId(id)).unwrap_or_default().to_owned()
    }

    fn term(&self, feature: u32) -> String {
        let name = self.vectorizer.and_then(|vectorizer| vectorizer.feature_name(feature));
        name.unwrap_or_else(|| format!("feature {feature}"))
    }

    fn step(&self, model: &TreeModel, step: search::Step) -> Step {
        let tree = model.tree();
        let examples = model.example_labels(step.level, step.node as usize, self.examples);
        let named =
            |(feature, contribution): (u32, f32)| Term { term: self.term(feature), feature, contribution };
        Step {
            level: step.level,
            node: step.node + 1,
            nodes: tree.width(step.level),
            labels: tree.leaves(step.level, step.node as usize).len(),
            such_as: examples.into_iter().map(|id| self.label(id)).collect(),
            // Not the margin without the rest, which is what rounding makes of nothing; nor -0, the sum of no terms.
            words: step.terms.iter().map(|&(_, contribution)| contribution).sum::<f32>() + 0.0,
            embedding: (model.features().1 > 0).then_some(step.dense),
            bias: step.bias,
            margin: step.margin,
            post_processor: model.levels()[step.level - 1].post_processor,
            score: step.score,
            terms: step.terms.into_iter().map(named).collect(),
        }
    }
}

//! How long will a training take, and how much memory? Said before the encoder learns.
//!
//! ```text
//! learning      encoder: parameters, gradients, both moments of AdamW: 16 bytes a parameter, and 4 as products read it;
//!               head: weights and both moments, 12 bytes a weight of the widest level that trains;
//!               a step: the input of every layer and what one layer works with, for tokens_per_batch tokens;
//!               embeddings of all rows, once more where linear rankers start the head
//! matching      where rankers choose shortlists: their embeddings twice, and what XR-Linear needs
//! ranking       encoder as it answers, embeddings of all rows, and what XR-Linear needs with them
//! time          that of a timed micro-batch for each token of each step
//! ```
//!
//! Texts, sparse features, labels and token ids count in all of them; the largest phase must fit.

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_linear::Tree;
use xmc_nn::tokens::Tokens;
use xmc_nn::tower::Tower;
use xmc_nn::transformer::Config;

use super::EMBEDDING;
use super::config::{Bootstrap, Matching, XrTransformerConfig};
use super::levels::stage;
use super::plan::{Level, plan};
use crate::encoder::fresh_pooler;
use crate::error::Result;
use crate::events::Events;
use crate::memory;
use crate::methods::TrainOptions;
use crate::methods::speed::{count, duration, seconds_per_token};
use crate::methods::start::Start;
use crate::methods::xr_linear::XrLinearConfig;
use crate::methods::xr_linear::estimate::{Part, compare, of_texts, parts};
use crate::run::Run;

/// Bytes of a parameter that learns: itself, its gradient, two moments, and as the products read it.
const LEARNING: u64 = 20;
/// The same of one that only answers.
const ANSWERING: u64 = 8;

const FEWER_ROWS: &str = "train on fewer rows, or take an encoder with smaller embeddings";
const SMALLER_ENCODER: &str = "take a smaller encoder";
/// Name of a part.
const EMBEDDINGS: &str = "the embeddings of the rows";

/// A training that has not begun.
pub(super) struct Ahead<'a> {
    data: &'a Dataset,
    config: &'a XrTransformerConfig,
    /// The part of XR-Linear.
    linear: &'a XrLinearConfig,
    start: &'a Start,
    options: &'a TrainOptions,
    events: &'a dyn Events,
    transformer: Config,
    /// Values of an embedding.
    dim: usize,
}

impl<'a> Ahead<'a> {
    /// Reads the sizes of the encoder.
    pub(super) fn new(
        data: &'a Dataset,
        (config, linear): (&'a XrTransformerConfig, &'a XrLinearConfig),
        start: &'a Start,
        options: &'a TrainOptions,
        events: &'a dyn Events,
    ) -> Result<Self> {
        let transformer = Config::open(&start.dir.join("config.json"))?;
        let dim = start.tower.projection.unwrap_or(transformer.hidden);
        Ok(Ahead { data, config, linear, start, options, events, transformer, dim })
    }

    /// Refuses, before any work, what would not fit whatever the features of the texts are.
    pub(super) fn check_texts(&self) -> Result<()> {
        compare(&of_texts(self.data, self.linear), self.options.max_memory)?;
        let rest = if self.config.do_fine_tune { self.learning(&[]) } else { self.answering() };
        compare(&[self.texts(), rest].concat(), self.options.max_memory)
    }

    /// Refuses to go on if a phase would not fit, and says what is ahead unless `run` has it behind itself; the encoder
    /// learns along `tree`, `x [n, d]` are the sparse features.
    pub(super) fn check(&self, x: &Csr, tokens: &Tokens, tree: Option<&Tree>, run: &Run) -> Result<()> {
        let tree = tree.filter(|_| self.config.do_fine_tune);
        let levels = tree.map(|tree| plan(self.config, &tree.widths(), self.options.seed)).transpose()?;
        let levels = levels.unwrap_or_default();
        let mut needed = 0;
        for phase in self.phases(x, tokens, &levels) {
            compare(&phase, self.options.max_memory)?;
            needed = needed.max(total(&phase));
        }
        let learned = levels.last().is_some_and(|level| run.has(&stage("level", level.t)));
        if learned || run.has(EMBEDDING) {
            return Ok(());
        }
        self.announce(tokens, &tree.map(Tree::widths).unwrap_or_default(), &levels, needed)
    }

    /// What each phase takes.
    fn phases(&self, x: &Csr, tokens: &Tokens, levels: &[Level]) -> Vec<Vec<Part>> {
        let ids = part("the token ids", tokens.total() * 2 + 8 * tokens.len() as u64, "lower max_len");
        let mut phases = Vec::new();
        if !levels.is_empty() {
            let features = part("the features of the rows", x.bytes(), "set vectorizer.max_features");
            phases.push([self.texts(), vec![features, ids], self.learning(levels)].concat());
        }
        let matches = levels.iter().any(|l| l.shortlist && l.matcher.ensemble != Matching::TransformerOnly);
        if matches || !self.config.only_encoder {
            let linear = [parts(self.data, x, self.dim, self.linear), vec![ids]].concat();
            if matches {
                phases.push(
                    [linear.clone(), vec![part(EMBEDDINGS, 2 * self.embeddings(), FEWER_ROWS)]].concat(),
                );
            }
            if !self.config.only_encoder {
                phases.push([linear, self.answering()].concat());
            }
        }
        phases
    }

    /// Says how long the encoder will learn at `levels` of a tree with levels of `widths` nodes, and embed.
    fn announce(&self, tokens: &Tokens, widths: &[usize], levels: &[Level], bytes: u64) -> Result<()> {
        let training = &self.config.training;
        let batch = tokens.len().min(training.batch_size);
        let rows: Vec<u32> = (0..batch as u32).collect();
        let precision = self.config.precision.resolve();
        let tower = Tower::open(&self.start.dir, self.start.tower, self.options.device, precision)?;
        if let Some(note) = fresh_pooler(&self.start.dir, &tower) {
            self.events.message(&note);
        }
        let seconds = seconds_per_token(&tower, tokens, &rows, training.tokens_per_batch)?;
        let steps: Vec<u64> =
            levels.iter().map(|level| level.steps(tokens.len(), training.batch_size)).collect();
        let of_row = tokens.total() as f64 / tokens.len().max(1) as f64;
        let of_step = of_row * batch as f64;
        // All rows are embedded after every level; forward is a third of forward and backward.
        let embedded = tokens.total() as f64 * levels.len().max(1) as f64 / 3.0;
        let learned = steps.iter().sum::<u64>() as f64 * of_step;
        let plan = match levels.len() {
            0 => "the encoder does not learn".to_owned(),
            t => format!("levels of {widths:?} nodes, of which the first {t} train the encoder"),
        };
        self.events.message(&format!(
            "{} rows, {} labels, {} parameters; {plan}",
            tokens.len(),
            self.data.labels.len(),
            count(tower.layout().len() as f64),
        ));
        let work = match levels.len() {
            0 => format!("{} tokens to embed", count(tokens.total() as f64)),
            _ => format!("{steps:?} steps of {batch} rows and {of_step:.0} tokens"),
        };
        let (time, memory) = (duration((learned + embedded) * seconds), memory::show(bytes));
        self.events.message(&format!("{work}: about {time}, {memory} of memory"));
        Ok(())
    }

    /// The texts, and none of their features.
    fn texts(&self) -> Vec<Part> {
        of_texts(self.data, &XrLinearConfig { vectorizer: Vec::new(), ..self.linear.clone() })
    }

    /// What learning at `levels` takes beside texts and features.
    fn learning(&self, levels: &[Level]) -> Vec<Part> {
        let training = &self.config.training;
        let linear = matches!(training.bootstrap, Bootstrap::Linear | Bootstrap::WeightedLinear);
        let embeddings = self.embeddings() * if linear { 2 } else { 1 };
        let widest = levels.iter().map(|level| level.nodes).max().unwrap_or(0);
        let head = 3 * 4 * (widest * (self.dim + 1)) as u64;
        // As the data has them, and the positives of the root and of every level.
        let labels = (2 + levels.len() as u64) * self.data.train.y.bytes() + self.data.labels.names().bytes();
        vec![
            part("the encoder and its optimiser", self.parameters() * LEARNING, SMALLER_ENCODER),
            part("the activations of a step", self.activations(), "lower training.tokens_per_batch"),
            part("the head of the widest level", head, "lower max_match_clusters"),
            part(EMBEDDINGS, embeddings, FEWER_ROWS),
            part("the labels", labels, "train on fewer rows or labels"),
        ]
    }

    /// An encoder that only embeds, and what it made.
    fn answering(&self) -> Vec<Part> {
        vec![
            part("the encoder", self.parameters() * ANSWERING, SMALLER_ENCODER),
            part(EMBEDDINGS, self.embeddings(), FEWER_ROWS),
        ]
    }

    /// Bytes of the embeddings of the training rows.
    fn embeddings(&self) -> u64 {
        4 * (self.data.train.rows() * self.dim) as u64
    }

    /// Parameters of the encoder; what is small beside the others is left out.
    fn parameters(&self) -> u64 {
        let Config { vocab, positions, hidden, layers, intermediate, .. } = self.transformer;
        let layer = 4 * hidden * hidden + 2 * hidden * intermediate;
        ((vocab + positions) * hidden + layers * layer) as u64
    }

    /// Bytes of what passes through the encoder at a time.
    fn activations(&self) -> u64 {
        let Config { hidden, layers, intermediate, .. } = self.transformer;
        let of_token = (layers + 7) * hidden + 2 * intermediate;
        let training = &self.config.training;
        let tokens = training.tokens_per_batch.min(training.batch_size.saturating_mul(self.config.max_len));
        4 * tokens.saturating_mul(of_token) as u64
    }
}

fn part(name: &'static str, bytes: u64, advice: &'static str) -> Part {
    Part { name, bytes, advice }
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.bytes).fold(0, u64::saturating_add)
}

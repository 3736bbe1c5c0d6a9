//! What will a training cost? Bytes of memory, and operations and bytes moved of a step, before any work.
//!
//! ```text
//! n rows, L labels, C clusters, E edges, d embedding, B rows of a step, b beam, K shortlist
//! memory       encoder: 4 bytes a parameter and 4 as products read it; if it learns, a gradient and two moments: 12 more;
//!              classifiers: weights and moments of L (d + 1) as `classifier` stores them, 0 in memory if they are mapped;
//!              clusters: 16 C (d + 1); edges: 24 E, as label, value, two moments, order and step; averages: 4 for each
//! a step       encoder: 6 operations for each weight of the layers and token, 2 forward and 4 backward;
//!              clusters: 6 B C d; classifiers: 2 B K d each for margins, dx and dw; AdamW reads and writes what it moves
//! touched      L (1 - (1 - K/L)^B) labels of a step, C (1 - (1 - (b + 5)/C)^B) clusters: as if rows drew at random,
//!              so that true numbers are lower
//! ```
//!
//! Tokens of a text are guessed from its bytes. The largest training of the stages counts.

use serde::Serialize;
use xmc_data::dataset::Dataset;
use xmc_nn::transformer::Config;

use super::config::{EliasConfig, Head, Moments, Phase, Stage, Stored};
use crate::config::Settings;
use crate::error::Result;
use crate::methods::start::{Start, texts};
use crate::methods::xr_linear::XrLinearConfig;
use crate::methods::xr_linear::estimate::{Part, compare, of_texts};

/// Bytes of a token of usual text.
const BYTES_PER_TOKEN: u64 = 4;

/// Clusters beyond the beam of a row, for its right labels.
const EXTRA: f64 = 5.0;

/// What a part of a training takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// What it is.
    pub name: &'static str,
    /// Of memory.
    pub bytes: u64,
}

/// What a part of a step does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Work {
    /// What it is.
    pub name: &'static str,
    /// Multiplications and additions.
    pub operations: f64,
    /// Bytes that come from memory or go there.
    pub bytes: f64,
}

/// A training of some epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseCost {
    /// Its stage.
    pub stage: Stage,
    /// Steps.
    pub steps: u64,
    /// Operations of all of them.
    pub operations: f64,
}

/// What a training costs.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// Rows n, labels L, clusters C and edges E at most.
    pub rows: usize,
    /// Labels L.
    pub labels: usize,
    /// Clusters C; 0 for a head without an index.
    pub clusters: usize,
    /// Edges E at most.
    pub edges: usize,
    /// Parameters of the encoder.
    pub parameters: u64,
    /// Tokens of a step, guessed.
    pub tokens: u64,
    /// Parts of the memory.
    pub memory: Vec<Bytes>,
    /// Bytes of a file beside the model, if classifiers are mapped.
    pub mapped: u64,
    /// Parts of a step.
    pub step: Vec<Work>,
    /// The trainings, in their order.
    pub phases: Vec<PhaseCost>,
    #[serde(skip)]
    parts: Vec<Part>,
}

impl Costs {
    /// Bytes of memory together.
    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|part| part.bytes).fold(0, u64::saturating_add)
    }

    /// An error if that is more than allowed; it names the largest part.
    pub fn check(&self, max_memory: Option<u64>) -> Result<()> {
        compare(&self.parts, max_memory)
    }
}

/// Sizes that all formulas read.
struct Sizes {
    rows: usize,
    labels: usize,
    clusters: usize,
    edges: usize,
    dim: usize,
    batch: usize,
    transformer: Config,
}

/// What a training with these data and settings will cost; of the encoder only its configuration is read.
pub fn costs(data: &Dataset, config: &EliasConfig) -> Result<Costs> {
    let start = Start::find(config.encoder.as_deref(), config.pooling)?;
    let texts = texts(data, EliasConfig::METHOD)?;
    let transformer = Config::open(&start.dir.join("config.json"))?;
    let labels = data.labels.len();
    let clusters =
        if config.head == Head::Index { clusters(labels, config.cluster.max_leaf_size) } else { 0 };
    let of_cluster = if config.does(Stage::Stage2) { config.index.kappa.min(labels) } else { 0 };
    let sizes = Sizes {
        rows: data.train.rows(),
        labels,
        clusters,
        edges: (clusters * of_cluster).max(if clusters > 0 { labels } else { 0 }),
        dim: start.tower.projection.unwrap_or(transformer.hidden),
        batch: config.training.batch_size.min(data.train.rows().max(1)),
        transformer,
    };
    let of_text =
        (texts.bytes() / texts.len().max(1) as u64 / BYTES_PER_TOKEN + 2).min(config.max_len as u64);
    let (mut parts, mapped) = memory(&sizes, config);
    let linear = XrLinearConfig { vectorizer: config.vectorizer.clone(), ..XrLinearConfig::default() };
    parts.extend(of_texts(data, &linear));
    let step = step(&sizes, config, of_text);
    let operations: f64 = step.iter().map(|work| work.operations).sum();
    let phases = trainings(config).into_iter().map(|(stage, phase)| {
        let steps = (f64::from(phase.epochs) * (sizes.rows as f64 / sizes.batch as f64).ceil()).ceil();
        PhaseCost { stage, steps: steps as u64, operations: steps * operations }
    });
    Ok(Costs {
        rows: sizes.rows,
        labels,
        clusters,
        edges: sizes.edges,
        parameters: sizes.parameters(),
        tokens: of_text * sizes.batch as u64,
        memory: parts.iter().map(|part| Bytes { name: part.name, bytes: part.bytes }).collect(),
        mapped,
        step,
        phases: phases.collect(),
        parts,
    })
}

/// C = 2^ceil(log2(L / max_leaf_size)).
fn clusters(labels: usize, max_leaf_size: usize) -> usize {
    labels.div_ceil(max_leaf_size).next_power_of_two()
}

/// The trainings that the stages ask for.
fn trainings(config: &EliasConfig) -> Vec<(Stage, &Phase)> {
    let all =
        [(Stage::Warmup, &config.warmup), (Stage::Stage1, &config.stage1), (Stage::Stage2, &config.stage2)];
    all.into_iter().filter(|&(stage, _)| config.does(stage)).collect()
}

/// Parts of the memory, and bytes of the file of mapped classifiers.
fn memory(sizes: &Sizes, config: &EliasConfig) -> (Vec<Part>, u64) {
    let part = |name, bytes, advice| Part { name, bytes, advice };
    let (l, d, b) = (sizes.labels as u64, sizes.dim as u64, sizes.batch as u64);
    let averaged = trainings(config).iter().any(|(_, phase)| phase.swa_start > 0);
    let of_parameter = if config.train_encoder { 20 } else { 8 } + if averaged { 4 } else { 0 };
    let classifiers = if config.head == Head::Index { l * of_label(config, d) } else { 12 * l * (d + 1) };
    let (in_memory, mapped) = if config.classifier.mapped && config.head == Head::Index {
        (0, classifiers)
    } else {
        (classifiers, 0)
    };
    let of_cluster = if averaged { 20 } else { 16 };
    let pairs = b * (config.index.shortlist as u64).min(l);
    let mut parts = vec![
        part("the encoder and its optimiser", sizes.parameters() * of_parameter, "take a smaller encoder"),
        part(
            "classifiers and their optimiser",
            in_memory,
            "set classifier.weights = \"bf16\" and classifier.moments = \"row\", or classifier.mapped = true",
        ),
        part("the token ids", sizes.rows as u64 * (2 * config.max_len as u64 + 8), "lower max_len"),
    ];
    if config.train_encoder {
        parts.push(part(
            "activations of a step",
            sizes.activations(config),
            "lower training.tokens_per_batch",
        ));
    } else {
        parts.push(part("the embeddings of the rows", 4 * sizes.rows as u64 * d, "train on fewer rows"));
    }
    if averaged {
        parts.push(part(
            "averages of classifiers",
            4 * l * (d + 1),
            "set swa_start = 0 in stage1 and stage2",
        ));
    }
    if sizes.clusters > 0 {
        let c = sizes.clusters as u64;
        parts.push(part(
            "clusters and their optimiser",
            of_cluster * c * (d + 1),
            "raise cluster.max_leaf_size",
        ));
        parts.push(part("edges and their optimiser", 24 * sizes.edges as u64, "lower index.kappa"));
        parts.push(part("logits of clusters", 8 * b * c, "lower training.batch_size"));
        parts.push(part("the shortlists of a step", 24 * pairs, "lower index.shortlist"));
    }
    (parts, mapped)
}

/// Bytes of a label while it learns: see [`xmc_nn::table`].
fn of_label(config: &EliasConfig, d: u64) -> u64 {
    let of_weight = match (config.classifier.weights, config.classifier.moments) {
        (Stored::F32, Moments::Element) => 12,
        (Stored::F32, Moments::Row) => 8,
        (Stored::Bf16, Moments::Element) => 10,
        (Stored::Bf16, Moments::Row) => 4,
    };
    of_weight * d + 20
}

/// Parts of a step; `of_text` tokens each.
fn step(sizes: &Sizes, config: &EliasConfig, of_text: u64) -> Vec<Work> {
    let (l, c, d, b) = (sizes.labels as f64, sizes.clusters as f64, sizes.dim as f64, sizes.batch as f64);
    let mut step = Vec::new();
    if config.train_encoder {
        let operations = 6.0 * sizes.layers() as f64 * b * of_text as f64;
        // Parameter, gradient and two moments are read, all but the gradient written; products read weights twice.
        step.push(Work { name: "encoder", operations, bytes: 36.0 * sizes.parameters() as f64 });
    }
    if config.head != Head::Index {
        let bytes = 24.0 * l * (d + 1.0);
        step.push(Work { name: "classifiers", operations: 6.0 * b * l * d, bytes });
        return step;
    }
    step.push(Work { name: "clusters", operations: 6.0 * b * c * d, bytes: 36.0 * c * (d + 1.0) });
    let reached = touched(c, config.index.beam as f64 + EXTRA, b);
    let of_cluster = sizes.edges as f64 / c.max(1.0);
    // Read by the merge, and by AdamW, which also writes.
    let bytes = reached * of_cluster * (8.0 + 32.0);
    step.push(Work { name: "edges", operations: 10.0 * reached * of_cluster, bytes });
    let k = (config.index.shortlist as f64).min(l);
    let labels = touched(l, k, b);
    // Margins and dx read the weights once, the optimiser reads and writes everything.
    let bytes = labels * (2.0 * of_label(config, sizes.dim as u64) as f64 + 4.0 * d);
    step.push(Work { name: "classifiers", operations: 6.0 * b * k * d, bytes });
    step
}

/// How many of `all` are met if `rows` rows draw `each` of them.
fn touched(all: f64, each: f64, rows: f64) -> f64 {
    all * (1.0 - (1.0 - (each / all.max(1.0)).min(1.0)).powf(rows))
}

impl Sizes {
    /// Weights of the layers.
    fn layers(&self) -> u64 {
        let Config { hidden, layers, intermediate, .. } = self.transformer;
        (layers * (4 * hidden * hidden + 2 * hidden * intermediate)) as u64
    }

    /// Parameters of the encoder; what is small beside the others is left out.
    fn parameters(&self) -> u64 {
        let Config { vocab, positions, hidden, .. } = self.transformer;
        ((vocab + positions) * hidden) as u64 + self.layers()
    }

    /// Bytes of what passes through the encoder at a time.
    fn activations(&self, config: &EliasConfig) -> u64 {
        let Config { hidden, layers, intermediate, .. } = self.transformer;
        let of_token = (layers + 7) * hidden + 2 * intermediate;
        let tokens = config.training.tokens_per_batch.min(self.batch.saturating_mul(config.max_len));
        4 * tokens.saturating_mul(of_token) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(labels: usize) -> Sizes {
        let clusters = clusters(labels, 100);
        Sizes {
            rows: 1000,
            labels,
            clusters,
            edges: clusters * 1000,
            dim: 384,
            batch: 256,
            transformer: Config::bert(30_522, 384, 6, 12, 1536),
        }
    }

    #[test]
    fn clusters_are_those_of_the_published_data_sets() {
        for (labels, expected) in
            [(131_073, 2048), (501_070, 8192), (670_091, 8192), (2_812_281, 32_768), (7, 1)]
        {
            assert_eq!(clusters(labels, 100), expected);
        }
    }

    #[test]
    fn a_step_costs_what_it_touches_and_not_all_labels() {
        let config = EliasConfig::default();
        let cost = |labels| {
            let step = step(&sizes(labels), &config, 32);
            step.into_iter().find(|work| work.name == "classifiers").unwrap()
        };
        let (few, many) = (cost(10_000_000), cost(20_000_000));
        assert_eq!(few.operations, many.operations);
        assert!(many.bytes < 1.03 * few.bytes, "{} {}", few.bytes, many.bytes);
        // 256 rows with 2000 labels each meet 512,000 at most.
        assert!(few.bytes < 512_000.0 * f64::from(2 * (12 * 384 + 20) + 4 * 384));
        assert!((touched(100.0, 10.0, 1.0) - 10.0).abs() < 1e-9 && touched(5.0, 10.0, 3.0) == 5.0);
    }

    #[test]
    fn smaller_numbers_and_a_file_take_less_memory() {
        let classifiers = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let config = crate::config::load::<EliasConfig>(None, &sets).unwrap();
            let (parts, mapped) = memory(&sizes(1_000_000), &config);
            let part = parts.into_iter().find(|part| part.name.starts_with("classifiers")).unwrap();
            (part.bytes, mapped)
        };
        assert_eq!(classifiers(&[]), (1_000_000 * (12 * 384 + 20), 0));
        let small = ["classifier.weights=bf16", "classifier.moments=row"];
        assert_eq!(classifiers(&small), (1_000_000 * (4 * 384 + 20), 0));
        assert_eq!(classifiers(&["classifier.mapped=true"]), (0, 1_000_000 * (12 * 384 + 20)));
    }
}

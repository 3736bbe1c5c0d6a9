//! What will a training cost? Bytes of memory, and operations and bytes moved of a step, before any work.
//!
//! ```text
//! n rows, L labels, C clusters, E edges, d embedding, B rows of a step, b beam, K shortlist
//! training     encoder, if it learns: 4 bytes a parameter, 4 as products read it, a gradient and two moments: 20;
//!              classifiers: weights and moments of L (d + 1) as `classifier` stores them, 0 in memory if they are mapped;
//!              28 L (d + 1) for one-vs-all, whose gradients are stored;
//!              clusters: 16 C (d + 1); edges: 24 E, as label, value, two moments, order and step; averages: 4 for each;
//!              60 B K for the paths, their slopes, and both once more as parts of a step are put together
//! other stages embeddings 4 n d and words, as often as a stage holds them; the encoder: 8 bytes a parameter
//! a step       encoder: 6 operations for each weight of the layers and token, 2 forward and 4 backward;
//!              clusters: 6 B C d; classifiers: 2 B K d each for margins, dx and dw; AdamW reads and writes what it moves
//! touched      L (1 - (1 - K/L)^B) labels of a step, C (1 - (1 - (b + 5)/C)^B) clusters: as if rows drew at random,
//!              so that true numbers are lower
//! ```
//!
//! Tokens and words of a text are guessed from its bytes. The stage that takes most counts. What is left out: the features
//! of labels that are grouped, and the weights of the ranker, which depend on how words overlap.

use serde::Serialize;
use xmc_data::dataset::Dataset;
use xmc_nn::transformer::Config;

use super::config::{EliasConfig, Head, Moments, Phase, Stage, Stored};
use super::{inputs, training};
use crate::config::Settings;
use crate::error::Result;
use crate::methods::start::texts;
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
    /// The stage that takes most memory.
    pub peak: &'static str,
    /// Parts of the memory in that stage.
    pub memory: Vec<Bytes>,
    /// Bytes of a file beside the model, if classifiers are mapped.
    pub mapped: u64,
    /// Parts of a step; none if nothing trains.
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
    /// Rows that train.
    training: usize,
    labels: usize,
    /// Labels of a row.
    of_row: f64,
    clusters: usize,
    edges: usize,
    dim: usize,
    batch: usize,
    /// None if no stage reads the encoder.
    transformer: Option<Config>,
    /// Bytes of the words of all rows; 0 if no stage reads them.
    words: u64,
}

/// A stage, and what it holds besides texts and token ids.
type Moment = (&'static str, Vec<Part>);

/// What a training with these data and settings will cost; of the encoder only its configuration is read.
pub fn costs(data: &Dataset, config: &EliasConfig) -> Result<Costs> {
    let start = inputs::start(config)?;
    let texts = texts(data, EliasConfig::METHOD)?;
    let transformer = start.as_ref().map(|start| Config::open(&start.dir.join("config.json"))).transpose()?;
    let projection = start.as_ref().and_then(|start| start.tower.projection);
    let vectorizer = if inputs::reads_words(config) { config.vectorizer.clone() } else { Vec::new() };
    let mut parts = of_texts(data, &XrLinearConfig { vectorizer, ..XrLinearConfig::default() });
    let words = parts.pop().map_or(0, |terms| terms.bytes);
    let (rows, labels) = (data.train.rows(), data.labels.len());
    let training = rows.saturating_sub(config.validation_rows).max(1);
    let clusters =
        if config.head == Head::Index { clusters(labels, config.cluster.max_leaf_size) } else { 0 };
    let of_cluster = if config.does(Stage::Stage2) { config.index.kappa.min(labels) } else { 0 };
    let sizes = Sizes {
        rows,
        training,
        labels,
        of_row: data.train.y.nnz() as f64 / rows.max(1) as f64,
        clusters,
        edges: (clusters * of_cluster).max(if clusters > 0 { labels } else { 0 }),
        dim: projection.or(transformer.as_ref().map(|config| config.hidden)).unwrap_or(0),
        batch: config.training.batch_size.min(training),
        transformer,
        words,
    };
    let of_text =
        (texts.bytes() / texts.len().max(1) as u64 / BYTES_PER_TOKEN + 2).min(config.max_len as u64);
    let trainings = trainings(config);
    let (learning, mapped) = memory(&sizes, config);
    let mut moments = stages(&sizes, config);
    if !trainings.is_empty() {
        moments.push(("training", learning));
    }
    let together = |(_, parts): &Moment| parts.iter().map(|part| part.bytes).fold(0, u64::saturating_add);
    let (peak, most) = moments.into_iter().max_by_key(together).unwrap_or(("tokens", Vec::new()));
    if sizes.transformer.is_some() {
        let bytes = rows as u64 * (2 * config.max_len as u64 + 8);
        parts.push(Part { name: "the token ids", bytes, advice: "lower max_len" });
    }
    parts.extend(most);
    parts.retain(|part| part.bytes > 0);
    let step = if trainings.is_empty() { Vec::new() } else { step(&sizes, config, of_text) };
    let operations: f64 = step.iter().map(|work| work.operations).sum();
    let phases = trainings.iter().map(|(stage, phase)| {
        let steps = training::steps(phase.epochs, sizes.training.div_ceil(config.training.batch_size));
        PhaseCost { stage: *stage, steps, operations: steps as f64 * operations }
    });
    Ok(Costs {
        rows,
        labels,
        clusters,
        edges: sizes.edges,
        parameters: sizes.parameters(),
        tokens: of_text * sizes.batch as u64,
        peak,
        memory: parts.iter().map(|part| Bytes { name: part.name, bytes: part.bytes }).collect(),
        mapped: if trainings.is_empty() { 0 } else { mapped },
        step,
        phases: phases.collect(),
        parts,
    })
}

/// C = 2^ceil(log2(L / max_leaf_size)).
pub(super) fn clusters(labels: usize, max_leaf_size: usize) -> usize {
    labels.div_ceil(max_leaf_size).next_power_of_two()
}

/// The trainings that the stages ask for.
fn trainings(config: &EliasConfig) -> Vec<(Stage, &Phase)> {
    let all =
        [(Stage::Warmup, &config.warmup), (Stage::Stage1, &config.stage1), (Stage::Stage2, &config.stage2)];
    all.into_iter().filter(|&(stage, _)| config.does(stage)).collect()
}

/// What a training holds, and bytes of the file of mapped classifiers.
fn memory(sizes: &Sizes, config: &EliasConfig) -> (Vec<Part>, u64) {
    let part = |name, bytes, advice| Part { name, bytes, advice };
    let (l, d, b) = (sizes.labels as u64, sizes.dim as u64, sizes.batch as u64);
    let averaged = trainings(config).iter().any(|(_, phase)| phase.swa_start > 0);
    let average = if averaged { 4 } else { 0 };
    let classifiers = match config.head {
        Head::Index => l * of_label(config, d),
        Head::OneVsAll => 28 * l * (d + 1),
        // Weights and moments, a copy as validation reads them, and gradients of the labels of a step.
        Head::Batch => 16 * (l + l.min((b as f64 * sizes.of_row) as u64)) * (d + 1),
    };
    let (in_memory, mapped) = if config.classifier.mapped && config.head == Head::Index {
        (0, classifiers)
    } else {
        (classifiers, 0)
    };
    let advice = match config.head {
        Head::Index => {
            "set classifier.weights = \"bf16\" and classifier.moments = \"row\", or classifier.mapped = true"
        }
        _ => "set head = \"index\"",
    };
    let mut parts = vec![part("classifiers and their optimiser", in_memory, advice)];
    if config.train_encoder {
        let bytes = sizes.parameters() * (20 + average);
        parts.push(part("the encoder and its optimiser", bytes, "take a smaller encoder"));
        let bytes = sizes.activations(config);
        parts.push(part("activations of a step", bytes, "lower training.tokens_per_batch"));
    } else {
        parts.push(sizes.embeddings(1));
    }
    parts.push(part("averages of classifiers", average * l * (d + 1), "set swa_start = 0 in all trainings"));
    // Those that stand after any training.
    let later = [Stage::Recluster, Stage::Ranker].iter().any(|&stage| config.does(stage));
    parts.push(sizes.words(u64::from(later)));
    if sizes.clusters > 0 {
        let (c, pairs) = (sizes.clusters as u64, b * (config.index.shortlist as u64).min(l));
        let bytes = (16 + average) * c * (d + 1);
        parts.push(part("clusters and their optimiser", bytes, "raise cluster.max_leaf_size"));
        parts.push(part("edges and their optimiser", 24 * sizes.edges as u64, "lower index.kappa"));
        parts.push(part("logits of clusters", 8 * b * c, "lower training.batch_size"));
        parts.push(part("the shortlists of a step", 60 * pairs, "lower index.shortlist"));
    }
    (parts, mapped)
}

/// What the stages hold that are no training.
fn stages(sizes: &Sizes, config: &EliasConfig) -> Vec<Moment> {
    let part = |name, bytes, advice| Part { name, bytes, advice };
    let (n, l, d) = (sizes.rows as u64, sizes.labels as u64, sizes.dim as u64);
    let frozen = u64::from(!config.train_encoder);
    let later = |stages: &[Stage]| u64::from(stages.iter().any(|&stage| config.does(stage)));
    let encoder = || part("the encoder", 8 * sizes.parameters(), "take a smaller encoder");
    let mut moments = Vec::new();
    if config.does(Stage::Cluster) {
        moments.push(("cluster", vec![sizes.words(1)]));
    }
    if frozen > 0 && sizes.transformer.is_some() {
        let words = sizes.words(later(&[Stage::Recluster, Stage::Ranker]));
        moments.push(("embedding", vec![encoder(), sizes.embeddings(1), words]));
    }
    if config.does(Stage::Recluster) {
        // As they are made, and a copy for the groups.
        let labels = part("the embeddings of the labels", 8 * l * d, "leave recluster out of stages");
        moments.push(("recluster", vec![encoder(), sizes.embeddings(1 + frozen), sizes.words(1), labels]));
    }
    if config.does(Stage::Adjacency) {
        let visits = part("the clusters of the rows", 16 * n * config.index.beam as u64, "lower index.beam");
        let words = sizes.words(later(&[Stage::Ranker]));
        moments.push(("adjacency", vec![encoder(), sizes.embeddings(1), visits, words]));
    }
    if config.does(Stage::Ranker) {
        // Rows that train stand apart from those that do not.
        let apart = u64::from(config.validation_rows > 0);
        let found = (16 + 8 * apart) * n * (config.ranker.top_k as u64).min(l);
        let found = part("the labels found for the rows", found, "lower ranker.top_k");
        let embeddings = sizes.embeddings(1 + frozen + apart);
        moments.push(("ranker", vec![encoder(), embeddings, sizes.words(1 + apart), found]));
    }
    moments
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
    /// Embeddings of all rows, so many times.
    fn embeddings(&self, times: u64) -> Part {
        let bytes = times * 4 * (self.rows * self.dim) as u64;
        Part { name: "the embeddings of the rows", bytes, advice: "train on fewer rows" }
    }

    /// Words of all rows, so many times.
    fn words(&self, times: u64) -> Part {
        let advice = "use a shorter vectorizer.ngram_range";
        Part { name: "the words of the rows", bytes: times * self.words, advice }
    }

    /// Weights of the layers.
    fn layers(&self) -> u64 {
        self.transformer.as_ref().map_or(0, |config| {
            let Config { hidden, layers, intermediate, .. } = *config;
            (layers * (4 * hidden * hidden + 2 * hidden * intermediate)) as u64
        })
    }

    /// Parameters of the encoder; what is small beside the others is left out.
    fn parameters(&self) -> u64 {
        let tables = |config: &Config| ((config.vocab + config.positions) * config.hidden) as u64;
        self.transformer.as_ref().map_or(0, tables) + self.layers()
    }

    /// Bytes of what passes through the encoder at a time.
    fn activations(&self, config: &EliasConfig) -> u64 {
        let Some(Config { hidden, layers, intermediate, .. }) = self.transformer else { return 0 };
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
            training: 1000,
            labels,
            of_row: 5.0,
            clusters,
            edges: clusters * 1000,
            dim: 384,
            batch: 256,
            transformer: Some(Config::bert(30_522, 384, 6, 12, 1536)),
            words: 800,
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

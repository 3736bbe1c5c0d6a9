//! Settings of ELIAS. Defaults are those of the original program where it has them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::text::VectorizerConfig;
use xmc_data::{Error, Result};
use xmc_nn::optim::Schedule;

use super::keys;
use crate::config::{Group, Settings};
use crate::encoder::{PoolingKind, PrecisionChoice};
use crate::index::Dtype;
use crate::methods::xr_linear::within;

/// A part of the work, in the order in which they are done. (spec: ELIAS, 1.2)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Groups labels by the words of their texts.
    Cluster,
    /// A short stage 1, so that embeddings know something of the labels.
    Warmup,
    /// Groups labels again, by words and embeddings.
    Recluster,
    /// Trains encoder, clusters and classifiers along the groups.
    Stage1,
    /// Finds the edges from clusters to labels that stage 2 may use.
    Adjacency,
    /// Trains everything, edges too.
    Stage2,
    /// Trains a linear ranker for the labels that are found.
    Ranker,
}

/// What a text is compared with in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Labels that the index leads to.
    #[default]
    Index,
    /// All labels: the exact answer that an index tries to reach.
    OneVsAll,
    /// The labels of the rows of a step.
    Batch,
}

/// How labels are grouped. (spec: ELIAS, 2.3)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clustering {
    /// C = 2^ceil(log2(L / max_leaf_size)) groups.
    pub max_leaf_size: usize,
    /// Whether centroids are scaled to length one.
    pub spherical: bool,
    /// Rounds of 2-means for one group at most.
    pub max_iterations: usize,
}

impl Default for Clustering {
    fn default() -> Self {
        Clustering { max_leaf_size: 100, spherical: true, max_iterations: 20 }
    }
}

/// What edges of stage 2 begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstEdges {
    /// Random numbers: all edges of a cluster are about alike.
    #[default]
    Random,
    /// The adjacency: edges that more rows of a label would take are better.
    Visits,
}

/// The index: from a text to the labels that are scored. (spec: ELIAS, 2.1)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexConfig {
    /// Gain of the clusters.
    pub alpha: f32,
    /// Gain of the edges.
    pub beta: f32,
    /// Clusters that a text goes to, b.
    pub beam: usize,
    /// Labels that are scored, K.
    pub shortlist: usize,
    /// Edges of a cluster at most, in the adjacency of stage 2.
    pub kappa: usize,
    /// How much rare labels gain in the adjacency: visits are divided by frequency to this power.
    pub frequency_power: f32,
    /// What edges begin with.
    pub first_edges: FirstEdges,
}

impl Default for IndexConfig {
    fn default() -> Self {
        IndexConfig {
            alpha: 10.0,
            beta: 150.0,
            beam: 20,
            shortlist: 2000,
            kappa: 1000,
            frequency_power: 0.0,
            first_edges: FirstEdges::Random,
        }
    }
}

/// What the trainings of warm-up, stage 1 and stage 2 differ in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phase {
    /// Passes over the training rows.
    pub epochs: f32,
    /// Highest learning rate of the encoder.
    pub lr: f32,
    /// Highest learning rate of the clusters.
    pub cluster_lr: f32,
    /// Highest learning rate of classifiers and edges.
    pub label_lr: f32,
    /// Weight of the shortlist loss.
    pub loss_lambda: f32,
    /// Epoch from whose end on parameters are averaged; 0 never averages.
    pub swa_start: u32,
    /// Steps from one average to the next.
    pub swa_every: u64,
}

impl Default for Phase {
    fn default() -> Self {
        Phase {
            epochs: 50.0,
            lr: 2e-4,
            cluster_lr: 0.005,
            label_lr: 0.005,
            loss_lambda: 0.05,
            swa_start: 0,
            swa_every: 1000,
        }
    }
}

/// What these trainings share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Rows of a step.
    pub batch_size: usize,
    /// Part of the steps in which learning rates rise.
    pub warmup: f32,
    /// How they fall.
    pub schedule: Schedule,
    /// Decay of weights.
    pub weight_decay: f32,
    /// Keeps AdamW from dividing by zero.
    pub adam_epsilon: f32,
    /// Longest gradient of the encoder.
    pub clip: f32,
    /// Whether the encoder drops out as its config.json says.
    pub dropout: bool,
    /// Part of an embedding that is dropped.
    pub embedding_dropout: f32,
    /// Tokens that pass through the encoder at a time.
    pub tokens_per_batch: usize,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f32,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            batch_size: 1024,
            warmup: 0.1,
            schedule: Schedule::Linear,
            weight_decay: 0.01,
            adam_epsilon: 1e-8,
            clip: 1.0,
            dropout: true,
            embedding_dropout: 0.5,
            tokens_per_batch: 8192,
            checkpoint_minutes: 10.0,
        }
    }
}

/// How classifiers are stored while they train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// 4 bytes a number.
    #[default]
    F32,
    /// 2 bytes a number, rounded at random.
    Bf16,
}

/// What the optimiser of the classifiers remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moments {
    /// Both moments of every weight, as AdamW.
    #[default]
    Element,
    /// The first moment of every weight, and one second moment for a label.
    Row,
}

/// What classifiers begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstBias {
    /// The logarithm of how often a label is right among the rows that see it.
    #[default]
    Prior,
    /// 0.
    Zero,
}

/// The classifiers of the labels: how they begin, lie in memory and move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Number format of weights, and of first moments if `moments` is row.
    pub weights: Stored,
    /// What the optimiser remembers.
    pub moments: Moments,
    /// Whether weights and moments lie in a file of the run directory instead of memory.
    pub mapped: bool,
    /// First biases.
    pub bias: FirstBias,
    /// Whether stage 2 goes on from the classifiers of stage 1.
    pub keep: bool,
}

impl Default for ClassifierConfig {
    fn default() -> Self {
        ClassifierConfig {
            weights: Stored::F32,
            moments: Moments::Element,
            mapped: false,
            bias: FirstBias::Prior,
            keep: true,
        }
    }
}

/// The sparse re-ranker. (spec: ELIAS, 4.1)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RankerConfig {
    /// Labels of a row that it sees.
    pub top_k: usize,
    /// Cost of a row, right or wrong.
    pub cost: f32,
    /// Precision at which a label counts as solved.
    pub epsilon: f32,
    /// Passes over the rows of a label at most.
    pub max_iterations: u32,
    /// Weights smaller than this are dropped.
    pub threshold: f32,
    /// Whether a decision tree, learned on validation rows, has a say in the score.
    pub calibrate: bool,
}

impl Default for RankerConfig {
    fn default() -> Self {
        RankerConfig {
            top_k: 100,
            cost: 1.0,
            epsilon: 0.1,
            max_iterations: 100,
            threshold: 0.1,
            calibrate: false,
        }
    }
}

/// Inputs that take the place of stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Clusters of the labels `[C, L]`.
    pub clusters: Option<PathBuf>,
    /// Edges from clusters to labels `[C, L]`.
    pub adjacency: Option<PathBuf>,
}

/// Everything that can be set; mirrors the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EliasConfig {
    /// Folder of the encoder in Hugging Face layout, or a model that has one.
    pub encoder: Option<PathBuf>,
    /// How token vectors become one; as the encoder's folder says if unset.
    pub pooling: Option<PoolingKind>,
    /// Tokens of a text.
    pub max_len: usize,
    /// Precision of the products.
    pub precision: PrecisionChoice,
    /// Whether the encoder learns; else every text is embedded once.
    pub train_encoder: bool,
    /// What is done.
    pub stages: Vec<Stage>,
    /// What a text is compared with.
    pub head: Head,
    /// Rows set aside.
    pub validation_rows: usize,
    /// Precision of the label matrix of the model.
    pub label_embeddings: Dtype,
    /// Vectorizers of the words.
    pub vectorizer: Vec<VectorizerConfig>,
    /// How labels are grouped.
    pub cluster: Clustering,
    /// The index.
    pub index: IndexConfig,
    /// The short stage 1 before labels are grouped again.
    pub warmup: Phase,
    /// The training along fixed groups.
    pub stage1: Phase,
    /// The training of everything.
    pub stage2: Phase,
    /// What these trainings share.
    pub training: TrainingConfig,
    /// The classifiers.
    pub classifier: ClassifierConfig,
    /// The sparse re-ranker.
    pub ranker: RankerConfig,
    /// Inputs in place of stages.
    pub files: Files,
}

impl Default for EliasConfig {
    fn default() -> Self {
        EliasConfig {
            encoder: None,
            pooling: None,
            max_len: 128,
            precision: PrecisionChoice::Auto,
            train_encoder: true,
            stages: vec![
                Stage::Cluster,
                Stage::Warmup,
                Stage::Recluster,
                Stage::Stage1,
                Stage::Adjacency,
                Stage::Stage2,
            ],
            head: Head::Index,
            validation_rows: 0,
            label_embeddings: Dtype::Bf16,
            vectorizer: vec![VectorizerConfig::default()],
            cluster: Clustering::default(),
            index: IndexConfig::default(),
            warmup: Phase { epochs: 5.0, ..Phase::default() },
            stage1: Phase::default(),
            stage2: Phase::default(),
            training: TrainingConfig::default(),
            classifier: ClassifierConfig::default(),
            ranker: RankerConfig::default(),
            files: Files::default(),
        }
    }
}

/// More tokens than any encoder here reads.
const MOST_TOKENS: usize = 8192;

impl Settings for EliasConfig {
    const METHOD: &'static str = "elias";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_each(&self) -> Result<()> {
        if !(3..=MOST_TOKENS).contains(&self.max_len) {
            let expected = format!("a whole number from 3 to {MOST_TOKENS}");
            return Err(Error::config("max_len", self.max_len, expected));
        }
        for (i, vectorizer) in self.vectorizer.iter().enumerate() {
            vectorizer.check().map_err(|e| within(&format!("vectorizer.{i}"), e))?;
        }
        counts(&[
            ("cluster.max_leaf_size", self.cluster.max_leaf_size),
            ("cluster.max_iterations", self.cluster.max_iterations),
        ])?;
        self.index.check().map_err(|e| within("index", e))?;
        self.warmup.check().map_err(|e| within("warmup", e))?;
        self.stage1.check().map_err(|e| within("stage1", e))?;
        self.stage2.check().map_err(|e| within("stage2", e))?;
        self.training.check().map_err(|e| within("training", e))?;
        self.ranker.check().map_err(|e| within("ranker", e))
    }

    fn check_values(&self) -> Result<()> {
        self.check_each()?;
        self.check_stages()?;
        self.check_classifier()?;
        for (name, stage, phase) in [
            ("warmup", Stage::Warmup, &self.warmup),
            ("stage1", Stage::Stage1, &self.stage1),
            ("stage2", Stage::Stage2, &self.stage2),
        ] {
            if self.does(stage) && phase.swa_start as f32 > phase.epochs {
                let expected = format!("no epoch after the last ({name}.epochs = {}), or 0", phase.epochs);
                return Err(Error::config(&format!("{name}.swa_start"), phase.swa_start, expected));
            }
        }
        let highest = [&self.warmup, &self.stage1, &self.stage2]
            .iter()
            .fold(0.0, |most: f32, phase| most.max(phase.lr).max(phase.cluster_lr).max(phase.label_lr));
        if self.training.weight_decay * highest >= 1.0 {
            let expected = "less than 1 / the highest learning rate";
            return Err(Error::config("training.weight_decay", self.training.weight_decay, expected));
        }
        if self.ranker.calibrate && self.validation_rows == 0 {
            let expected = "rows to learn the calibration from, because ranker.calibrate = true";
            return Err(Error::config("validation_rows", 0, expected));
        }
        Ok(())
    }
}

impl EliasConfig {
    /// Whether stage `stage` is wanted.
    pub fn does(&self, stage: Stage) -> bool {
        self.stages.contains(&stage)
    }

    /// Without an index a step moves whole matrices of classifiers, which lie in memory as AdamW has them.
    fn check_classifier(&self) -> Result<()> {
        let ClassifierConfig { weights, moments, mapped, .. } = self.classifier;
        let expected = |value: &str| format!("{value}, because only head = \"index\" has a choice");
        match self.head {
            Head::Index => Ok(()),
            _ if weights != Stored::F32 => Err(Error::config("classifier.weights", "bf16", expected("f32"))),
            _ if moments != Moments::Element => {
                Err(Error::config("classifier.moments", "row", expected("element")))
            }
            _ if mapped => Err(Error::config("classifier.mapped", true, expected("false"))),
            _ => Ok(()),
        }
    }

    /// Stages in their order, each at most once, and only those that the head has.
    fn check_stages(&self) -> Result<()> {
        let refuse = |expected: &str| {
            let names: Vec<String> =
                self.stages.iter().map(|stage| format!("{stage:?}").to_lowercase()).collect();
            Err(Error::config("stages", format!("[{}]", names.join(", ")), expected))
        };
        if self.stages.is_empty() || !self.stages.is_sorted_by(|a, b| a < b) {
            return refuse(
                "one or more of cluster, warmup, recluster, stage1, adjacency, stage2, ranker, in this order",
            );
        }
        if self.head != Head::Index && self.stages.iter().any(|&s| s != Stage::Stage1 && s != Stage::Ranker) {
            return refuse("[stage1], or [stage1, ranker], because only head = \"index\" has clusters");
        }
        if self.does(Stage::Recluster) && self.does(Stage::Cluster) && !self.does(Stage::Warmup) {
            return refuse("warmup before recluster, or one of cluster and recluster alone");
        }
        Ok(())
    }
}

impl IndexConfig {
    fn check(&self) -> Result<()> {
        above_zero("alpha", self.alpha)?;
        above_zero("beta", self.beta)?;
        from_zero("frequency_power", self.frequency_power)?;
        counts(&[("beam", self.beam), ("shortlist", self.shortlist), ("kappa", self.kappa)])
    }
}

impl Phase {
    fn check(&self) -> Result<()> {
        above_zero("epochs", self.epochs)?;
        above_zero("lr", self.lr)?;
        above_zero("cluster_lr", self.cluster_lr)?;
        above_zero("label_lr", self.label_lr)?;
        from_zero("loss_lambda", self.loss_lambda)?;
        counts(&[("swa_every", self.swa_every as usize)])
    }
}

impl TrainingConfig {
    fn check(&self) -> Result<()> {
        counts(&[("batch_size", self.batch_size), ("tokens_per_batch", self.tokens_per_batch)])?;
        for (key, part) in [("warmup", self.warmup), ("embedding_dropout", self.embedding_dropout)] {
            if !(0.0..1.0).contains(&part) {
                return Err(Error::config(key, part, "a number from 0 to less than 1"));
            }
        }
        from_zero("weight_decay", self.weight_decay)?;
        above_zero("adam_epsilon", self.adam_epsilon)?;
        from_zero("clip", self.clip)?;
        from_zero("checkpoint_minutes", self.checkpoint_minutes)
    }
}

impl RankerConfig {
    fn check(&self) -> Result<()> {
        counts(&[("top_k", self.top_k), ("max_iterations", self.max_iterations as usize)])?;
        above_zero("cost", self.cost)?;
        above_zero("epsilon", self.epsilon)?;
        from_zero("threshold", self.threshold)
    }
}

fn counts(values: &[(&str, usize)]) -> Result<()> {
    match values.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(Error::config(key, 0, keys::COUNT)),
        None => Ok(()),
    }
}

fn above_zero(key: &str, value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(Error::config(key, value, keys::ABOVE_ZERO)) }
}

fn from_zero(key: &str, value: f32) -> Result<()> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(Error::config(key, value, keys::FROM_ZERO)) }
}

#[cfg(test)]
mod tests;

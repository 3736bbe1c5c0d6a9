//! Settings of DEXML.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};
use xmc_nn::optim::Schedule;

use super::keys;
use crate::config::{Group, Settings};
use crate::encoder::{PoolingKind, PrecisionChoice};
use crate::index::Dtype;
use crate::methods::SoftValue;

/// What a label is scored with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The embedding of its name, from the tower that embeds texts: the dual encoder.
    #[default]
    LabelText,
    /// A row of weights and a bias of its own: one-vs-all.
    Classifier,
}

/// What a training step minimises. (spec: DEXML, 3.2)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CriterionKind {
    /// Every positive against the negatives only.
    #[default]
    DecoupledSoftmax,
    /// Every positive against all labels.
    Softmax,
    /// Positives among the best k.
    SoftTopk,
    /// Every label for itself.
    Bce,
}

/// Which positives of a row take part in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positives {
    /// All.
    #[default]
    All,
    /// One, drawn anew in every step. (`soft-topk` with a number draws that many in any case.)
    Sample,
}

/// The k of soft top-k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TopkSize {
    /// The same for every row.
    Fixed(usize),
    /// As many as the row has positives.
    Named(OfPositives),
}

/// The word for "as many as the row has positives".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfPositives {
    /// As many as the row has positives.
    Positives,
}

/// Labels that a row is trained against: `all`, `hard`, `in-batch` or `pool:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Negatives {
    /// Every label.
    All,
    /// Labels that the model so far ranks high for the rows of the batch.
    Hard,
    /// Positives of the other rows of the batch.
    InBatch,
    /// Those, and this many random labels.
    Pool(usize),
}

impl From<Negatives> for String {
    fn from(negatives: Negatives) -> String {
        match negatives {
            Negatives::All => "all".to_owned(),
            Negatives::Hard => "hard".to_owned(),
            Negatives::InBatch => "in-batch".to_owned(),
            Negatives::Pool(n) => format!("pool:{n}"),
        }
    }
}

impl TryFrom<String> for Negatives {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        let number = name.strip_prefix("pool:").and_then(|n| n.parse().ok()).filter(|&n| n > 0);
        match (name.as_str(), number) {
            ("all", _) => Ok(Negatives::All),
            ("hard", _) => Ok(Negatives::Hard),
            ("in-batch", _) => Ok(Negatives::InBatch),
            (_, Some(n)) => Ok(Negatives::Pool(n)),
            _ => Err(Error::config("negatives", name, "all, hard, in-batch or pool:N")),
        }
    }
}

/// How random labels of a pool are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolBy {
    /// All with the same probability.
    #[default]
    Uniform,
    /// In proportion to their positives, plus one.
    Frequency,
}

/// Everything that can be set; mirrors the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DexmlConfig {
    /// Folder of the encoder in Hugging Face layout.
    pub encoder: Option<PathBuf>,
    /// What a label is scored with.
    pub head: Head,
    /// How token vectors become one.
    pub pooling: PoolingKind,
    /// Size of embeddings after a further linear layer.
    pub projection: Option<usize>,
    /// Whether embeddings have length 1.
    pub normalize: bool,
    /// Tokens of a text.
    pub max_len: usize,
    /// Tokens of a label name.
    pub label_max_len: usize,
    /// Precision of the products.
    pub precision: PrecisionChoice,

    /// What a step minimises.
    pub criterion: CriterionKind,
    /// Scores are inner products divided by this.
    pub tau: f32,
    /// Which positives take part.
    pub positives: Positives,
    /// What the values of labels change; `weighted` in models of before.
    #[serde(alias = "weighted")]
    pub value: SoftValue,
    /// k of soft top-k.
    pub topk: TopkSize,
    /// Steepness of soft top-k.
    pub topk_alpha: f32,

    /// Labels a row is trained against.
    pub negatives: Negatives,
    /// How random labels are drawn.
    pub pool_by: PoolBy,
    /// Whether scores of random labels are corrected by their probability.
    pub logq: bool,
    /// Mined negatives of a row in a step.
    pub num_negatives: usize,
    /// Epochs before negatives are first mined.
    pub mine_after: usize,
    /// Epochs between minings.
    pub mine_every: usize,
    /// Labels retrieved for a row when mining.
    pub mine_top: usize,

    /// Passes over the training rows.
    pub epochs: usize,
    /// Rows of a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub lr: f32,
    /// Learning rate of the weights of the one-vs-all head.
    pub head_lr: f32,
    /// Decay of the weights.
    pub weight_decay: f32,
    /// Share of the steps in which the learning rate rises.
    pub warmup: f32,
    /// How it falls.
    pub schedule: Schedule,
    /// Largest norm of the gradient.
    pub clip: f32,
    /// Epochs at the end whose parameters are averaged.
    pub swa: usize,
    /// Whether the encoder drops out as its config.json says.
    pub dropout: bool,
    /// Tokens that the encoder holds at a time.
    pub tokens_per_batch: usize,
    /// Tokens whose activations wait for the backward pass.
    pub tape_tokens: usize,

    /// Share of the training rows that validate.
    pub validation: f32,
    /// Rows that validate at most.
    pub validation_rows: usize,
    /// What decides which epoch is the best.
    pub metric: String,
    /// Epochs between validations.
    pub evaluate_every: usize,
    /// Validations without progress before training ends.
    pub patience: usize,

    /// How label embeddings are stored.
    pub label_embeddings: Dtype,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f32,
}

impl Default for DexmlConfig {
    fn default() -> Self {
        DexmlConfig {
            encoder: None,
            head: Head::LabelText,
            pooling: PoolingKind::Mean,
            projection: None,
            normalize: true,
            max_len: 128,
            label_max_len: 32,
            precision: PrecisionChoice::Auto,
            criterion: CriterionKind::DecoupledSoftmax,
            tau: 0.05,
            positives: Positives::All,
            value: SoftValue::Sample,
            topk: TopkSize::Fixed(5),
            topk_alpha: 2.0,
            negatives: Negatives::Pool(768),
            pool_by: PoolBy::Uniform,
            logq: false,
            num_negatives: 1,
            mine_after: 2,
            mine_every: 2,
            mine_top: 100,
            epochs: 5,
            batch_size: 256,
            lr: 2e-4,
            head_lr: 1e-3,
            weight_decay: 0.01,
            warmup: 0.1,
            schedule: Schedule::Linear,
            clip: 1.0,
            swa: 0,
            dropout: true,
            tokens_per_batch: 8192,
            tape_tokens: 32_768,
            validation: 0.1,
            validation_rows: 2000,
            metric: "nDCG@5".to_owned(),
            evaluate_every: 1,
            patience: 3,
            label_embeddings: Dtype::Bf16,
            checkpoint_minutes: 10.0,
        }
    }
}

/// More tokens than any encoder here reads.
const MOST_TOKENS: usize = 8192;

/// So many that steps can be counted.
const MOST_EPOCHS: usize = 1_000_000;

impl Settings for DexmlConfig {
    const METHOD: &'static str = "dexml";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_each(&self) -> Result<()> {
        self.check_counts()?;
        self.check_numbers()?;
        parse_metric(&self.metric).map(|_| ())
    }

    fn check_values(&self) -> Result<()> {
        self.check_each()?;
        self.check_together()
    }
}

impl DexmlConfig {
    fn check_counts(&self) -> Result<()> {
        for (key, value, least, most) in [
            ("max_len", self.max_len, 3, MOST_TOKENS),
            ("label_max_len", self.label_max_len, 3, MOST_TOKENS),
            ("projection", self.projection.unwrap_or(1), 1, 1 << 16),
            ("topk", self.fixed_k().unwrap_or(1), 1, usize::MAX),
            ("num_negatives", self.num_negatives, 1, usize::MAX),
            ("mine_after", self.mine_after, 0, usize::MAX),
            ("mine_every", self.mine_every, 1, usize::MAX),
            ("mine_top", self.mine_top, 1, usize::MAX),
            ("epochs", self.epochs, 1, MOST_EPOCHS),
            ("batch_size", self.batch_size, 1, usize::MAX),
            ("tokens_per_batch", self.tokens_per_batch, 1, usize::MAX),
            ("tape_tokens", self.tape_tokens, 0, usize::MAX),
            ("validation_rows", self.validation_rows, 1, usize::MAX),
            ("evaluate_every", self.evaluate_every, 1, usize::MAX),
        ] {
            if !(least..=most).contains(&value) {
                let range = if most == usize::MAX { "or more".to_owned() } else { format!("to {most}") };
                return Err(Error::config(key, value, format!("a whole number, {least} {range}")));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        const POSITIVE: &str = "a number above 0";
        const NOT_NEGATIVE: &str = "a number, 0 or more";
        const SHARE: &str = "a number from 0 to below 1";
        let finite = f32::is_finite;
        for (key, value, fits, expected) in [
            ("tau", self.tau, self.tau > 0.0, POSITIVE),
            ("topk_alpha", self.topk_alpha, self.topk_alpha > 0.0, POSITIVE),
            ("lr", self.lr, self.lr > 0.0, POSITIVE),
            ("head_lr", self.head_lr, self.head_lr > 0.0, POSITIVE),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, NOT_NEGATIVE),
            ("clip", self.clip, self.clip >= 0.0, NOT_NEGATIVE),
            ("checkpoint_minutes", self.checkpoint_minutes, self.checkpoint_minutes >= 0.0, NOT_NEGATIVE),
            ("warmup", self.warmup, (0.0..1.0).contains(&self.warmup), SHARE),
            ("validation", self.validation, (0.0..1.0).contains(&self.validation), SHARE),
        ] {
            if !fits || !finite(value) {
                return Err(Error::config(key, value, expected));
            }
        }
        Ok(())
    }

    /// Settings that need or exclude each other.
    fn check_together(&self) -> Result<()> {
        match (self.value, self.criterion) {
            (SoftValue::Weight, CriterionKind::Bce) => {
                let expected =
                    "sample, target or ignore, because bce knows no weights; target does what is meant";
                return Err(Error::config("value", "weight", expected));
            }
            (SoftValue::Target, criterion) if criterion != CriterionKind::Bce => {
                let expected = "sample, weight or ignore: only criterion = \"bce\" learns probabilities";
                return Err(Error::config("value", "target", expected));
            }
            _ => {}
        }
        if self.logq && !matches!(self.negatives, Negatives::Pool(_)) {
            let expected = "false, because only negatives = \"pool:N\" are drawn with probabilities";
            return Err(Error::config("logq", true, expected));
        }
        if self.swa > self.epochs {
            let expected = format!("at most the number of epochs, {}", self.epochs);
            return Err(Error::config("swa", self.swa, expected));
        }
        if self.negatives == Negatives::Hard && self.num_negatives > self.mine_top {
            let expected = format!("at most mine_top, {}", self.mine_top);
            return Err(Error::config("num_negatives", self.num_negatives, expected));
        }
        let decay = f64::from(self.head_lr) * f64::from(self.weight_decay);
        if self.head == Head::Classifier && decay >= 1.0 {
            let expected = format!("less than 1 / weight_decay, {}", 1.0 / self.weight_decay);
            return Err(Error::config("head_lr", self.head_lr, expected));
        }
        Ok(())
    }

    /// Whether the loss has a k.
    pub(super) fn uses_topk(&self) -> bool {
        self.criterion == CriterionKind::SoftTopk
    }

    /// Positives of a row that a step trains on, unless all. Of more than k no k can be on top, so soft top-k with a
    /// number draws in any case. (spec: DEXML, 3.1)
    pub(super) fn kept_positives(&self) -> Option<usize> {
        match (self.positives, self.criterion) {
            (_, CriterionKind::SoftTopk) => self.fixed_k(),
            (Positives::All, _) => None,
            (Positives::Sample, _) => Some(1),
        }
    }

    /// k of soft top-k, unless it is the number of positives.
    pub(super) fn fixed_k(&self) -> Option<usize> {
        match self.topk {
            TopkSize::Fixed(k) => Some(k),
            TopkSize::Named(OfPositives::Positives) => None,
        }
    }
}

/// `R@10` to 10; an error if the metric does not exist.
pub(in crate::methods) fn parse_metric(metric: &str) -> Result<usize> {
    const NAMES: [&str; 9] = ["P", "nDCG", "PSP", "PSnDCG", "R", "MRR", "microF1", "macroF1", "coverage"];
    let known = metric.split_once('@').filter(|(name, _)| NAMES.contains(name));
    // Only as a report spells it: `P@05` would never be found there.
    let number = known.and_then(|(_, k)| Some((k, k.parse::<usize>().ok()?)));
    match number {
        Some((digits, k)) if k > 0 && digits == k.to_string() => Ok(k),
        _ => Err(Error::config("metric", metric, keys::METRICS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{checks, load};

    #[test]
    fn every_setting_is_documented_and_every_documented_setting_exists() {
        checks::documentation_is_complete::<DexmlConfig>();
    }

    #[test]
    fn the_printed_file_gives_the_defaults() {
        checks::printed_file_gives_the_defaults::<DexmlConfig>();
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_for_every_setting() {
        checks::wrong_kinds_are_refused::<DexmlConfig>();
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        let sets = ["negatives=pool:512", "topk=positives", "metric=R@10", "projection=64", "encoder=a/b"];
        let config = load::<DexmlConfig>(None, &sets.map(str::to_owned)).unwrap();
        assert_eq!(config.negatives, Negatives::Pool(512));
        assert_eq!(config.fixed_k(), None);
        assert_eq!((config.projection, config.encoder.clone()), (Some(64), Some("a/b".into())));
        let config = load::<DexmlConfig>(None, &["topk=3".to_owned()]).unwrap();
        assert_eq!(config.fixed_k(), Some(3));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        checks::are_refused::<DexmlConfig>(&[
            "max_len=2",
            "epochs=0",
            "batch_size=0",
            "topk=0",
            "topk=many",
            "tau=0",
            "tau=nan",
            "lr=inf",
            "lr=-1",
            "warmup=1",
            "validation=1.0",
            "clip=-1",
            "metric=P",
            "metric=Q@1",
            "metric=P@0",
            "metric=P@07",
            "metric=P@+7",
            "epochs=18446744073709551615",
            "negatives=pool:0",
            "negatives=some",
            "negatives=pool",
            "logq=maybe",
            "swa=6",
            "head=tail",
            "mine_every=0",
        ]);
        let sets = ["negatives=all", "logq=true"].map(str::to_owned);
        assert!(load::<DexmlConfig>(None, &sets).unwrap_err().to_string().contains("pool:N"));
        for (sets, named) in [
            (["criterion=bce", "value=weight"], "bce knows no weights"),
            (["value=target", "criterion=softmax"], "only criterion = \"bce\""),
            (["negatives=hard", "num_negatives=101"], "at most mine_top, 100"),
            (["head=classifier", "head_lr=200"], "`head_lr` = 200: expected less than 1 / weight_decay, 100"),
        ] {
            let message = load::<DexmlConfig>(None, &sets.map(str::to_owned)).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn soft_top_k_with_a_number_keeps_that_many_positives() {
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            load::<DexmlConfig>(None, &sets).unwrap().kept_positives()
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["positives=sample"]), Some(1));
        assert_eq!(of(&["criterion=soft-topk", "topk=3"]), Some(3));
        assert_eq!(of(&["criterion=soft-topk", "topk=3", "positives=sample"]), Some(3));
        assert_eq!(of(&["criterion=soft-topk", "topk=positives"]), None);
    }

    #[test]
    fn a_first_look_does_not_compare_with_defaults() {
        let sets = ["swa=6".to_owned()];
        assert_eq!(crate::config::look::<DexmlConfig>(None, &sets).unwrap().swa, 6);
        assert!(load::<DexmlConfig>(None, &sets).is_err());
        assert!(crate::config::look::<DexmlConfig>(None, &["tau=0".to_owned()]).is_err());
    }
}

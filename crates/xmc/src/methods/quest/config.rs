//! Settings of QUEST.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};
use xmc_nn::decoder::{Prompted, Quantization};
use xmc_nn::optim::Schedule;

use super::keys;
use super::template::{self, LABEL, TEXT};
use crate::config::{Group, Settings};
use crate::encoder::PrecisionChoice;
use crate::index::Dtype;
use crate::methods::dexml::parse_metric;
use crate::sampling::SampleConfig;

/// How the matrices of the decoder are held, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Bits(pub Quantization);

impl From<Bits> for String {
    fn from(bits: Bits) -> String {
        bits.0.to_string()
    }
}

impl TryFrom<String> for Bits {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse().map(Bits).map_err(|expected| Error::config("quantization", name, expected))
    }
}

/// What the prompt begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptInit {
    /// Embeddings of the tokens 1, 2, ..., as the release does.
    #[default]
    FirstTokens,
    /// The mean of all token embeddings, and noise as large as they differ from it.
    MeanNoise,
    /// Embeddings of the tokens of `prompt_text`.
    Text,
    /// The prompt of an earlier training.
    File,
}

/// Where a text's vector is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderPooling {
    /// At the last token.
    #[default]
    Last,
    /// At an end-of-text token behind it.
    Eos,
    /// The mean over its tokens, the prompt aside.
    Mean,
    /// At the last place of the padded batch, as the release does: depends on the batch.
    PadLast,
}

/// What the learning rate is a function of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleBy {
    /// Of the step.
    #[default]
    Step,
    /// Of the epoch.
    Epoch,
}

/// Everything that can be set; mirrors the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestConfig {
    /// GGUF file or folder of the decoder.
    pub decoder: Option<PathBuf>,
    /// How its matrices are held.
    pub quantization: Bits,
    /// Precision of the products.
    pub precision: PrecisionChoice,
    /// Rows n of the prompt.
    pub prompt_tokens: usize,
    /// What they begin with.
    pub prompt_init: PromptInit,
    /// For `prompt_init = "text"`.
    pub prompt_text: Option<String>,
    /// For `prompt_init = "file"`.
    pub prompt_file: Option<PathBuf>,
    /// What the decoder reads of a text.
    pub text_template: String,
    /// What it reads of a label.
    pub label_template: String,
    /// Where a text's vector is read.
    pub pooling: DecoderPooling,
    /// Tokens of a text.
    pub max_len: usize,
    /// Tokens of a label.
    pub label_max_len: usize,

    /// Rank of adapters beside the frozen matrices; 0 is none.
    pub lora_rank: usize,
    /// Their output is multiplied by this over the rank.
    pub lora_alpha: f32,
    /// Share of their inputs that is dropped.
    pub lora_dropout: f32,

    /// Scores are cosines divided by this.
    pub tau: f32,
    /// Whether labels also look for their texts.
    pub symmetric: bool,
    /// Whether other right labels of a text are no negatives.
    pub mask_known_positives: bool,
    /// Labels of the bank that join the negatives of a step.
    pub negatives: usize,
    /// Wrong labels that the last search found for a row, in each of its steps.
    pub hard_negatives: usize,

    /// Passes over the pairs.
    pub epochs: usize,
    /// Pairs of a step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub lr: f32,
    /// Decay of the prompt and of the adapters.
    pub weight_decay: f32,
    /// Added to what the optimiser divides by.
    pub adam_epsilon: f32,
    /// Share of the training in which the rate rises.
    pub warmup: f32,
    /// How it falls.
    pub schedule: Schedule,
    /// Whether it changes from step to step or from epoch to epoch.
    pub schedule_by: ScheduleBy,
    /// Largest norm of the gradient.
    pub clip: f32,
    /// Tokens that the decoder holds at a time.
    pub tokens_per_batch: usize,
    /// Tokens whose activations wait for the backward pass.
    pub tape_tokens: usize,

    /// Share of the training rows that validate.
    pub validation: f32,
    /// Rows that validate at most.
    pub validation_rows: usize,
    /// What decides which epoch is the best.
    pub metric: String,
    /// Validations without progress before training ends.
    pub patience: usize,
    /// How label embeddings are stored.
    pub label_embeddings: Dtype,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f32,

    /// Which labels are learned from.
    pub sampling: SampleConfig,
}

impl Default for QuestConfig {
    fn default() -> Self {
        QuestConfig {
            decoder: None,
            quantization: Bits(Quantization::Stored),
            precision: PrecisionChoice::Auto,
            prompt_tokens: 5,
            prompt_init: PromptInit::FirstTokens,
            prompt_text: None,
            prompt_file: None,
            text_template: TEXT.to_owned(),
            label_template: LABEL.to_owned(),
            pooling: DecoderPooling::Last,
            max_len: 64,
            label_max_len: 64,
            lora_rank: 0,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            tau: 0.05,
            symmetric: false,
            mask_known_positives: true,
            negatives: 0,
            hard_negatives: 0,
            epochs: 2,
            batch_size: 32,
            lr: 1e-3,
            weight_decay: 0.01,
            adam_epsilon: 1e-8,
            warmup: 0.03,
            schedule: Schedule::Linear,
            schedule_by: ScheduleBy::Step,
            clip: 1.0,
            tokens_per_batch: Prompted::PASS,
            tape_tokens: 16_384,
            validation: 0.05,
            validation_rows: 1000,
            metric: "P@1".to_owned(),
            patience: 0,
            label_embeddings: Dtype::Bf16,
            checkpoint_minutes: 10.0,
            sampling: SampleConfig::default(),
        }
    }
}

/// More tokens than any text needs here.
const MOST_TOKENS: usize = 8192;

/// So many that steps can be counted.
const MOST_EPOCHS: usize = 1_000_000;

/// More rows than a prompt needs, and more columns than an adapter.
const MOST_PROMPT: usize = 1024;
const MOST_RANK: usize = 4096;

impl Settings for QuestConfig {
    const METHOD: &'static str = "quest";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_each(&self) -> Result<()> {
        self.check_counts()?;
        self.check_numbers()?;
        template::check("text_template", &self.text_template, TEXT)?;
        template::check("label_template", &self.label_template, LABEL)?;
        parse_metric(&self.metric)?;
        self.sampling.check().map_err(in_sampling)
    }

    fn check_values(&self) -> Result<()> {
        self.check_each()?;
        self.check_together()
    }
}

impl QuestConfig {
    fn check_counts(&self) -> Result<()> {
        for (key, value, least, most) in [
            ("prompt_tokens", self.prompt_tokens, 1, MOST_PROMPT),
            ("max_len", self.max_len, 1, MOST_TOKENS),
            ("label_max_len", self.label_max_len, 1, MOST_TOKENS),
            ("lora_rank", self.lora_rank, 0, MOST_RANK),
            ("epochs", self.epochs, 1, MOST_EPOCHS),
            ("batch_size", self.batch_size, 1, usize::MAX),
            ("tokens_per_batch", self.tokens_per_batch, 1, usize::MAX),
            ("validation_rows", self.validation_rows, 1, usize::MAX),
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
        for (key, value, fits, expected) in [
            ("lora_alpha", self.lora_alpha, self.lora_alpha > 0.0, POSITIVE),
            ("lora_dropout", self.lora_dropout, (0.0..1.0).contains(&self.lora_dropout), SHARE),
            ("tau", self.tau, self.tau > 0.0, POSITIVE),
            ("lr", self.lr, self.lr > 0.0, POSITIVE),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, NOT_NEGATIVE),
            ("adam_epsilon", self.adam_epsilon, self.adam_epsilon > 0.0, POSITIVE),
            ("clip", self.clip, self.clip >= 0.0, NOT_NEGATIVE),
            ("checkpoint_minutes", self.checkpoint_minutes, self.checkpoint_minutes >= 0.0, NOT_NEGATIVE),
            ("warmup", self.warmup, (0.0..1.0).contains(&self.warmup), SHARE),
            ("validation", self.validation, (0.0..1.0).contains(&self.validation), SHARE),
        ] {
            if !fits || !value.is_finite() {
                return Err(Error::config(key, value, expected));
            }
        }
        Ok(())
    }

    /// Settings that need or exclude each other.
    fn check_together(&self) -> Result<()> {
        let beginnings = [
            ("prompt_text", self.prompt_text.is_some(), PromptInit::Text, "text"),
            ("prompt_file", self.prompt_file.is_some(), PromptInit::File, "file"),
        ];
        for (key, given, init, name) in beginnings {
            if given != (self.prompt_init == init) {
                let (value, expected) = if given {
                    ("a value", format!("prompt_init = \"{name}\" beside it"))
                } else {
                    ("nothing", format!("what prompt_init = \"{name}\" begins with"))
                };
                return Err(Error::config(key, value, expected));
            }
        }
        if self.prompt_text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return Err(Error::config("prompt_text", "an empty text", "some words"));
        }
        if self.lora_rank == 0 && self.lora_dropout > 0.0 {
            return Err(Error::config("lora_dropout", self.lora_dropout, "0, because lora_rank is 0"));
        }
        if !self.mask_known_positives && self.negatives + self.hard_negatives > 0 {
            let expected = "true, because further negatives are known not to be right";
            return Err(Error::config("mask_known_positives", false, expected));
        }
        Ok(())
    }
}

/// Names the table of a setting that sampling complains of.
fn in_sampling(problem: Error) -> Error {
    match problem {
        Error::Config { key, value, expected } => {
            Error::Config { key: format!("sampling.{key}"), value, expected }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{checks, load};

    #[test]
    fn every_setting_is_documented_and_every_documented_setting_exists() {
        checks::documentation_is_complete::<QuestConfig>();
    }

    #[test]
    fn the_printed_file_gives_the_defaults() {
        checks::printed_file_gives_the_defaults::<QuestConfig>();
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_for_every_setting() {
        checks::wrong_kinds_are_refused::<QuestConfig>();
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        checks::are_refused::<QuestConfig>(&[
            "prompt_tokens=0",
            "prompt_tokens=1025",
            "quantization=q2_k",
            "pooling=cls",
            "prompt_init=random",
            "max_len=0",
            "epochs=0",
            "batch_size=0",
            "tau=0",
            "lr=nan",
            "warmup=1",
            "adam_epsilon=0",
            "validation=1.0",
            "lora_alpha=0",
            "lora_dropout=1.5",
            "metric=Q@1",
            "text_template=words",
            "text_template={title}. {content}",
            "label_template={text}",
            "sampling.ratio=0",
            "sampling.bits=31",
            "schedule_by=day",
        ]);
        for (sets, named) in [
            (&["prompt_init=text"][..], "`prompt_text` = nothing"),
            (&["prompt_text=label this"], "prompt_init = \"text\" beside it"),
            (&["prompt_init=file"], "`prompt_file` = nothing"),
            (&["lora_dropout=0.1"], "lora_rank is 0"),
            (&["mask_known_positives=false", "negatives=5"], "known not to be right"),
        ] {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            let message = load::<QuestConfig>(None, &sets).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        let sets = ["quantization=nf4-double", "pooling=pad-last", "sampling.ratio=1", "decoder=a/b.gguf"];
        let config = load::<QuestConfig>(None, &sets.map(str::to_owned)).unwrap();
        assert_eq!(
            (config.quantization, config.pooling),
            (Bits(Quantization::Nf4 { double: true }), DecoderPooling::PadLast)
        );
        assert_eq!((config.sampling.ratio, config.decoder.clone()), (1.0, Some("a/b.gguf".into())));
    }
}

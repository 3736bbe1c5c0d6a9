//! What does an augmentation do? Mirrors `run.toml` in its folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};

use super::Direction;
use super::keys;
use super::map::Search;
use crate::config::{Group, Settings};

/// What writes synthetic texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GeneratorKind {
    /// Titles and telling phrases of the metadata; no model.
    #[default]
    Extractive,
    /// A language model on this machine.
    Decoder,
    /// A language model behind HTTP.
    Http,
    /// Texts that were written before.
    Replay,
}

/// Everything that can be set; mirrors the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Which side synthetic texts are written for.
    pub direction: Direction,
    /// Folder of the data set.
    pub data: Option<PathBuf>,
    /// What is known of the sources, as JSON Lines.
    pub meta: Option<PathBuf>,
    /// Seed of every draw.
    pub seed: u64,
    /// Whether targets that are test rows are left out, where they would be refused.
    pub exclude_test: bool,
    /// What writes texts.
    pub generator: GeneratorConfig,
    /// What is kept of answers.
    pub parse: ParseConfig,
    /// What compares texts.
    pub encoder: EncoderConfig,
    /// How neighbours are searched.
    pub map: MappingConfig,
    /// Which neighbours become pairs.
    pub build: BuildSettings,
    /// What is measured.
    pub validate: ValidateSettings,
}

/// What writes texts, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// What writes them.
    pub kind: GeneratorKind,
    /// Decoder or folder to replay.
    pub path: Option<PathBuf>,
    /// Template of prompts.
    pub template: Option<PathBuf>,
    /// Tokens of an answer.
    pub max_new_tokens: usize,
    /// Divides logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Tokens that are drawn from.
    pub top_k: usize,
    /// Their probability together.
    pub top_p: f32,
    /// Texts that a decoder continues at a time.
    pub batch_size: usize,
    /// Address of an endpoint.
    pub url: Option<String>,
    /// Name of the model there.
    pub model: Option<String>,
    /// Environment variable that holds the key.
    pub key_env: Option<String>,
    /// Requests under way.
    pub concurrency: usize,
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in all.
    pub max_tokens: Option<u64>,
    /// Cost in all.
    pub max_cost: Option<f64>,
    /// Hours in all.
    pub max_hours: Option<f64>,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        GeneratorConfig {
            kind: GeneratorKind::Extractive,
            path: None,
            template: None,
            max_new_tokens: 250,
            temperature: 0.8,
            top_k: 200,
            top_p: 1.0,
            batch_size: 8,
            url: None,
            model: None,
            key_env: None,
            concurrency: 8,
            requests_per_minute: None,
            tokens_per_minute: None,
            max_tokens: None,
            max_cost: None,
            max_hours: None,
        }
    }
}

/// What is kept of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParseConfig {
    /// Texts of a source.
    pub max_per_item: usize,
    /// Whether texts that are known already are dropped.
    pub drop_known: bool,
}

impl Default for ParseConfig {
    fn default() -> Self {
        ParseConfig { max_per_item: 10, drop_known: false }
    }
}

/// What compares synthetic texts with targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// Folder of an encoder, or of a model that has one; none compares words.
    pub path: Option<PathBuf>,
    /// Tokens of a text.
    pub max_len: Option<usize>,
    /// Values of an embedding of words.
    pub dim: usize,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig { path: None, max_len: None, dim: 512 }
    }
}

/// How neighbours are searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingConfig {
    /// Neighbours of a text that are kept.
    pub k: usize,
    /// How.
    pub search: Search,
    /// Share of them that must be found.
    pub recall: f64,
}

impl Default for MappingConfig {
    fn default() -> Self {
        MappingConfig { k: 10, search: Search::Auto, recall: 0.95 }
    }
}

/// Which neighbours become pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildSettings {
    /// Least sigma = (cosine + 1) / 2.
    pub tau: f32,
    /// Neighbours of a text that are used.
    pub k: usize,
    /// New pairs of a label at most; 0 for any number.
    pub max_per_label: usize,
    /// New pairs of a row at most; 0 for any number.
    pub max_per_row: usize,
    /// New pairs in all; 0 for any number.
    pub budget: usize,
}

impl Default for BuildSettings {
    fn default() -> Self {
        BuildSettings { tau: 0.8, k: 10, max_per_label: 0, max_per_row: 0, budget: 0 }
    }
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidateSettings {
    /// Share of the pairs that is hidden and looked for.
    pub share: f64,
    /// Neighbours that count as covered.
    pub coverage_k: usize,
    /// Labels of a cluster that is hidden as one.
    pub cluster_size: usize,
}

impl Default for ValidateSettings {
    fn default() -> Self {
        ValidateSettings { share: 0.1, coverage_k: 10, cluster_size: 16 }
    }
}

impl Default for AugmentConfig {
    fn default() -> Self {
        AugmentConfig {
            direction: Direction::Label,
            data: None,
            meta: None,
            seed: 0,
            exclude_test: false,
            generator: GeneratorConfig::default(),
            parse: ParseConfig::default(),
            encoder: EncoderConfig::default(),
            map: MappingConfig::default(),
            build: BuildSettings::default(),
            validate: ValidateSettings::default(),
        }
    }
}

impl Settings for AugmentConfig {
    const METHOD: &'static str = "augment";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_values(&self) -> Result<()> {
        self.generator.check()?;
        self.check_counts()?;
        self.check_numbers()?;
        if self.build.k > self.map.k {
            let expected = format!("at most map.k, {}: no more neighbours are kept", self.map.k);
            return Err(Error::config("build.k", self.build.k, expected));
        }
        Ok(())
    }
}

impl AugmentConfig {
    fn check_counts(&self) -> Result<()> {
        for (key, value, least) in [
            ("parse.max_per_item", self.parse.max_per_item, 1),
            ("encoder.dim", self.encoder.dim, 8),
            ("encoder.max_len", self.encoder.max_len.unwrap_or(3), 3),
            ("map.k", self.map.k, 1),
            ("validate.coverage_k", self.validate.coverage_k, 1),
            ("validate.cluster_size", self.validate.cluster_size, 1),
        ] {
            if value < least || value > MOST {
                return Err(Error::config(key, value, format!("a whole number from {least} to {MOST}")));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        for (key, value, fits, expected) in [
            ("map.recall", self.map.recall, (0.0..=1.0).contains(&self.map.recall), "a share from 0 to 1"),
            ("build.tau", f64::from(self.build.tau), self.build.tau.is_finite(), keys::TAU),
            (
                "validate.share",
                self.validate.share,
                self.validate.share > 0.0 && self.validate.share < 1.0,
                keys::SHARE,
            ),
        ] {
            if !fits {
                return Err(Error::config(key, value, expected));
            }
        }
        Ok(())
    }
}

/// Larger counts are slips of the keyboard.
const MOST: usize = 1 << 20;

impl GeneratorConfig {
    fn check(&self) -> Result<()> {
        for (key, value) in [
            ("generator.max_new_tokens", self.max_new_tokens),
            ("generator.batch_size", self.batch_size),
            ("generator.concurrency", self.concurrency),
        ] {
            if value == 0 || value > MOST {
                return Err(Error::config(key, value, format!("a whole number from 1 to {MOST}")));
            }
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::config("generator.temperature", self.temperature, keys::FROM_ZERO));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::config("generator.top_p", self.top_p, "a share above 0, up to 1"));
        }
        for (key, value) in [("generator.max_cost", self.max_cost), ("generator.max_hours", self.max_hours)] {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
                return Err(Error::config(key, value, "a number above 0"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checks;

    #[test]
    fn every_setting_is_documented_and_every_documented_setting_exists() {
        checks::documentation_is_complete::<AugmentConfig>();
    }

    #[test]
    fn the_printed_file_gives_the_defaults() {
        checks::printed_file_gives_the_defaults::<AugmentConfig>();
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_for_every_setting() {
        checks::wrong_kinds_are_refused::<AugmentConfig>();
    }

    #[test]
    fn values_out_of_range_are_refused() {
        checks::are_refused::<AugmentConfig>(&[
            "direction=row",
            "generator.kind=oracle",
            "generator.temperature=-1",
            "generator.top_p=0",
            "generator.max_new_tokens=0",
            "generator.max_cost=0",
            "parse.max_per_item=0",
            "encoder.dim=7",
            "map.k=0",
            "map.recall=1.5",
            "build.tau=nan",
            "build.k=11",
            "validate.share=1",
        ]);
    }
}

//! What does an augmentation do? Mirrors `run.toml` in its folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};

use super::Direction;
use super::build::BuildConfig;
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
    pub build: BuildConfig,
    /// What is measured.
    pub validate: ValidateSettings,
}

/// What writes texts, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// What writes them.
    pub kind: GeneratorKind,
    /// Folder to replay.
    pub path: Option<PathBuf>,
}

/// What is kept of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParseConfig {
    /// Texts of a source.
    pub max_per_item: usize,
}

impl Default for ParseConfig {
    fn default() -> Self {
        ParseConfig { max_per_item: 10 }
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
            build: BuildConfig::default(),
            validate: ValidateSettings::default(),
        }
    }
}

impl Settings for AugmentConfig {
    const METHOD: &'static str = "augment";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_values(&self) -> Result<()> {
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
            (
                "build.tau",
                f64::from(self.build.tau),
                self.build.tau.is_finite() && self.build.tau > 0.0,
                keys::TAU,
            ),
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
            "parse.max_per_item=0",
            "encoder.dim=7",
            "map.k=0",
            "map.recall=1.5",
            "build.tau=nan",
            "build.tau=0",
            "build.k=11",
            "validate.share=1",
        ]);
    }
}

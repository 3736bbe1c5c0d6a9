//! What does an augmentation do? Mirrors `run.toml` in its folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};

use super::Direction;
use super::build::BuildConfig;
use super::http::{Api, HttpConfig, THREADS, check_key_env, host};
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
    /// Where a language model is asked.
    pub http: HttpSettings,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// What writes them.
    pub kind: GeneratorKind,
    /// Decoder, or folder to replay.
    pub path: Option<PathBuf>,
    /// `instructed`, `fields`, or a file.
    pub template: String,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Divides logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Likeliest tokens that are drawn from; 0 for all.
    pub top_k: usize,
    /// Their probability together.
    pub top_p: f32,
    /// Texts that a decoder continues side by side.
    pub batch_size: usize,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        GeneratorConfig {
            kind: GeneratorKind::Extractive,
            path: None,
            template: "instructed".to_owned(),
            max_new_tokens: 250,
            temperature: 0.8,
            top_k: 200,
            top_p: 1.0,
            batch_size: 16,
        }
    }
}

/// Where a language model is asked, and what that may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address up to the version.
    pub url: Option<String>,
    /// Name of the model there.
    pub model: Option<String>,
    /// Which API it has.
    pub api: Api,
    /// Environment variable with the key.
    pub key_env: Option<String>,
    /// Further fields of a request, as a JSON object.
    pub extra: Option<String>,
    /// Requests under way at most.
    pub concurrency: usize,
    /// Requests a minute at most.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute at most.
    pub tokens_per_minute: Option<u64>,
    /// Times that a request is tried.
    pub attempts: u32,
    /// Seconds that a reply may take.
    pub timeout: f64,
    /// Price of a million tokens read.
    pub prompt_price: f64,
    /// Price of a million tokens written.
    pub answer_price: f64,
    /// Tokens of a call of the command at most.
    pub max_tokens: Option<u64>,
    /// Cost of it at most.
    pub max_cost: Option<f64>,
    /// Hours of it at most.
    pub max_hours: Option<f64>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            url: None,
            model: None,
            api: Api::Chat,
            key_env: None,
            extra: None,
            concurrency: 8,
            requests_per_minute: None,
            tokens_per_minute: None,
            attempts: 8,
            timeout: 120.0,
            prompt_price: 0.0,
            answer_price: 0.0,
            max_tokens: None,
            max_cost: None,
            max_hours: None,
        }
    }
}

impl HttpSettings {
    /// Further fields of a request.
    fn fields(&self) -> Result<serde_json::Map<String, serde_json::Value>> {
        let Some(text) = &self.extra else { return Ok(serde_json::Map::new()) };
        serde_json::from_str(text)
            .map_err(|e| Error::config("http.extra", text, format!("{} ({e})", keys::OBJECT)))
    }

    /// Refuses what may be a secret in a setting, since settings are written down.
    pub(super) fn check_secrets(&self) -> Result<()> {
        self.key_env.as_deref().map_or(Ok(()), check_key_env)?;
        self.url.as_deref().map_or(Ok(()), |url| host(url).map(|_| ()))
    }

    /// What a generator behind HTTP is made with.
    pub fn generator(&self, writing: &GeneratorConfig) -> Result<HttpConfig> {
        Ok(HttpConfig {
            url: self.url.clone().unwrap_or_default(),
            model: self.model.clone().unwrap_or_default(),
            api: self.api,
            key_env: self.key_env.clone(),
            max_new_tokens: writing.max_new_tokens,
            temperature: writing.temperature,
            top_p: writing.top_p,
            extra: self.fields()?,
            concurrency: self.concurrency,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            attempts: self.attempts,
            timeout: Duration::from_secs_f64(self.timeout),
            prompt_price: self.prompt_price,
            answer_price: self.answer_price,
            max_tokens: self.max_tokens,
            max_cost: self.max_cost,
            max_time: self.max_hours.map(|hours| Duration::from_secs_f64(3600.0 * hours)),
            ..HttpConfig::default()
        })
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
        MappingConfig { k: 10, search: Search::Auto, recall: 0.98 }
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
            http: HttpSettings::default(),
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
        let template = &self.generator.template;
        let known = matches!(template.as_str(), "instructed" | "fields")
            || Path::new(template).extension().is_some_and(|end| end == "toml");
        if !known {
            return Err(Error::config("generator.template", template, keys::TEMPLATE));
        }
        self.check_numbers()?;
        self.http.fields()?;
        self.check_generator()?;
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
            ("generator.max_new_tokens", self.generator.max_new_tokens, 1),
            ("generator.batch_size", self.generator.batch_size, 1),
            ("http.attempts", self.http.attempts as usize, 1),
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

    /// Refuses what the stages would refuse.
    fn check_generator(&self) -> Result<()> {
        let (writing, http) = (&self.generator, &self.http);
        let needs_path = matches!(writing.kind, GeneratorKind::Decoder | GeneratorKind::Replay);
        if needs_path && writing.path.is_none() {
            return Err(Error::config("generator.path", "nothing", keys::PATH));
        }
        if writing.kind == GeneratorKind::Http && (http.url.is_none() || http.model.is_none()) {
            let key = if http.url.is_none() { "http.url" } else { "http.model" };
            return Err(Error::config(key, "nothing", keys::ENDPOINT));
        }
        if !(1..=THREADS).contains(&http.concurrency) {
            return Err(Error::config("http.concurrency", http.concurrency, keys::CONCURRENCY));
        }
        if !self.encoder.dim.is_multiple_of(64) {
            return Err(Error::config("encoder.dim", self.encoder.dim, keys::DIM));
        }
        if http.max_cost.is_some() && http.prompt_price + http.answer_price == 0.0 {
            return Err(Error::config("http.max_cost", http.max_cost.unwrap_or(0.0), keys::PRICES));
        }
        for (key, value) in [
            ("http.requests_per_minute", http.requests_per_minute.map(u64::from)),
            ("http.tokens_per_minute", http.tokens_per_minute),
            ("http.max_tokens", http.max_tokens),
        ] {
            if value == Some(0) {
                return Err(Error::config(key, 0, "a whole number, 1 or more; unset for any number"));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        let (writing, http) = (&self.generator, &self.http);
        let positive = |value: Option<f64>| value.is_none_or(|value| value > 0.0 && value < LONGEST);
        let price = |value: f64| value >= 0.0 && value.is_finite();
        for (key, value, fits, expected) in [
            (
                "generator.temperature",
                f64::from(writing.temperature),
                writing.temperature >= 0.0 && writing.temperature.is_finite(),
                keys::FROM_ZERO,
            ),
            (
                "generator.top_p",
                f64::from(writing.top_p),
                writing.top_p > 0.0 && writing.top_p <= 1.0,
                keys::UP_TO_ONE,
            ),
            ("http.timeout", http.timeout, positive(Some(http.timeout)), keys::ABOVE_ZERO),
            ("http.max_cost", http.max_cost.unwrap_or(1.0), positive(http.max_cost), keys::ABOVE_ZERO),
            ("http.max_hours", http.max_hours.unwrap_or(1.0), positive(http.max_hours), keys::ABOVE_ZERO),
            ("http.prompt_price", http.prompt_price, price(http.prompt_price), keys::FROM_ZERO),
            ("http.answer_price", http.answer_price, price(http.answer_price), keys::FROM_ZERO),
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
/// So do longer times and higher sums.
const LONGEST: f64 = 1e9;

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
            "generator.template=best",
            "generator.top_p=0",
            "http.concurrency=0",
            "http.concurrency=1025",
            "http.requests_per_minute=0",
            "http.max_tokens=0",
            "http.max_cost=5",
            "encoder.dim=100",
            "http.timeout=0",
            "http.max_cost=-1",
            "http.prompt_price=nan",
            "parse.max_per_item=0",
            "encoder.dim=7",
            "map.k=0",
            "map.recall=1.5",
            "build.tau=nan",
            "build.tau=0",
            "build.k=11",
            "validate.share=1",
        ]);
        for (kind, key) in [("decoder", "generator.path"), ("replay", "generator.path"), ("http", "http.url")]
        {
            let sets = [format!("generator.kind={kind}")];
            let problem = crate::config::load::<AugmentConfig>(None, &sets).unwrap_err().to_string();
            assert!(problem.contains(key), "{problem}");
        }
    }
}

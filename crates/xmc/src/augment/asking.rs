//! Who is asked, and what? Puts the settings of a run into a template, a generator and the keys of its answers.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xmc_data::Error as Invalid;
use xmc_nn::decoder::Source;
use xmc_nn::generate::Sampling;

use super::cache::Cache;
use super::config::{AugmentConfig, GeneratorConfig, GeneratorKind, HttpSettings};
use super::extractive::Extractive;
use super::http::{Http, HttpConfig};
use super::language_model::{LanguageModel, Reader, Writing, model_id};
use super::questions::Questions;
use super::template::Template;
use super::{Answer, Generate, Item, Prompt};
use crate::error::{Error, Result};

/// Characters of a token of written language, about; for models whose tokenizer is not at hand.
const CHARACTERS: usize = 4;

/// What a generation would cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// What is written for.
    pub sources: usize,
    /// Sources without metadata.
    pub no_meta: usize,
    /// Prompts without an answer, each counted once.
    pub prompts: usize,
    /// Further prompts, longer than the decoder can read: they will fail.
    pub too_long: usize,
    /// Tokens of these prompts.
    pub prompt_tokens: u64,
    /// Whether they were counted by the model's own tokenizer.
    pub counted: bool,
    /// Tokens of the answers at most.
    pub answer_tokens: u64,
    /// Cost at most, by the prices in the settings.
    pub cost: f64,
    /// Hours: of a decoder by its speed on this machine, with answers as long as allowed; of HTTP at least, where the rates
    /// in the settings bind.
    pub hours: f64,
}

/// The asking side of a run.
pub(super) struct Asking<'a> {
    config: &'a AugmentConfig,
    template: Option<Template>,
    reader: Option<Reader>,
    /// A decoder's file or folder, and its name in answers.
    decoder: Option<(&'a Path, String)>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(config: &'a AugmentConfig) -> Result<Self> {
        let mut asking = Asking { config, template: None, reader: None, decoder: None };
        let writing = &config.generator;
        if matches!(writing.kind, GeneratorKind::Decoder | GeneratorKind::Http) {
            asking.template = Some(match writing.template.as_str() {
                "instructed" => Template::instructed(config.direction),
                "fields" => Template::fields(config.direction),
                path => Template::open(Path::new(path))?,
            });
        }
        if let (GeneratorKind::Decoder, Some(template)) = (writing.kind, &asking.template) {
            let expected = "a decoder: a .gguf file, or a folder with config.json and safetensors";
            let unset = || Invalid::config("generator.path", "nothing", expected);
            let path = writing.path.as_deref().ok_or_else(unset)?;
            let source = Source::open(path)?;
            asking.reader = Some(Reader::new(&source, template)?);
            asking.decoder = Some((path, model_id(&source)?));
        }
        Ok(asking)
    }

    /// Lines that a parser takes for echoes.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.template.iter().flat_map(Template::lines)
    }

    /// What prompts and keys are made with; `cut` is [`Asking::cut`].
    pub(super) fn questions<'q>(
        &'q self,
        cut: &'q dyn Fn(&str, usize) -> Result<String>,
    ) -> Result<Questions<'q>> {
        let (model_id, params) = match self.config.generator.kind {
            GeneratorKind::Extractive | GeneratorKind::Replay => (self.extractive().id(), Value::Null),
            GeneratorKind::Decoder => {
                let id = self.decoder.as_ref().map(|(_, id)| id.clone()).unwrap_or_default();
                let GeneratorConfig { max_new_tokens, temperature, top_k, top_p, .. } =
                    &self.config.generator;
                let reader = self.reader.as_ref().map(Reader::fingerprint);
                (id, json!([max_new_tokens, temperature, top_k, top_p, self.stop(), reader]))
            }
            GeneratorKind::Http => {
                let HttpConfig { model, api, max_new_tokens, temperature, top_p, extra, .. } = self.http()?;
                // The address is none of the answer's business: a server may move.
                (format!("http:{model}"), json!([api, max_new_tokens, temperature, top_p, extra]))
            }
        };
        Ok(Questions { template: self.template.as_ref(), cut, model_id, params, seed: self.config.seed })
    }

    /// The first tokens of a text; characters where the tokenizer is not at hand.
    pub(super) fn cut(&self, text: &str, tokens: usize) -> Result<String> {
        match &self.reader {
            Some(reader) => reader.cut(text, tokens),
            None => Ok(text.chars().take(tokens.saturating_mul(CHARACTERS)).collect()),
        }
    }

    /// Who answers, ready to do so.
    pub(super) fn generator(&self) -> Result<Box<dyn Generate>> {
        Ok(match (self.language_model(), &self.template) {
            (Some(model), _) => Box::new(model?),
            (None, Some(_)) => Box::new(Http::new(self.http()?)?),
            (None, None) => Box::new(self.extractive()),
        })
    }

    /// What the prompts of `items` that have no answer in `cache` would cost.
    pub(super) fn estimate(&self, items: Vec<Item>, cache: &Cache, retry: bool) -> Result<Estimate> {
        let mut estimate =
            Estimate { sources: items.len(), counted: self.template.is_none(), ..Estimate::default() };
        estimate.counted |= self.reader.is_some();
        let cut = |text: &str, tokens| self.cut(text, tokens);
        let questions = self.questions(&cut)?;
        let mut seen = std::collections::HashSet::new();
        for item in items {
            estimate.no_meta += usize::from(item.meta.is_none());
            let prompt = questions.prompt(item)?;
            if cache.has(&prompt.key, retry) || !seen.insert(prompt.key) {
                continue;
            }
            let tokens = match &self.reader {
                Some(reader) => reader.start().len() + reader.rest(&prompt.text)?.len(),
                None => prompt.text.chars().count() / CHARACTERS,
            };
            if self.reader.as_ref().is_some_and(|reader| tokens >= reader.positions()) {
                estimate.too_long += 1;
                continue;
            }
            estimate.prompts += 1;
            estimate.prompt_tokens += tokens as u64;
        }
        if self.template.is_some() {
            estimate.answer_tokens = (estimate.prompts * self.config.generator.max_new_tokens) as u64;
            let http = &self.config.http;
            let (read, written) = (estimate.prompt_tokens as f64, estimate.answer_tokens as f64);
            estimate.cost = (read * http.prompt_price + written * http.answer_price) / 1e6;
            estimate.hours = match &self.reader {
                Some(reader) => self.decoder_hours(reader, &estimate)?,
                None => http_hours(http, &estimate),
            };
        }
        Ok(estimate)
    }

    /// Hours of the decoder. What prompts have in common is read once.
    fn decoder_hours(&self, reader: &Reader, estimate: &Estimate) -> Result<f64> {
        let Some(model) = self.language_model().filter(|_| estimate.prompts > 0) else { return Ok(0.0) };
        let own = (estimate.prompt_tokens as usize).saturating_sub(estimate.prompts * reader.start().len());
        let pace = model?.pace(own / estimate.prompts)?;
        Ok((own as f64 * pace.read + estimate.answer_tokens as f64 * pace.write) / 3600.0)
    }

    fn language_model(&self) -> Option<Result<LanguageModel>> {
        let ((path, _), template) = (self.decoder.as_ref()?, self.template.as_ref()?);
        let GeneratorConfig { max_new_tokens, temperature, top_k, top_p, batch_size, .. } =
            self.config.generator;
        let sampling = Sampling { temperature, top_k, top_p };
        let writing = Writing { max_new_tokens, sampling, slots: batch_size };
        Some(LanguageModel::open(path, template, writing))
    }

    fn extractive(&self) -> Extractive {
        Extractive { most: self.config.parse.max_per_item }
    }

    fn http(&self) -> Result<HttpConfig> {
        let mut config = self.config.http.generator(&self.config.generator)?;
        if !self.stop().is_empty() {
            config.extra.entry("stop").or_insert_with(|| json!([self.stop()]));
        }
        Ok(config)
    }

    fn stop(&self) -> &str {
        self.template.as_ref().map_or("", |template| &template.stop)
    }
}

/// Hours that the rates of `http` make of an estimate.
fn http_hours(http: &HttpSettings, estimate: &Estimate) -> f64 {
    let minutes = |count: f64, rate: Option<f64>| rate.map_or(0.0, |rate| count / rate);
    let requests = minutes(estimate.prompts as f64, http.requests_per_minute.map(f64::from));
    let tokens = minutes(estimate.prompt_tokens as f64, http.tokens_per_minute.map(|n| n as f64));
    requests.max(tokens) / 60.0
}

/// Answers that are there already.
pub(super) struct Kept<'a>(pub(super) &'a mut Cache);

impl Generate for Kept<'_> {
    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        for prompt in prompts {
            let missing = || Error::Mismatch(format!("no answer for source {}", prompt.source));
            let answer = self.0.get(&prompt.key)?.ok_or_else(missing)?;
            // Another source may have asked the same.
            done(Answer { source: prompt.source, ..answer })?;
        }
        Ok(())
    }
}

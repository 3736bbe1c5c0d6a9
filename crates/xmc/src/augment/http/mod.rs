//! How does a language model behind HTTP write texts? Any endpoint with the completions or chat API of OpenAI will do: vLLM,
//! llama.cpp's server, TGI, Ollama, or one that is paid for.
//!
//! ```text
//! prompts     one by one, as answers come in: at most `concurrency` are under way
//! limits      wait until the rates allow a request; stop where tokens, cost or time run out
//! request     one call; retry says whether another one makes sense, and when
//! ```
//!
//! The key comes from an environment variable and goes into one header; it is in no message, file or debug output.

mod limits;
mod request;
mod retry;
mod silence;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xmc_data::Error as Invalid;

use self::limits::Limits;
use self::request::{Failure, Reply};
use self::retry::Backoff;
use self::silence::{Outcome, Silence};
use super::{Answer, Finish, Generate, Prompt};
use crate::error::{Error, Result};

/// Which of the two APIs an endpoint has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/v1/chat/completions`: the prompt is what a user says.
    #[default]
    Chat,
    /// `/v1/completions`: the prompt is continued.
    Completions,
}

/// Where texts are asked for, and what that may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Up to the version: `http://localhost:8080/v1`.
    pub url: String,
    /// Name of the model there.
    pub model: String,
    /// How it is asked.
    pub api: Api,
    /// Environment variable with the key; none for endpoints without.
    pub key_env: Option<String>,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Divides logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Likeliest tokens that are drawn from have this probability together.
    pub top_p: f32,
    /// Further fields of a request, such as `top_k` where a server knows it.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Requests under way at most.
    pub concurrency: usize,
    /// Requests a minute at most.
    pub requests_per_minute: Option<u32>,
    /// Tokens read and written a minute at most.
    pub tokens_per_minute: Option<u64>,
    /// Times that a request is tried.
    pub attempts: u32,
    /// First wait before another try, doubled each time, at most a minute.
    pub wait: Duration,
    /// How long a reply may take.
    pub timeout: Duration,
    /// Price of a million tokens read.
    pub prompt_price: f64,
    /// Price of a million tokens written.
    pub answer_price: f64,
    /// Tokens in all, read and written.
    pub max_tokens: Option<u64>,
    /// Cost in all, in the unit of the prices.
    pub max_cost: Option<f64>,
    /// Time in all.
    pub max_time: Option<Duration>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            url: String::new(),
            model: String::new(),
            api: Api::Chat,
            key_env: None,
            max_new_tokens: 250,
            temperature: 0.8,
            top_p: 1.0,
            extra: serde_json::Map::new(),
            concurrency: 8,
            requests_per_minute: None,
            tokens_per_minute: None,
            attempts: 8,
            wait: Duration::from_secs(1),
            timeout: Duration::from_mins(2),
            prompt_price: 0.0,
            answer_price: 0.0,
            max_tokens: None,
            max_cost: None,
            max_time: None,
        }
    }
}

/// Requests under way at most: each has a thread of its own.
pub(super) const THREADS: usize = 1024;

/// A language model behind HTTP.
pub struct Http {
    config: HttpConfig,
    key: Option<String>,
    agent: ureq::Agent,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("config", &self.config)
            .field("key", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl Http {
    /// A generator with the key that its environment variable holds now.
    ///
    /// # Errors
    /// If the address, the model or a number cannot be used, or the variable is not set.
    pub fn new(config: HttpConfig) -> Result<Self> {
        let key = config.key_env.as_deref().map(key_of).transpose()?;
        Self::with_key(config, key)
    }

    fn with_key(config: HttpConfig, key: Option<String>) -> Result<Self> {
        check(&config)?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.timeout))
            .http_status_as_error(false)
            .build();
        Ok(Http { config, key, agent: agent.into() })
    }

    /// One prompt, tried until it is answered, refused or tried often enough.
    fn answer(&self, prompt: &Prompt, limits: &Limits, stop: &AtomicBool) -> Result<Option<Outcome>> {
        let body = request::body(&self.config, prompt);
        let guess = prompt.text.len() as u64 / 4 + self.config.max_new_tokens as u64;
        let mut backoff = Backoff::new(self.config.wait, prompt.seed);
        let mut problem = String::new();
        for _ in 0..self.config.attempts {
            limits.wait(guess, stop);
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            // Much may have run out since the prompt was taken.
            limits.check(&self.config)?;
            match request::send(&self.agent, &self.config, self.key.as_deref(), &body) {
                Ok(reply) => {
                    limits.spent(guess, &reply, &self.config);
                    return Ok(Some(Outcome { answer: answered(prompt, reply), given_up: false }));
                }
                Err(Failure::Fatal(problem)) => {
                    return Err(Error::Mismatch(format!("{}: {problem}", self.config.url)));
                }
                Err(Failure::Item(problem)) => {
                    return Ok(Some(Outcome { answer: failed(prompt, &problem), given_up: false }));
                }
                Err(Failure::Passing { problem: why, after, everyone }) => {
                    let wait = backoff.next(after);
                    if everyone {
                        limits.pause(wait);
                    } else {
                        limits.sleep(wait, stop);
                    }
                    problem = why;
                }
            }
        }
        let problem = format!("{problem} (tried {} times)", self.config.attempts);
        Ok(Some(Outcome { answer: failed(prompt, &problem), given_up: true }))
    }
}

fn answered(prompt: &Prompt, reply: Reply) -> Answer {
    Answer {
        key: prompt.key.clone(),
        source: prompt.source,
        text: reply.text,
        finish: reply.finish,
        prompt_tokens: reply.prompt_tokens,
        new_tokens: reply.new_tokens,
    }
}

fn failed(prompt: &Prompt, problem: &str) -> Answer {
    let (key, text) = (prompt.key.clone(), problem.to_owned());
    Answer { key, source: prompt.source, text, finish: Finish::Failed, prompt_tokens: 0, new_tokens: 0 }
}

impl Generate for Http {
    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let limits = Limits::new(&self.config);
        let stop = AtomicBool::new(false);
        let (ask, asked) = mpsc::channel::<Prompt>();
        let (tell, told) = mpsc::channel();
        let asked = Mutex::new(asked);
        std::thread::scope(|threads| {
            for thread in 0..self.config.concurrency {
                let (tell, asked, limits, stop, this) = (tell.clone(), &asked, &limits, &stop, &*self);
                let work = move || {
                    loop {
                        let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(prompt) = next else { return };
                        if tell.send(this.answer(&prompt, limits, stop)).is_err() {
                            return;
                        }
                    }
                };
                // With fewer threads than asked for it takes longer.
                match std::thread::Builder::new().spawn_scoped(threads, work) {
                    Err(problem) if thread == 0 => {
                        return Err(Error::Mismatch(format!("no thread can be started: {problem}")));
                    }
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            drop(tell);
            let (mut under_way, mut silence) = (0, Silence::default());
            let mut outcome = Ok(());
            loop {
                // What runs out stops new requests; answers that are paid for are still kept.
                while outcome.is_ok() && under_way < self.config.concurrency {
                    outcome = limits.check(&self.config);
                    let Some(prompt) = outcome.is_ok().then(|| prompts.next()).flatten() else { break };
                    under_way += usize::from(ask.send(prompt).is_ok());
                }
                if under_way == 0 {
                    break;
                }
                let Ok(result) = told.recv() else { break };
                under_way -= 1;
                let heard =
                    result.and_then(|heard| heard.map_or(Ok(Vec::new()), |heard| silence.hear(heard)));
                let kept = heard.and_then(|answers| answers.into_iter().try_for_each(&mut *done));
                if let Err(problem) = kept {
                    stop.store(true, Ordering::Relaxed);
                    outcome = outcome.and(Err(problem));
                }
            }
            drop(ask);
            outcome.and_then(|()| silence.rest().into_iter().try_for_each(done))
        })
    }
}

/// Refuses what is no usual name of an environment variable, and does not show it: it may be the key itself.
pub(super) fn check_key_env(name: &str) -> xmc_data::error::Result<()> {
    let usual = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.bytes().all(usual) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    let expected = "the name of an environment variable in capital letters, such as API_KEY; the key itself belongs into the \
                    variable";
    Err(Invalid::config("http.key_env", "something else", expected))
}

/// Host and port of an address; nothing of one with a password in it is shown.
pub(super) fn host(url: &str) -> xmc_data::error::Result<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if url.contains('@') {
        let expected =
            "an address without user and password; a key goes into an environment variable (http.key_env)";
        return Err(Invalid::config("http.url", "an address with `@`", expected));
    }
    if host.is_empty() {
        return Err(Invalid::config("http.url", url, "an address such as http://localhost:8080/v1"));
    }
    Ok(host)
}

/// The key in the environment variable `name`.
fn key_of(name: &str) -> Result<String> {
    check_key_env(name)?;
    let expected = "the name of an environment variable that holds the key; set it before you start";
    let key = std::env::var(name).ok().filter(|key| !key.trim().is_empty());
    let key = key.ok_or_else(|| Invalid::config("http.key_env", name, expected))?;
    if key.trim().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key.trim().to_owned());
    }
    Err(Invalid::config("http.key_env", name, "a variable with a key of visible ASCII characters").into())
}

fn check(config: &HttpConfig) -> Result<()> {
    host(&config.url)?;
    let checks = [
        ("http.model", config.model.clone(), !config.model.is_empty(), "the model's name at the endpoint"),
        (
            "http.concurrency",
            config.concurrency.to_string(),
            (1..=THREADS).contains(&config.concurrency),
            "from 1 to 1024",
        ),
        ("http.attempts", config.attempts.to_string(), config.attempts > 0, "at least 1"),
        (
            "http.requests_per_minute",
            format!("{:?}", config.requests_per_minute),
            config.requests_per_minute != Some(0),
            "at least 1, or nothing for any number",
        ),
        (
            "http.tokens_per_minute",
            format!("{:?}", config.tokens_per_minute),
            config.tokens_per_minute != Some(0),
            "at least 1, or nothing for any number",
        ),
    ];
    match checks.into_iter().find(|(_, _, good, _)| !good) {
        Some((key, value, _, expected)) => Err(Invalid::config(key, value, expected).into()),
        None => Ok(()),
    }
}

//! What does an endpoint read and say? One call, and which kind of failure it was.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};

use super::retry::asked;
use super::{Api, HttpConfig};
use crate::augment::{Finish, Prompt};

/// No reply is longer than this many bytes.
const LONGEST: u64 = 16 << 20;

/// Characters of a message at most.
const MESSAGE: usize = 400;

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) finish: Finish,
    pub(super) prompt_tokens: u64,
    pub(super) new_tokens: u64,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// Nothing will: the key, the address or the model is wrong.
    Fatal(String),
    /// Not for this prompt.
    Item(String),
    /// It may work later.
    Passing {
        /// What happened.
        problem: String,
        /// How long the server asked to wait.
        after: Option<Duration>,
        /// Whether all requests shall wait.
        everyone: bool,
    },
}

/// What is sent for a prompt.
pub(super) fn body(config: &HttpConfig, prompt: &Prompt) -> Vec<u8> {
    let mut body = json!({
        "model": config.model,
        "max_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        // Where a server knows seeds, the same prompt is answered alike; the range is that of signed 32 bits.
        "seed": prompt.seed & 0x7fff_ffff,
    });
    match config.api {
        Api::Chat => body["messages"] = json!([{ "role": "user", "content": prompt.text }]),
        Api::Completions => body["prompt"] = Value::from(prompt.text.as_str()),
    }
    for (name, value) in &config.extra {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

/// One call. No failure shows the key, which some servers repeat.
pub(super) fn send(
    agent: &ureq::Agent,
    config: &HttpConfig,
    key: Option<&str>,
    body: &[u8],
) -> Result<Reply, Failure> {
    call(agent, config, key, body).map_err(|failure| match failure {
        Failure::Fatal(problem) => Failure::Fatal(shown(&problem, key)),
        Failure::Item(problem) => Failure::Item(shown(&problem, key)),
        Failure::Passing { problem, after, everyone } => {
            Failure::Passing { problem: shown(&problem, key), after, everyone }
        }
    })
}

/// What may be shown of a message: the beginning, without the key as it is and as JSON writes it.
fn shown(problem: &str, key: Option<&str>) -> String {
    let mut problem = problem.to_owned();
    if let Some(key) = key {
        let quoted = Value::from(key).to_string();
        let inside = quoted.get(1..quoted.len() - 1).unwrap_or(key);
        problem = problem.replace(inside, "(key)").replace(key, "(key)");
    }
    problem.chars().take(MESSAGE).collect()
}

fn call(agent: &ureq::Agent, config: &HttpConfig, key: Option<&str>, body: &[u8]) -> Result<Reply, Failure> {
    let path = match config.api {
        Api::Chat => "chat/completions",
        Api::Completions => "completions",
    };
    let mut request = agent
        .post(format!("{}/{path}", config.url.trim_end_matches('/')))
        .header("Content-Type", "application/json");
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let passing = |problem: String| Failure::Passing { problem, after: None, everyone: false };
    let mut response = request.send(body).map_err(|e| unreachable(&e))?;
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let after = header.and_then(|value| asked(value, SystemTime::now()));
    let text = response.body_mut().with_config().limit(LONGEST).read_to_string();
    if status != 200 {
        return Err(refused(status, after, &text.unwrap_or_default()));
    }
    let text = text.map_err(|e| passing(format!("a reply that broke off: {e}")))?;
    reply(&text, config.api).map_err(|problem| passing(format!("a reply that is not understood: {problem}")))
}

/// A call that got no reply.
fn unreachable(problem: &ureq::Error) -> Failure {
    match problem {
        ureq::Error::BadUri(_) | ureq::Error::HostNotFound | ureq::Error::Http(_) => {
            Failure::Fatal(format!("cannot be asked ({problem}): check http.url"))
        }
        _ => Failure::Passing { problem: format!("no reply: {problem}"), after: None, everyone: false },
    }
}

/// A reply with another status than 200.
fn refused(status: u16, after: Option<Duration>, text: &str) -> Failure {
    let problem = format!("status {status}: {}", message(text));
    match status {
        429 | 503 => Failure::Passing { problem, after, everyone: true },
        408 | 409 | 425 | 500..=599 => Failure::Passing { problem, after, everyone: false },
        400 | 413 | 422 => Failure::Item(problem),
        401 | 403 => Failure::Fatal(format!("check the key (http.key_env): {problem}")),
        _ => Failure::Fatal(format!("check http.url and http.model: {problem}")),
    }
}

/// What a server says of an error: `{"error": {"message": …}}`, or plain text.
fn message(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &value["error"];
    error["message"].as_str().or(error.as_str()).unwrap_or(text).trim().to_owned()
}

#[derive(Deserialize)]
struct Raw {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<Message>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

fn reply(text: &str, api: Api) -> Result<Reply, String> {
    let raw: Raw = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let choice = raw.choices.into_iter().next().ok_or("no choice in it")?;
    let text = match api {
        Api::Chat => choice.message.and_then(|message| message.content),
        Api::Completions => choice.text,
    };
    let finish = match choice.finish_reason.as_deref() {
        Some("length") => Finish::Length,
        Some("content_filter") => Finish::Failed,
        _ => Finish::Stop,
    };
    let text = match (text, finish) {
        (_, Finish::Failed) => "withheld by the server's content filter".to_owned(),
        (text, _) => text.ok_or("no text in it")?,
    };
    Ok(Reply {
        text,
        finish,
        prompt_tokens: raw.usage.prompt_tokens,
        new_tokens: raw.usage.completion_tokens,
    })
}

//! How does a decoder on this machine write texts? Its prompts have a common start, which is computed once; texts are continued
//! side by side, the longest prompts of a few hundred first, and each by draws of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use xmc_nn::decoder::{Decoder, Prefix, Quantization, Source};
use xmc_nn::generate::{self, Generated, Generator, Request, Sampling};
use xmc_nn::hf::Tokenizer;

use super::chat::Chat;
use super::template::Template;
use super::{Answer, Finish, Generate, Prompt};
use crate::encoder::PrecisionChoice;
use crate::error::{Error, Result};

/// Prompts that are sorted by length together.
const WINDOW: usize = 256;

/// How texts are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Writing {
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts that are continued side by side.
    pub slots: usize,
}

/// Cuts and counts texts by the tokens of a decoder, without its weights.
#[derive(Debug)]
pub struct Reader {
    tokenizer: Tokenizer,
    /// What all prompts begin with, and its ids, those of the chat before it too.
    start: (String, Vec<u32>),
    behind: Vec<u32>,
    /// Where answers end, and the token that it is, if it is one.
    stop: (String, Option<u32>),
    positions: usize,
}

impl Reader {
    /// A reader of prompts by `template` for the decoder `source`.
    ///
    /// # Errors
    /// If the decoder has no tokenizer, or its chats cannot be written.
    pub fn new(source: &Source, template: &Template) -> Result<Self> {
        let config = source.config();
        // One more than fits, to tell what does not.
        let tokenizer = source.tokenizer(config.positions + 1)?;
        let special = |name| source.special(name).unwrap_or_default();
        let chat = match source.chat_template().filter(|_| template.chat) {
            Some(chat) => Chat::new(&chat, [&special("bos_token"), &special("eos_token")])?,
            None => Chat::default(),
        };
        let words = template.start()?;
        let mut start = tokenizer.encode_words(&chat.before)?;
        if let Some(bos) = config.bos.filter(|bos| config.add_bos && start.first() != Some(bos)) {
            start.insert(0, bos);
        }
        start.extend(tokenizer.encode_words(&words)?);
        let behind = tokenizer.encode_words(&chat.behind)?;
        let stop = match tokenizer.encode_words(&template.stop)?[..] {
            [id] => Some(id),
            _ => None,
        };
        let stop = (template.stop.clone(), stop);
        Ok(Reader { tokenizer, start: (words, start), behind, stop, positions: config.positions })
    }

    /// The first `tokens` tokens of a text.
    pub fn cut(&self, text: &str, tokens: usize) -> Result<String> {
        let ids = self.tokenizer.encode_words(text)?;
        if ids.len() <= tokens {
            return Ok(text.to_owned());
        }
        let mut end = tokens;
        loop {
            let words = self.tokenizer.decode(ids.get(..end).unwrap_or_default())?;
            // A character of several tokens may be cut in two.
            let words = words.trim_end_matches(char::REPLACEMENT_CHARACTER);
            if end == 0 || self.tokenizer.encode_words(words)?.len() <= tokens {
                return Ok(words.to_owned());
            }
            end -= 1;
        }
    }

    /// Tokens that the decoder reads for a prompt.
    pub fn count(&self, prompt: &str) -> Result<u64> {
        Ok((self.start.1.len() + self.rest(prompt)?.len()) as u64)
    }

    /// Ids behind the common start.
    fn rest(&self, prompt: &str) -> Result<Vec<u32>> {
        let words = prompt
            .strip_prefix(self.start.0.as_str())
            .ok_or_else(|| Error::Mismatch("a prompt that does not begin as its template does".to_owned()))?;
        let mut ids = self.tokenizer.encode_words(words)?;
        ids.extend_from_slice(&self.behind);
        Ok(ids)
    }
}

/// A decoder that answers prompts.
#[derive(Debug)]
pub struct LanguageModel {
    decoder: Decoder,
    reader: Reader,
    writing: Writing,
    id: String,
}

impl LanguageModel {
    /// Reads the decoder at `path`, for prompts by `template`.
    pub fn open(path: &Path, template: &Template, writing: Writing) -> Result<Self> {
        let source = Source::open(path)?;
        writing.sampling.check()?;
        let reader = Reader::new(&source, template)?;
        let decoder = Decoder::open(&source, Quantization::Stored, PrecisionChoice::Auto.resolve())?;
        Ok(LanguageModel { decoder, reader, writing, id: model_id(&source)? })
    }

    fn prefix(&self) -> Result<Option<Prefix>> {
        let ids = &self.reader.start.1;
        if ids.is_empty() {
            return Ok(None);
        }
        let mut rows = vec![0.0; ids.len() * self.decoder.config().hidden];
        self.decoder.embed(ids, &mut rows);
        Ok(Some(self.decoder.prefix(&rows)?))
    }

    /// What is continued, or why it cannot be.
    fn request(&self, prompt: &Prompt) -> std::result::Result<Request, String> {
        let ids = self.reader.rest(&prompt.text).map_err(|problem| problem.to_string())?;
        if ids.is_empty() {
            return Err("a prompt with no token behind what all begin with".to_owned());
        }
        let tokens = self.reader.start.1.len() + ids.len();
        if tokens >= self.reader.positions {
            return Err(format!(
                "a prompt of {tokens} tokens or more, the decoder has {} positions: lower body_tokens in the template",
                self.reader.positions
            ));
        }
        Ok(Request {
            prompt: ids,
            seed: prompt.seed,
            max_new_tokens: self.writing.max_new_tokens,
            stop: self.decoder.config().eos.iter().copied().chain(self.reader.stop.1).collect(),
        })
    }

    fn answer(&self, asked: Asked, generated: &Generated) -> Result<Answer> {
        let mut text = self.reader.tokenizer.decode(&generated.ids)?;
        let stop = Some(self.reader.stop.0.as_str()).filter(|stop| !stop.is_empty());
        let end = stop.and_then(|stop| text.find(stop));
        text.truncate(end.unwrap_or(text.len()));
        let complete = end.is_some() || generated.finish == generate::Finish::Stop;
        let finish = if complete { Finish::Stop } else { Finish::Length };
        Ok(Answer {
            key: asked.key,
            source: asked.source,
            text,
            finish,
            prompt_tokens: asked.tokens,
            new_tokens: generated.ids.len() as u64,
        })
    }
}

/// Name of the decoder in answers: a hash of its weights.
pub fn model_id(source: &Source) -> Result<String> {
    Ok(format!("decoder:{}", source.fingerprint()?))
}

/// A prompt under way.
struct Asked {
    key: String,
    source: u32,
    tokens: u64,
}

impl Generate for LanguageModel {
    fn model_id(&self) -> String {
        self.id.clone()
    }

    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let mut generator =
            Generator::new(&self.decoder, self.writing.sampling, self.writing.slots, self.prefix()?)?;
        let start = self.reader.start.1.len();
        let (asked, failed) = (RefCell::new(HashMap::new()), RefCell::new(Vec::new()));
        let number = Cell::new(0);
        let mut window: Vec<(Prompt, Request)> = Vec::new();
        let mut prompts = prompts.fuse();
        let requests = std::iter::from_fn(|| {
            // All of a window may be refused.
            while window.is_empty() {
                let mut next = prompts.by_ref().take(WINDOW).peekable();
                next.peek()?;
                for prompt in next {
                    match self.request(&prompt) {
                        Ok(request) => window.push((prompt, request)),
                        Err(problem) => failed.borrow_mut().push(refused(prompt, problem)),
                    }
                }
                // The longest last, from where they are taken.
                window.sort_by_key(|(_, request)| request.prompt.len());
            }
            let (prompt, request) = window.pop()?;
            let tokens = (start + request.prompt.len()) as u64;
            asked.borrow_mut().insert(number.get(), Asked { key: prompt.key, source: prompt.source, tokens });
            number.set(number.get() + 1);
            Some(request)
        });
        let mut problem = None;
        let ran = generator.run(requests, &mut |number, generated| {
            let Some(asked) = asked.borrow_mut().remove(&number) else { return Ok(()) };
            self.answer(asked, &generated).and_then(&mut *done).map_err(|found| {
                problem = Some(found);
                xmc_nn::Error::Shape("stopped".to_owned())
            })
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        ran?;
        failed.take().into_iter().try_for_each(done)
    }
}

fn refused(prompt: Prompt, problem: String) -> Answer {
    let (key, source) = (prompt.key, prompt.source);
    Answer { key, source, text: problem, finish: Finish::Failed, prompt_tokens: 0, new_tokens: 0 }
}

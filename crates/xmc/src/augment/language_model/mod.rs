//! How does a decoder on this machine write texts? Its prompts have a common start, which is computed once; texts are continued
//! side by side, the longest prompts of a few hundred first, and each by draws of its own.

mod reader;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use xmc_nn::decoder::{Decoder, Prefix, Quantization, Source};
use xmc_nn::generate::{self, Generated, Generator, Request, Sampling};

pub use reader::Reader;

use super::template::Template;
use super::{Answer, Finish, Generate, Prompt};
use crate::encoder::PrecisionChoice;
use crate::error::Result;

/// Prompts that are sorted by length together.
const WINDOW: usize = 256;

/// Tokens that are written to measure a pace.
const STEPS: usize = 8;

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

/// A decoder that answers prompts.
#[derive(Debug)]
pub struct LanguageModel {
    decoder: Decoder,
    reader: Reader,
    writing: Writing,
}

impl LanguageModel {
    /// Reads the decoder at `path`, for prompts by `template`.
    pub fn open(path: &Path, template: &Template, writing: Writing) -> Result<Self> {
        let source = Source::open(path)?;
        writing.sampling.check()?;
        let reader = Reader::new(&source, template)?;
        let decoder = Decoder::open(&source, Quantization::Stored, PrecisionChoice::Auto.resolve())?;
        Ok(LanguageModel { decoder, reader, writing })
    }

    fn prefix(&self) -> Result<Option<Prefix>> {
        let ids = self.reader.start();
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
        let tokens = self.reader.start().len() + ids.len();
        if tokens >= self.reader.positions() {
            return Err(format!(
                "a prompt of {tokens} tokens or more, the decoder has {} positions: lower body_tokens in the template",
                self.reader.positions()
            ));
        }
        Ok(Request {
            prompt: ids,
            seed: prompt.seed,
            max_new_tokens: self.writing.max_new_tokens,
            stop: self.decoder.config().eos.clone(),
        })
    }

    fn answer(&self, asked: Asked, generated: &Generated) -> Result<Answer> {
        let (text, stopped) = self.reader.text(&generated.ids)?;
        let complete = stopped || generated.finish == generate::Finish::Stop;
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

/// What a decoder takes on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds for a token of a prompt.
    pub read: f64,
    /// Seconds for a token of an answer, where all slots are busy.
    pub write: f64,
}

impl LanguageModel {
    /// Measures how fast prompts of `tokens` tokens are read and answered, by a few of them.
    pub fn pace(&self, tokens: usize) -> Result<Pace> {
        let slots = self.writing.slots;
        let tokens = tokens.clamp(1, (self.reader.positions() / 2).max(1));
        let seconds = |new: usize| -> Result<f64> {
            let request = Request { prompt: vec![0; tokens], max_new_tokens: new, ..Request::default() };
            let mut generator = Generator::new(&self.decoder, self.writing.sampling, slots, None)?;
            let begin = Instant::now();
            generator.run(std::iter::repeat_n(request, slots), &mut |_, _| Ok(()))?;
            Ok(begin.elapsed().as_secs_f64())
        };
        // The first pass makes weights ready.
        seconds(1)?;
        let (first, more) = (seconds(1)?, seconds(1 + STEPS)?);
        let write = (more - first).max(0.0) / (STEPS * slots) as f64;
        Ok(Pace { read: first / (tokens * slots) as f64, write })
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
    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        let mut generator =
            Generator::new(&self.decoder, self.writing.sampling, self.writing.slots, self.prefix()?)?;
        let start = self.reader.start().len();
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
        let complete = |ids: &[u32]| self.reader.is_complete(ids);
        let ran = generator.run_until(requests, &complete, &mut |number, generated| {
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

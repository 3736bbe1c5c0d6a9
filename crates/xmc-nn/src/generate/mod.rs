//! How does a decoder continue texts, many at a time?
//!
//! A [`Generator`] has so many slots, each a sequence with its own [cache](cache) of keys and values. Prompts are computed
//! at once, as many tokens as matrices like ([`prefill`]); then all slots take [steps](step) of one token together, and a
//! slot whose text is done takes the next request. A text depends on its prompt and seed alone, to the bit, and neither
//! on the number of slots nor on the order of requests nor on threads: prompts always go through the dense products and
//! steps through those of bytes, each of which sums in one order.
//!
//! [`log_likelihood`] says how likely a decoder finds texts that exist.

mod cache;
mod likelihood;
mod prefill;
mod sampling;
mod step;
mod team;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use likelihood::log_likelihood;
pub(crate) use likelihood::{Place, followers};
pub use sampling::Sampling;

use crate::decoder::{Decoder, Prefix};
use crate::error::{Error, Result};
use cache::Cache;
use sampling::Sampler;
use step::Step;

/// Tokens of prompts that are computed at once; a longer prompt goes alone.
const PREFILL: usize = 2048;

/// A text to continue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Draws are a function of it and of the number of tokens before.
    pub seed: u64,
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// Ids that end the text; they are not part of it.
    pub stop: Vec<u32>,
}

/// Whether a text of these tokens is complete.
pub type Complete<'a> = &'a (dyn Fn(&[u32]) -> bool + Sync);

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// By a stop token, or because it says all that it should.
    Stop,
    /// It has as many tokens as were asked for, or as the decoder has positions.
    Length,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Tokens behind the prompt, without the stop token.
    pub ids: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
    /// Sum of the logarithms of the probabilities of all drawn tokens, the stop token too, in the whole softmax at
    /// temperature 1.
    pub log_likelihood: f64,
}

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were answered.
    pub requests: usize,
    /// Tokens of their prompts, without the prefix.
    pub prompt_tokens: usize,
    /// Tokens that were drawn, stop tokens too.
    pub new_tokens: usize,
    /// Passes over all weights for these.
    pub steps: usize,
}

/// Continues texts; keeps caches and buffers.
#[derive(Debug)]
pub struct Generator<'a> {
    decoder: &'a Decoder,
    sampling: Sampling,
    prefix: Option<Prefix>,
    slots: Vec<Slot>,
    step: Step,
}

/// A sequence that grows.
#[derive(Debug, Default)]
struct Slot {
    /// The request's number, while there is one.
    number: Option<usize>,
    request: Request,
    /// Most tokens to add: as asked, or as positions allow.
    limit: usize,
    cache: Cache,
    sampler: Sampler,
    ids: Vec<u32>,
    log_likelihood: f64,
}

impl<'a> Generator<'a> {
    /// A generator with `slots` sequences at a time, at least one. All prompts stand behind `prefix`.
    ///
    /// # Errors
    /// If `sampling` has numbers without meaning.
    pub fn new(
        decoder: &'a Decoder,
        sampling: Sampling,
        slots: usize,
        prefix: Option<Prefix>,
    ) -> Result<Self> {
        sampling.check()?;
        let slots = (0..slots.max(1)).map(|_| Slot::default()).collect();
        Ok(Generator { decoder, sampling, prefix, slots, step: Step::default() })
    }

    /// Answers all requests; `done` is given the number of a request, counted from 0, and its continuation, in the order
    /// in which they end.
    ///
    /// # Errors
    /// If a prompt is empty, too long or has ids beyond the vocabulary, if logits are not finite, or as `done`.
    pub fn run(
        &mut self,
        requests: impl Iterator<Item = Request>,
        done: &mut dyn FnMut(usize, Generated) -> Result<()>,
    ) -> Result<Usage> {
        self.run_until(requests, &|_| false, done)
    }

    /// The same; a text also ends, all of its tokens in it, as soon as `complete` says so of its tokens.
    pub fn run_until(
        &mut self,
        requests: impl Iterator<Item = Request>,
        complete: Complete<'_>,
        done: &mut dyn FnMut(usize, Generated) -> Result<()>,
    ) -> Result<Usage> {
        let mut usage = Usage::default();
        let mut requests = requests.enumerate().fuse();
        // A run that failed may have left some.
        self.slots.iter_mut().for_each(|slot| slot.number = None);
        loop {
            let fresh = self.take(&mut requests, &mut usage, done)?;
            if fresh > 0 {
                self.prefill(&mut usage, complete, done)?;
                // Those of one token are done already and make room.
                continue;
            }
            if self.slots.iter().all(|slot| slot.number.is_none()) {
                return Ok(usage);
            }
            self.advance(&mut usage, complete, done)?;
        }
    }

    /// Gives requests to free slots, as many tokens as a pass takes; says how many.
    fn take(
        &mut self,
        requests: &mut impl Iterator<Item = (usize, Request)>,
        usage: &mut Usage,
        done: &mut dyn FnMut(usize, Generated) -> Result<()>,
    ) -> Result<usize> {
        let before = self.prefix.as_ref().map_or(0, Prefix::len);
        let (mut taken, mut tokens) = (0, 0);
        for slot in self.slots.iter_mut().filter(|slot| slot.number.is_none()) {
            if tokens >= PREFILL {
                break;
            }
            // Requests for nothing need no slot.
            let next = loop {
                let Some((number, request)) = requests.next() else { return Ok(taken) };
                check(self.decoder, number, &request.prompt, before)?;
                usage.requests += 1;
                if request.max_new_tokens > 0 {
                    break (number, request);
                }
                done(number, Generated { ids: Vec::new(), finish: Finish::Length, log_likelihood: 0.0 })?;
            };
            tokens += next.1.prompt.len();
            usage.prompt_tokens += next.1.prompt.len();
            slot.start(self.decoder, next, before);
            taken += 1;
        }
        Ok(taken)
    }

    /// Computes the prompts that were just taken, and their first tokens.
    fn prefill(
        &mut self,
        usage: &mut Usage,
        complete: Complete<'_>,
        done: &mut dyn FnMut(usize, Generated) -> Result<()>,
    ) -> Result<()> {
        let mut fresh: Vec<&mut Slot> = self.slots.iter_mut().filter(|slot| slot.is_fresh()).collect();
        let (prompts, mut caches): (Vec<&[u32]>, Vec<&mut Cache>) =
            fresh.iter_mut().map(|slot| (&*slot.request.prompt, &mut slot.cache)).unzip();
        let mut logits = prefill::prefill(self.decoder, &prompts, &mut caches, self.prefix.as_ref())?;
        let how = (&self.sampling, complete);
        draw(&mut fresh, how, &mut logits, self.decoder.config().vocab, usage, done)
    }

    /// One more token for every sequence.
    fn advance(
        &mut self,
        usage: &mut Usage,
        complete: Complete<'_>,
        done: &mut dyn FnMut(usize, Generated) -> Result<()>,
    ) -> Result<()> {
        let mut active: Vec<&mut Slot> = self.slots.iter_mut().filter(|slot| slot.number.is_some()).collect();
        let ids: Vec<u32> = active.iter().filter_map(|slot| slot.ids.last().copied()).collect();
        let mut caches: Vec<&mut Cache> = active.iter_mut().map(|slot| &mut slot.cache).collect();
        let logits = self.step.run(self.decoder, &mut caches, &ids);
        usage.steps += 1;
        draw(&mut active, (&self.sampling, complete), logits, self.decoder.config().vocab, usage, done)
    }
}

/// Draws a token for every slot from `logits [slots, vocab]`; slots that end become free.
fn draw(
    slots: &mut [&mut Slot],
    (sampling, complete): (&Sampling, Complete<'_>),
    logits: &mut [f32],
    vocab: usize,
    usage: &mut Usage,
    done: &mut dyn FnMut(usize, Generated) -> Result<()>,
) -> Result<()> {
    usage.new_tokens += slots.len();
    let ends: Vec<Option<Finish>> = slots
        .par_iter_mut()
        .zip(logits.par_chunks_exact_mut(vocab))
        .map(|(slot, logits)| slot.draw(logits, sampling, complete))
        .collect::<Result<_>>()?;
    for (slot, finish) in slots.iter_mut().zip(ends) {
        if let (Some(finish), Some(number)) = (finish, slot.number) {
            slot.number = None;
            let ids = std::mem::take(&mut slot.ids);
            done(number, Generated { ids, finish, log_likelihood: slot.log_likelihood })?;
        }
    }
    Ok(())
}

impl Slot {
    /// Takes a request that stands behind `before` tokens.
    fn start(&mut self, decoder: &Decoder, (number, request): (usize, Request), before: usize) {
        let config = decoder.config();
        let used = before + request.prompt.len();
        // The last token is drawn, not computed.
        self.limit = request.max_new_tokens.min(config.positions - used + 1);
        self.cache.reset(config.layers, config.kv_heads, config.head_dim, used + self.limit - 1);
        self.number = Some(number);
        self.request = request;
        self.ids.clear();
        self.log_likelihood = 0.0;
    }

    /// Whether the prompt has yet to be computed.
    fn is_fresh(&self) -> bool {
        self.number.is_some() && self.cache.len() == 0
    }

    /// The next token; why the text ends with it, if it does.
    fn draw(
        &mut self,
        logits: &mut [f32],
        sampling: &Sampling,
        complete: Complete<'_>,
    ) -> Result<Option<Finish>> {
        let drawn = self.sampler.draw(logits, sampling, self.request.seed, self.ids.len())?;
        self.log_likelihood += drawn.log_probability;
        if self.request.stop.contains(&drawn.id) {
            return Ok(Some(Finish::Stop));
        }
        self.ids.push(drawn.id);
        if complete(&self.ids) {
            return Ok(Some(Finish::Stop));
        }
        Ok((self.ids.len() == self.limit).then_some(Finish::Length))
    }
}

/// Refuses what cannot be continued.
fn check(decoder: &Decoder, number: usize, prompt: &[u32], before: usize) -> Result<()> {
    let config = decoder.config();
    if prompt.is_empty() {
        return Err(Error::Shape(format!(
            "request {number} has no prompt tokens; expected at least one to continue"
        )));
    }
    if let Some(id) = prompt.iter().find(|&&id| id as usize >= config.vocab) {
        let vocab = config.vocab;
        return Err(Error::Shape(format!("request {number}: token id {id}, expected less than {vocab}")));
    }
    if before + prompt.len() > config.positions {
        return Err(Error::Shape(format!(
            "request {number}: {} tokens with the prefix, expected at most {}; cut the prompt",
            before + prompt.len(),
            config.positions
        )));
    }
    Ok(())
}

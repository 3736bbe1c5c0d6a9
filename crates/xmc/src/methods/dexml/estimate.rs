//! How long will a training take, and how much memory? Said before it begins, from one micro-batch that is timed.
//!
//! ```text
//! tokens of a step      those of its rows and of the names in its pool
//! operations            6 for each parameter and token: 2 forward, 4 backward; 8 where tokens pass twice
//! memory                what the process has after the micro-batch; gradients and both moments of AdamW; what the
//!                       encoder remembers of a step (the input of every layer) and works with in one layer; the
//!                       embeddings of a step with their gradients
//!
//! Measured with MiniLM-L6, 20,900 tokens a step: 1.0 GB said, 1.3 GB taken.
//! ```

use std::time::Instant;

use xmc_nn::loss::Targets;
use xmc_nn::tokens::{self, Tokens};

use super::config::{Head, Negatives};
use super::learner::Learner;
use super::negatives::Sampler;
use super::training::Task;
use crate::error::{Error, Result};
use crate::memory;

/// Work of a training.
struct Work {
    /// Tokens of a step.
    tokens: f64,
    /// Labels of a step.
    labels: f64,
    /// Tokens that are only embedded, in all validations and minings.
    scored: f64,
}

/// Says what is ahead; refuses what does not fit into the memory allowed.
pub(super) fn announce(task: &Task<'_>, learner: &Learner<'_>, sampler: &Sampler) -> Result<()> {
    let Task { config, events, options, .. } = *task;
    let work = work(task, sampler);
    let (seconds, parameters) = (seconds_per_token(task, learner)?, learner.tower().layout().len() as f64);
    let again = (work.tokens - config.tape_tokens as f64).max(0.0) / work.tokens.max(1.0);
    // A second forward pass is a third of forward and backward.
    let per_step = work.tokens * (1.0 + again / 3.0) * seconds;
    let total = per_step * task.steps() as f64 + work.scored * seconds / 3.0;
    let operations = 6.0 * parameters * work.tokens * (1.0 + again / 3.0) * task.steps() as f64;
    let held = 3.0 * parameters + 4.0 * work.labels * learner.tower().dim() as f64;
    let shape = learner.tower().transformer_config();
    let taped = work.tokens.min((config.tape_tokens + config.tokens_per_batch) as f64);
    let tape = taped * ((shape.layers + 1) * shape.hidden) as f64;
    // What is laid out for the products of one layer, of the largest micro-batch.
    let layer =
        work.tokens.min(config.tokens_per_batch as f64) * (6 * shape.hidden + 2 * shape.intermediate) as f64;
    let bytes = memory::peak() + 4 * (held + tape + layer) as u64;
    events.message(&format!(
        "{} rows, {} labels, {} parameters; a step has {:.0} tokens and {:.0} labels, an epoch {} steps and {:.1} \
         million tokens",
        task.split.learn.len(),
        task.data.labels.len(),
        parameters,
        work.tokens,
        work.labels,
        task.batches(),
        work.tokens * task.batches() as f64 / 1e6
    ));
    events.message(&format!(
        "{} epochs: about {} ({:.1e} operations), {} of memory",
        config.epochs,
        duration(total),
        operations,
        memory::show(bytes)
    ));
    match options.max_memory {
        Some(allowed) if bytes > allowed => Err(Error::Memory {
            needed: bytes,
            allowed,
            part: "encoder, optimiser and activations",
            part_bytes: bytes,
            advice: "lower tokens_per_batch and tape_tokens, or take a smaller encoder",
        }),
        _ => Ok(()),
    }
}

/// Counts tokens, the pool of the first step standing for all.
fn work(task: &Task<'_>, sampler: &Sampler) -> Work {
    let Task { config, tokens, split, data, .. } = *task;
    let rows = &split.learn[..split.learn.len().min(config.batch_size)];
    let pool = sampler.draw(0, rows, &Targets::from_csr(&data.train.y, rows, false), None);
    let all = data.labels.len();
    let (count, names) = match &pool.labels {
        None => (all, tokens.labels.total()),
        Some(labels) => {
            (labels.len(), labels.iter().map(|&l| tokens.labels.row_len(l as usize) as u64).sum())
        }
    };
    let mean = tokens.rows.total() as f64 / tokens.rows.len().max(1) as f64;
    let names_of = |count: u64| if config.head == Head::LabelText { count as f64 } else { 0.0 };
    let validations = if split.validate.is_empty() { 0 } else { config.epochs / config.evaluate_every + 1 };
    let minings = match config.negatives {
        Negatives::Hard => config.epochs.saturating_sub(config.mine_after).div_ceil(config.mine_every),
        _ => 0,
    };
    let once = |rows: usize| rows as f64 * mean + names_of(tokens.labels.total());
    Work {
        tokens: rows.len() as f64 * mean + names_of(names),
        labels: count as f64,
        scored: validations as f64 * once(split.validate.len()) + minings as f64 * once(split.learn.len()),
    }
}

/// Times forward and backward on some training rows.
fn seconds_per_token(task: &Task<'_>, learner: &Learner<'_>) -> Result<f64> {
    let rows: &Tokens = &task.tokens.rows;
    let few = &task.split.learn[..task.split.learn.len().min(task.config.batch_size)];
    let groups = tokens::by_budget(rows, few, task.config.tokens_per_batch.min(2048));
    // The middle one has texts of usual length.
    let Some(group) = groups.get(groups.len() / 2) else { return Ok(0.0) };
    let batch = rows.batch(group);
    let mut grads = vec![0.0; learner.tower().layout().len()];
    let start = Instant::now();
    let (embeddings, tape) = learner.tower().embed_train(&batch, None)?;
    learner.tower().backward(&batch, tape, &embeddings, &mut grads)?;
    Ok(start.elapsed().as_secs_f64() / batch.tokens().max(1) as f64)
}

/// `4000` to `1 h 7 min`.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_words() {
        assert_eq!([12.0, 95.0, 4000.0].map(duration), ["12 s", "2 min", "1 h 7 min"]);
    }
}

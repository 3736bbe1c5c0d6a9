//! How long will a training take, and how much memory? Said before it begins, from one micro-batch that is timed.
//!
//! ```text
//! tokens of a step      those of its rows and of the names in its pool
//! operations            6 for each weight of the layers and token: 2 forward, 4 backward; 8 where tokens pass twice;
//!                       8 for each value of a text and label that meet in the loss
//! time                  that of the operations at the speed of the micro-batch; AdamW reads and writes 28 bytes for
//!                       each parameter
//! memory                what the process has after the micro-batch; gradients, both moments of AdamW and the average;
//!                       and the larger of a step (the input of every layer, what one layer works with, embeddings with
//!                       their gradients) and a search (the embeddings of all labels, twice)
//! ```
//!
//! What an allocator holds back is left out: a process takes some more.

use xmc_nn::loss::Targets;

use super::config::{Head, Negatives};
use super::learner::Learner;
use super::negatives::Sampler;
use super::training::Task;
use crate::error::{Error, Result};
use crate::memory;
use crate::methods::speed::{count, duration, seconds_per_token};

/// Work of a training.
struct Work {
    /// Rows of a step.
    rows: f64,
    /// Tokens of a step.
    tokens: f64,
    /// Labels of a step.
    labels: f64,
    /// Tokens that are only embedded, in all validations and minings.
    scored: f64,
}

/// Bytes that AdamW moves for a parameter (it, its gradient and both moments; all but the gradient also back), and that
/// a usual memory moves in a second.
const ADAMW_BYTES: f64 = 28.0;
const BYTES_PER_SECOND: f64 = 1e10;

/// Says what is ahead; refuses what does not fit into the memory allowed.
pub(super) fn announce(task: &Task<'_>, learner: &Learner<'_>, sampler: &Sampler) -> Result<()> {
    let Task { config, events, options, .. } = *task;
    let work = work(task, sampler);
    let (total, operations) = time(task, learner, &work)?;
    let bytes = memory::peak() + bytes(task, learner, &work);
    events.message(&format!(
        "{} rows, {} labels, {} parameters; a step has {:.0} tokens and {:.0} labels, an epoch {} steps and {} tokens",
        task.split.learn.len(),
        task.data.labels.len(),
        learner.tower().layout().len(),
        work.tokens,
        work.labels,
        task.batches(),
        count(work.tokens * task.batches() as f64)
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

/// Seconds and operations of the whole training.
fn time(task: &Task<'_>, learner: &Learner<'_>, work: &Work) -> Result<(f64, f64)> {
    let few = &task.split.learn[..task.split.learn.len().min(task.config.batch_size)];
    let seconds = seconds_per_token(learner.tower(), &task.tokens.rows, few, task.config.tokens_per_batch)?;
    let parameters = learner.tower().layout().len() as f64;
    let shape = learner.tower().transformer_config();
    let weights = (shape.layers * shape.hidden * (4 * shape.hidden + 2 * shape.intermediate)) as f64;
    let again = (work.tokens - task.config.tape_tokens as f64).max(0.0) / work.tokens.max(1.0);
    // A second forward pass is a third of forward and backward.
    let encoder = 6.0 * weights * work.tokens * (1.0 + again / 3.0);
    let loss = 8.0 * work.rows * work.labels * learner.tower().dim() as f64;
    let per_operation = seconds / (6.0 * weights).max(1.0);
    let step = (encoder + loss) * per_operation + ADAMW_BYTES * parameters / BYTES_PER_SECOND;
    let steps = task.steps() as f64;
    Ok((step * steps + work.scored * seconds / 3.0, (encoder + loss) * steps))
}

/// Bytes that training takes beyond what the process has.
fn bytes(task: &Task<'_>, learner: &Learner<'_>, work: &Work) -> u64 {
    let (config, tower) = (task.config, learner.tower());
    let (parameters, dim) = (tower.layout().len() as f64, tower.dim() as f64);
    let all = task.data.labels.len() as f64 * (dim + 1.0);
    let head = if config.head == Head::Classifier { all } else { 0.0 };
    let averages = if config.swa > 0 { parameters + head } else { 0.0 };
    let held = 3.0 * parameters + 2.0 * head + averages;
    let shape = tower.transformer_config();
    let taped = work.tokens.min((config.tape_tokens + config.tokens_per_batch) as f64);
    let tape = taped * ((shape.layers + 1) * shape.hidden) as f64;
    // What is laid out for the products of one layer, of the largest micro-batch.
    let layer =
        work.tokens.min(config.tokens_per_batch as f64) * (6 * shape.hidden + 2 * shape.intermediate) as f64;
    let step = tape + layer + 4.0 * work.labels * dim;
    let search = if work.scored > 0.0 { 2.0 * all } else { 0.0 };
    4 * (held + step.max(search)) as u64
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
        rows: rows.len() as f64,
        tokens: rows.len() as f64 * mean + names_of(names),
        labels: count as f64,
        scored: validations as f64 * once(split.validate.len()) + minings as f64 * once(split.learn.len()),
    }
}

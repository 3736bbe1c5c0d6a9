//! How does the encoder learn, level by level of the preliminary tree? (spec: XR-Transformer, 7.2)
//!
//! ```text
//! T = levels with at most max_match_clusters nodes          Y_t = labels below each node of level t
//! for t = 1..T
//!     M_t      = parents of level t - 1 that a row may belong to            (active)
//!     W_t, b_t = a head for the nodes of level t, bootstrapped              (head)
//!     train encoder and head: each row against the children of M_t          (training)
//!     if t < T: embed all rows, find the nodes of level t for each          (matcher)
//! ```
//!
//! The encoder goes on from level to level; head, optimisers and learning rate begin anew. At the first level the
//! problem is small and every row sees all nodes; below, a row sees only what its parents leave, so that a step costs the
//! same however many nodes there are.

use std::cell::OnceCell;
use std::path::PathBuf;

use xmc_data::Csr;
use xmc_linear::{Features, Tree, targets};
use xmc_nn::tokens::Tokens;

use super::active::{self, ActiveNodes};
use super::config::XrTransformerConfig;
use super::matcher::{Above, Matched};
use super::plan::{Level, plan};
use super::training::{self, LevelTask};
use crate::error::Result;
use crate::events::Events;
use crate::methods::TrainOptions;
use crate::methods::dexml::ENCODER;
use crate::methods::start::Start;
use crate::run::{Run, remove};

/// What the levels are trained from.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) config: &'a XrTransformerConfig,
    /// Sparse features of the training rows `[n, d]`.
    pub(super) x: &'a Features,
    /// Their labels `[n, L]`.
    pub(super) y: &'a Csr,
    /// Costs of the labels, with the pattern of `y`.
    pub(super) relevance: Option<&'a Csr>,
    /// The preliminary tree.
    pub(super) tree: &'a Tree,
    /// Their texts as token ids `[n]`.
    pub(super) tokens: &'a Tokens,
    /// The encoder to begin with.
    pub(super) start: &'a Start,
    pub(super) options: &'a TrainOptions,
    pub(super) events: &'a dyn Events,
}

/// Trains the encoder along the tree; returns the folder of the last one, with its tokenizer.
pub(super) fn fine_tune(run: &mut Run, task: &Task<'_>) -> Result<PathBuf> {
    let levels = plan(task.config, &task.tree.widths(), task.options.seed)?;
    let targets = Targets { task, depth: levels.len(), counted: OnceCell::new() };
    let mut last = PathBuf::new();
    for level in &levels {
        let t = level.t;
        let above = (t > 1).then(|| {
            Above::new(run.stage_dir(&stage("level", t - 1)), run.stage_dir(&stage("match", t - 1)))
        });
        let inputs = LevelInputs { task, level, targets: &targets, above: above.as_ref() };

        // Encoder and head learn, checkpoint by checkpoint.
        let unfinished = run.ongoing(&stage("level", t))?;
        drop(run.stage(&stage("level", t), || inputs.with(|level| training::fit(level, &unfinished)))?);
        remove(&unfinished)?;
        last = run.stage_dir(&stage("level", t));

        // What the levels below need of it.
        if level.embeddings || level.shortlist {
            drop(run.stage(&stage("match", t), || inputs.with(|level| Matched::of(level, &last)))?);
        }
    }
    Ok(last.join(ENCODER))
}

/// Positives Y_t of the levels that train; counted when the first of them does, as a finished one needs none.
struct Targets<'a> {
    task: &'a Task<'a>,
    /// T
    depth: usize,
    counted: OnceCell<Vec<Csr>>,
}

impl Targets<'_> {
    /// Y_0 to Y_T.
    fn get(&self) -> Result<&[Csr]> {
        if self.counted.get().is_none() {
            let mut counted = targets::levels(self.task.y, self.task.tree, None)?;
            counted.truncate(self.depth + 1);
            let _ = self.counted.set(counted);
        }
        Ok(self.counted.get().map_or(&[], Vec::as_slice))
    }
}

/// Where a level finds what it is trained from.
struct LevelInputs<'a> {
    task: &'a Task<'a>,
    level: &'a Level,
    targets: &'a Targets<'a>,
    above: Option<&'a Above>,
}

impl LevelInputs<'_> {
    /// Does `work` with what the level above left; nothing is read for a level that is finished.
    fn with<T>(&self, work: impl FnOnce(&LevelTask<'_>) -> Result<T>) -> Result<T> {
        let LevelInputs { task, level, above, .. } = *self;
        let (t, targets) = (level.t, self.targets.get()?);
        let shortlist = above.filter(|_| level.negatives.man).map(Above::shortlist).transpose()?;
        let matching = match t {
            1 => None,
            _ => Some(active::matching(level.negatives, &targets[t - 1], shortlist.as_ref())?),
        };
        let nodes = ActiveNodes {
            targets: &targets[t],
            matching: matching.as_deref(),
            offsets: task.tree.offsets(t - 1),
            most: task.config.training.max_active,
            seed: level.seed,
        };
        work(&LevelTask { task, level, nodes, above })
    }
}

/// Name of the stage `of` a level.
pub(super) fn stage(of: &str, t: usize) -> String {
    format!("{of}.{t}")
}

#[cfg(test)]
mod tests;

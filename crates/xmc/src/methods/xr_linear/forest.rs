//! How do trees and rankers come of features, whatever the features are? The middle of XR-Linear and the end of
//! XR-Transformer: for each tree of the ensemble the labels are grouped, and every node learns a ranker.

use std::cell::OnceCell;

use xmc_data::dataset::Dataset;
use xmc_data::text::Vectorizer;
use xmc_linear::cluster::build_tree;
use xmc_linear::ranker::{self, TrainInput};
use xmc_linear::store::TreeModel;
use xmc_linear::{Features, Tree};

use super::config::{XrLinearConfig, within};
use super::inputs::{Extra, label_rows};
use super::stages::RANKER;
use crate::error::Result;
use crate::events::Events;
use crate::run::{Artifact, Run};

/// Everything that trees and rankers are trained on.
#[derive(Clone, Copy)]
pub(in crate::methods) struct Forest<'a> {
    pub(in crate::methods) data: &'a Dataset,
    pub(in crate::methods) config: &'a XrLinearConfig,
    pub(in crate::methods) extra: &'a Extra,
    /// `[n, d]`
    pub(in crate::methods) x: &'a Features,
    /// Makes features of label names, where they are wanted.
    pub(in crate::methods) vectorizer: Option<&'a Vectorizer>,
    pub(in crate::methods) seed: u64,
    pub(in crate::methods) events: &'a dyn Events,
}

impl Forest<'_> {
    /// Label features z `[L, d']`, and from them one tree for every seed.
    pub(in crate::methods) fn grow(&self, run: &mut Run) -> Result<Vec<Tree>> {
        let z = OnceCell::new();
        (0..self.config.trees)
            .map(|t| {
                run.stage(&format!("tree.{t}"), || {
                    if let Some(tree) = &self.extra.tree {
                        return Ok(tree.clone());
                    }
                    if z.get().is_none() {
                        let _ =
                            z.set(label_rows(self.data, self.config, self.extra, self.x, self.vectorizer)?);
                    }
                    Ok(build_tree(z.get().unwrap_or(self.x), &self.config.cluster, self.seed_of(t))?)
                })
            })
            .collect()
    }

    /// One linear ranker for every node of every tree; they lie in the stages `ranker.0`, `ranker.1`, …
    pub(in crate::methods) fn rank(&self, run: &mut Run, trees: Vec<Tree>) -> Result<()> {
        let (relevance, config) = self.extra.costs(self.data, self.config);
        let input = TrainInput {
            x: self.x,
            y: self.extra.labels(self.data),
            relevance,
            negatives: self.extra.negatives.as_ref(),
        };
        for (t, tree) in trees.into_iter().enumerate() {
            run.stage(&format!("{RANKER}.{t}"), || {
                let progress = |done, total| self.events.progress(done, total);
                Ok(ranker::train(input, tree, &config, self.seed_of(t), &progress)
                    .map_err(|e| within("ranker", e))?)
            })?;
        }
        Ok(())
    }

    /// Seed of tree `t`; an ensemble of n trees contains those of n - 1.
    fn seed_of(&self, t: usize) -> u64 {
        self.seed.wrapping_add(t as u64)
    }
}

/// The finished trees of a run.
pub(in crate::methods) fn trained(run: &Run, trees: usize) -> Result<Vec<TreeModel>> {
    (0..trees).map(|t| TreeModel::load(&run.stage_dir(&format!("{RANKER}.{t}")))).collect()
}

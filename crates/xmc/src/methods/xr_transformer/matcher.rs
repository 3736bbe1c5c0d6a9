//! Which nodes of a trained level does each training row seem to belong to, and what do its embeddings look like? (spec:
//! XR-Transformer, 7.5)
//!
//! The next level begins with rankers on the embeddings `[n, h]`, not normalised. Where a level below trains against what
//! is found (man), a beam goes one level down the tree: from the nodes found above, the best `top_k` of their children.
//! Margins come from the head (w · x + b), from linear rankers on [sparse features | normalised embedding], or from both.
//! Both together score all children first, so that none is missing from either ranking.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use xmc_data::formats::npy::{read_dense, write_dense};
use xmc_data::formats::npz;
use xmc_data::topk::by_score;
use xmc_data::topk::ensemble::EnsembleRule;
use xmc_data::{Csr, CsrBuilder, Dense};
use xmc_linear::level::{LevelConfig, LevelInput, LevelModel};
use xmc_linear::search::{MarginScratch, expand};
use xmc_linear::{Features, Query, targets};
use xmc_nn::ops::reduce::dot;

use super::config::Matching;
use super::training::LevelTask;
use crate::error::{Error, Result};
use crate::methods::classifier::load_weights;
use crate::methods::dexml::ENCODER;
use crate::run::Artifact;

/// Names of files in the stages of a level.
pub(super) const HEAD: &str = "head.safetensors";
const EMBEDDINGS: &str = "embeddings.npy";
const SHORTLIST: &str = "shortlist.npz";

/// Folders of the level above.
pub(super) struct Above {
    level: PathBuf,
    matched: PathBuf,
}

impl Above {
    /// With the folders of its stages.
    pub(super) fn new(level: PathBuf, matched: PathBuf) -> Self {
        Above { level, matched }
    }

    /// Its encoder.
    pub(super) fn encoder(&self) -> PathBuf {
        self.level.join(ENCODER)
    }

    /// Its head `[L_{t-1}, dim + 1]`.
    pub(super) fn head(&self, dim: usize) -> Result<Vec<f32>> {
        let path = self.level.join(HEAD);
        match load_weights(&path)? {
            (cols, weights) if cols == dim + 1 => Ok(weights),
            (cols, _) => Err(Error::file(&path, format!("{cols} columns, expected {}", dim + 1))),
        }
    }

    /// Embeddings of the training rows `[n, h]`.
    pub(super) fn embeddings(&self) -> Result<Dense> {
        Ok(read_dense(&self.matched.join(EMBEDDINGS))?)
    }

    /// Scores of the nodes found for each row `[n, L_{t-1}]`.
    pub(super) fn shortlist(&self) -> Result<Csr> {
        Ok(npz::read(&self.matched.join(SHORTLIST))?)
    }
}

/// What the levels below need of a trained one.
pub(super) enum Matched {
    /// Made just now.
    Now {
        /// `[n, h]`, if the next head begins with them.
        embeddings: Option<Dense>,
        /// `[n, L_t]`
        shortlist: Option<Csr>,
    },
    /// In an earlier run; its files are enough.
    Earlier,
}

impl Matched {
    /// Of the level that was trained from `task` and lies in the folder `trained`.
    pub(super) fn of(task: &LevelTask<'_>, trained: &Path) -> Result<Self> {
        let events = task.task.events;
        events.status("embedding");
        let tower = task.open(&trained.join(ENCODER))?;
        let tokens = task.task.tokens;
        let rows: Vec<u32> = (0..tokens.len() as u32).collect();
        let budget = task.task.config.training.tokens_per_batch;
        let x = tower.embed_rows(tokens, &rows, budget, &|done, total| events.progress(done, total))?;
        let embeddings = Dense::new(x.rows(), x.cols(), x.into_host())?;
        drop(tower);
        let wanted = task.level.shortlist;
        let shortlist = wanted.then(|| shortlist(task, trained, &embeddings)).transpose()?;
        Ok(Matched::Now { embeddings: task.level.embeddings.then_some(embeddings), shortlist })
    }
}

impl Artifact for Matched {
    fn save(&self, dir: &Path) -> Result<()> {
        let Matched::Now { embeddings, shortlist } = self else { return Ok(()) };
        embeddings.iter().try_for_each(|x| write_dense(&dir.join(EMBEDDINGS), x))?;
        Ok(shortlist.iter().try_for_each(|found| npz::write(&dir.join(SHORTLIST), found))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        let found = [EMBEDDINGS, SHORTLIST].iter().any(|name| dir.join(name).is_file());
        if found { Ok(Matched::Earlier) } else { Err(Error::file(dir, "neither embeddings nor a shortlist")) }
    }
}

/// What scores nodes.
struct Scorers<'a> {
    task: &'a LevelTask<'a>,
    /// `[n, h]`
    embeddings: &'a Dense,
    /// Weights of the head `[L_t, h + 1]`, if its scores count.
    head: Option<Vec<f32>>,
    /// Rankers, and the features that they see, if their scores count.
    rankers: Option<(LevelModel, Features)>,
    /// What was found above `[n, L_{t-1}]`.
    above: Option<Csr>,
}

/// The best nodes of the level for each row, with their scores `[n, L_t]`.
fn shortlist(task: &LevelTask<'_>, trained: &Path, embeddings: &Dense) -> Result<Csr> {
    let uses = |other: Matching| task.level.matcher.ensemble != other;
    let head = uses(Matching::ConcatOnly).then(|| load_weights(&trained.join(HEAD)).map(|head| head.1));
    let scorers = Scorers {
        task,
        embeddings,
        head: head.transpose()?,
        rankers: uses(Matching::TransformerOnly).then(|| rankers(task, embeddings)).transpose()?,
        above: task.above.map(Above::shortlist).transpose()?,
    };
    task.task.events.status("matching rows to nodes");
    let n = embeddings.rows();
    let longest = (0..n).into_par_iter().map(|i| scorers.candidates(i)).max().unwrap_or(0);
    let rows: Vec<Vec<(u32, f32)>> = (0..n)
        .into_par_iter()
        .map_init(MarginScratch::default, |scratch, i| scorers.best(i, longest, scratch))
        .collect();
    let mut found = CsrBuilder::new();
    for row in rows {
        found.push(row);
    }
    Ok(found.finish(task.level.nodes)?)
}

/// Rankers of the level on [sparse features | normalised embedding].
fn rankers(task: &LevelTask<'_>, embeddings: &Dense) -> Result<(LevelModel, Features)> {
    let (matcher, config) = (&task.level.matcher, &task.task.config.matcher);
    let mut values = embeddings.values().to_vec();
    for row in values.chunks_exact_mut(embeddings.cols()) {
        let norm = dot(row, row).sqrt();
        if norm > 0.0 {
            for value in row {
                *value /= norm;
            }
        }
    }
    let dense = Dense::new(embeddings.rows(), embeddings.cols(), values)?;
    let x = task.task.x.beside(dense)?;
    let relevance = config.relevance.then(|| {
        // Without given costs a node costs by its labels, which the targets count.
        let mut costs = match task.task.relevance.map(Csr::values) {
            None => task.nodes.targets.clone(),
            given => targets::levels(task.task.y, task.task.tree, given)?.swap_remove(task.level.t),
        };
        config.relevance_norm.apply(&mut costs);
        Ok(costs)
    });
    let relevance: Option<Csr> = relevance.transpose().map_err(|e: xmc_data::Error| e)?;
    let input = LevelInput {
        x: &x,
        targets: task.nodes.targets,
        matching: task.nodes.matching,
        relevance: relevance.as_ref(),
        offsets: task.nodes.offsets,
    };
    let config = LevelConfig {
        cost_positive: matcher.cost_positive,
        cost_negative: matcher.cost_negative,
        threshold: matcher.threshold,
        ..LevelConfig::default()
    };
    let events = task.task.events;
    events.status("rankers of the level");
    let progress = |done, total| events.progress(done, total);
    let model = LevelModel::train(&input, &config, task.level.seed, &progress)?;
    Ok((model, x))
}

impl Scorers<'_> {
    /// Nodes of the level above that were found for row `i`, best first.
    fn parents(&self, i: usize) -> Vec<(u32, f32)> {
        let Some(above) = &self.above else {
            return vec![(0, self.task.level.matcher.post_processor.root())];
        };
        let mut parents: Vec<_> = above.row(i).iter().collect();
        parents.sort_unstable_by(by_score);
        parents
    }

    /// Children of the nodes found above for row `i`.
    fn candidates(&self, i: usize) -> usize {
        let offsets = self.task.nodes.offsets;
        let children = |parent: u32| (offsets[parent as usize + 1] - offsets[parent as usize]) as usize;
        self.above.as_ref().map_or_else(
            || children(0),
            |above| above.row(i).indices.iter().map(|&parent| children(parent)).sum(),
        )
    }

    /// The best nodes of row `i`, best first; `longest` is the largest number of candidates of any row.
    fn best(&self, i: usize, longest: usize, scratch: &mut MarginScratch) -> Vec<(u32, f32)> {
        let matcher = self.task.level.matcher;
        let rule = match matcher.ensemble {
            Matching::TransformerOnly => return self.by_head(i, matcher.top_k),
            Matching::ConcatOnly => return self.by_rankers(i, matcher.top_k, scratch),
            Matching::Average => EnsembleRule::Average,
            Matching::RankAverage => EnsembleRule::RankAverage,
            Matching::RoundRobin => EnsembleRule::RoundRobin,
        };
        let all = self.candidates(i).max(1);
        let (head, rankers) = (self.by_head(i, all), self.by_rankers(i, all, scratch));
        let mut best = Vec::new();
        rule.merge_row([head.as_slice(), rankers.as_slice()].into_iter(), longest, &mut best);
        best.truncate(matcher.top_k);
        best
    }

    /// The best `k` by the head.
    fn by_head(&self, i: usize, k: usize) -> Vec<(u32, f32)> {
        let Some(weights) = &self.head else { return Vec::new() };
        let x = self.embeddings.row(i);
        let cols = x.len() + 1;
        let offsets = self.task.nodes.offsets;
        let margins = |parent: usize, out: &mut Vec<f32>| {
            let rows = offsets[parent] as usize * cols..offsets[parent + 1] as usize * cols;
            let rows = weights[rows].chunks_exact(cols);
            out.extend(rows.map(|row| dot(&row[..x.len()], x) + row[x.len()]));
        };
        let mut best = Vec::new();
        expand(&self.parents(i), offsets, self.task.level.matcher.post_processor, k, margins, &mut best);
        best
    }

    /// The best `k` by the rankers.
    fn by_rankers(&self, i: usize, k: usize, scratch: &mut MarginScratch) -> Vec<(u32, f32)> {
        let Some((model, x)) = &self.rankers else { return Vec::new() };
        let query = Query::of(x, i);
        let margins = |parent: usize, out: &mut Vec<f32>| {
            out.extend_from_slice(model.margins(scratch, query, parent));
        };
        let (offsets, rule) = (self.task.nodes.offsets, self.task.level.matcher.post_processor);
        let mut best = Vec::new();
        expand(&self.parents(i), offsets, rule, k, margins, &mut best);
        best
    }
}

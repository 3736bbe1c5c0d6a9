//! How are the rankers of a whole tree trained? (spec: XR-Linear, 5)
//!
//! For every level t, every parent p: the rows that match p (see [`crate::negatives`]) train p's children against one
//! another. Under teacher forcing no level needs another, so the parents of all such levels stand in one queue, the
//! most work first; a level that samples negatives from the model itself waits for the levels above it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use xmc_data::{Csr, Error, Result};

use crate::features::Features;
use crate::negatives::{self, Matching, NegativeSampling};
use crate::post_processor::PostProcessor;
use crate::solver::{self, Child, Column, Loss, SolverParams};
use crate::store::{Chunk, ChunkWeights, LevelBuilder, Packing, Precision, TreeModel};
use crate::subproblem::{Renumbering, SubProblem};
use crate::targets::{self, RelevanceNorm};
use crate::tree::Tree;

/// One value for all levels, or one for each from the root down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerLevel<T> {
    /// The same everywhere.
    All(T),
    /// One for each level, from the root down.
    Each(Vec<T>),
}

impl<T: Clone> PerLevel<T> {
    /// Every value there is.
    fn values(&self) -> &[T] {
        match self {
            PerLevel::All(value) => std::slice::from_ref(value),
            PerLevel::Each(values) => values,
        }
    }

    /// The value at level `t` of `depth`; an error if the list has another length.
    pub fn at(&self, key: &str, t: usize, depth: usize) -> Result<T> {
        match self {
            PerLevel::All(value) => Ok(value.clone()),
            PerLevel::Each(values) if values.len() == depth => Ok(values[t].clone()),
            PerLevel::Each(values) => {
                let found = format!("[{} values]", values.len());
                Err(Error::config(key, found, format!("one value, or one for each of the {depth} levels")))
            }
        }
    }
}

/// Where the costs of positives come from. (spec: XR-Linear, 5.3)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelevanceMode {
    /// Every positive costs the same.
    Disable,
    /// The given relevance (or 1 per label) at the labels, sums of it above.
    Induce,
    /// The given relevance at the labels, 1 above.
    RankerOnly,
}

/// How rankers are trained and searched. Defaults are those of libpecos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankerConfig {
    /// Loss of a node's ranker.
    pub loss: Loss,
    /// Cost of a row that has the label.
    pub cost_positive: PerLevel<f32>,
    /// Cost of a row that does not.
    pub cost_negative: PerLevel<f32>,
    /// Value of the constant feature; 0 for none.
    pub bias: f32,
    /// Precision at which a label counts as solved.
    pub epsilon: f32,
    /// Most passes over a label's rows.
    pub max_iterations: u32,
    /// Weights smaller than this are dropped.
    pub threshold: PerLevel<f32>,
    /// Most weights kept for one label; 0 keeps all.
    pub max_nonzeros: PerLevel<usize>,
    /// Rows that train a parent's children.
    pub negatives: PerLevel<NegativeSampling>,
    /// Costs by relevance.
    pub relevance: RelevanceMode,
    /// How the relevances of a row are scaled at each level.
    pub relevance_norm: RelevanceNorm,
    /// From margins to scores.
    pub post_processor: PerLevel<PostProcessor>,
    /// Nodes kept at every inner level.
    pub beam_size: usize,
    /// Labels returned unless a query says otherwise.
    pub top_k: usize,
    /// Number format of the stored weights.
    pub weights: Precision,
}

impl Default for RankerConfig {
    fn default() -> Self {
        RankerConfig {
            loss: Loss::SquaredHinge,
            cost_positive: PerLevel::All(1.0),
            cost_negative: PerLevel::All(1.0),
            bias: 1.0,
            epsilon: 0.1,
            max_iterations: 100,
            threshold: PerLevel::All(0.1),
            max_nonzeros: PerLevel::All(0),
            negatives: PerLevel::All(NegativeSampling::TFN),
            relevance: RelevanceMode::Disable,
            relevance_norm: RelevanceNorm::None,
            post_processor: PerLevel::All(PostProcessor::Hinge(3)),
            beam_size: 10,
            top_k: 20,
            weights: Precision::F16,
        }
    }
}

impl RankerConfig {
    /// Refuses values that have no meaning; per-level lists are checked against the tree by [`train`].
    pub fn check(&self) -> Result<()> {
        let above_zero =
            |key, values: &[f32]| check_each(key, values, "a number above 0", |v| v > 0.0 && v.is_finite());
        let from_zero =
            |key, values: &[f32]| check_each(key, values, "a number from 0", |v| v >= 0.0 && v.is_finite());
        above_zero("cost_positive", self.cost_positive.values())?;
        above_zero("cost_negative", self.cost_negative.values())?;
        above_zero("epsilon", &[self.epsilon])?;
        from_zero("bias", &[self.bias])?;
        from_zero("threshold", self.threshold.values())?;
        if self.max_iterations == 0 {
            return Err(Error::config("max_iterations", 0, "a number from 1"));
        }
        for (key, value) in [("beam_size", self.beam_size), ("top_k", self.top_k)] {
            if value == 0 {
                return Err(Error::config(key, value, "a number from 1"));
            }
        }
        Ok(())
    }

    /// Everything that differs by level, with list lengths checked.
    fn level(&self, t: usize, depth: usize) -> Result<LevelParams> {
        Ok(LevelParams {
            solver: SolverParams {
                loss: self.loss,
                cost_positive: self.cost_positive.at("cost_positive", t, depth)?,
                cost_negative: self.cost_negative.at("cost_negative", t, depth)?,
                bias: self.bias,
                epsilon: self.epsilon,
                max_iterations: self.max_iterations,
                threshold: self.threshold.at("threshold", t, depth)?,
                max_nonzeros: self.max_nonzeros.at("max_nonzeros", t, depth)?,
            },
            negatives: self.negatives.at("negatives", t, depth)?,
            post_processor: self.post_processor.at("post_processor", t, depth)?,
            keep: if t + 1 == depth { self.top_k } else { self.beam_size },
        })
    }
}

fn check_each(key: &str, values: &[f32], expected: &str, allowed: impl Fn(f32) -> bool) -> Result<()> {
    match values.iter().find(|&&v| !allowed(v)) {
        Some(v) => Err(Error::config(key, v, expected)),
        None => Ok(()),
    }
}

struct LevelParams {
    solver: SolverParams,
    negatives: NegativeSampling,
    post_processor: PostProcessor,
    keep: usize,
}

/// What training reads.
#[derive(Clone, Copy, Debug)]
pub struct TrainInput<'a> {
    /// `[n, d]`
    pub x: &'a Features,
    /// `[n, L]`: positives are its non-zero entries.
    pub y: &'a Csr,
    /// `[n, L]` with the pattern of `y`: costs of the positives.
    pub relevance: Option<&'a Csr>,
    /// `[n, L]`: labels that are to be negatives of a row, for [`NegativeSampling`] with user-supplied ones.
    pub negatives: Option<&'a Csr>,
}

impl TrainInput<'_> {
    fn check(&self, tree: &Tree) -> Result<()> {
        let (n, l) = (self.x.rows(), tree.num_labels());
        for (what, m) in
            [("labels", Some(self.y)), ("relevance", self.relevance), ("negatives", self.negatives)]
        {
            let Some(m) = m else { continue };
            if (m.rows(), m.cols()) != (n, l) {
                let (rows, cols) = (m.rows(), m.cols());
                let problem = format!("{what}: {rows} rows and {cols} labels, expected {n} and {l}");
                return Err(Error::Shape(problem));
            }
        }
        if let Some(r) = self.relevance {
            if r.indptr() != self.y.indptr() || r.indices() != self.y.indices() {
                return Err(Error::Shape("relevance: its entries must be those of the labels".to_owned()));
            }
            if let Some(v) = r.values().iter().find(|v| **v < 0.0) {
                return Err(Error::Shape(format!("relevance: found {v}, expected numbers from 0")));
            }
        }
        Ok(())
    }
}

/// Trains the rankers of every level of `tree`. `progress(done, total)` counts children.
pub fn train(
    input: TrainInput,
    tree: Tree,
    config: &RankerConfig,
    seed: u64,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<TreeModel> {
    config.check()?;
    input.check(&tree)?;
    let depth = tree.depth();
    let params = (0..depth).map(|t| config.level(t, depth)).collect::<Result<Vec<_>>>()?;
    let targets = targets::levels(input.y, &tree, |_| 1.0)?;
    let relevance = relevance(&input, &tree, config)?;
    let total: u64 = (1..=depth).map(|t| tree.width(t) as u64).sum();
    let done = AtomicUsize::new(0);
    let mut model = TreeModel {
        tree,
        levels: Vec::with_capacity(depth),
        sparse_features: input.x.sparse().cols(),
        dense_features: input.x.dense_cols(),
        bias: config.bias,
    };
    let mut t = 0;
    while t < depth {
        // Levels up to the next one that asks the model for its negatives are independent of one another.
        let end = (t + 1..depth).find(|&u| params[u].negatives.uses_model()).unwrap_or(depth);
        let batch = (t..end)
            .map(|u| {
                Ok(LevelTask {
                    params: &params[u],
                    matching: negatives::matching(params[u].negatives, u, &input, &targets, &model)?,
                    targets: targets[u + 1].transpose(),
                    relevance: relevance.as_ref().and_then(|r| r[u + 1].as_ref().map(Csr::transpose)),
                    offsets: model.tree.offsets(u),
                    packing: packing(&model, u)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let chunks = run_queue(input.x, &batch, config.weights, seed, t, &|n| {
            progress(done.fetch_add(n, Ordering::Relaxed) as u64 + n as u64, total);
        });
        let level = |(task, chunks): (&LevelTask, Vec<Chunk>)| {
            let mut builder = LevelBuilder::new(task.packing, config.weights);
            for chunk in chunks {
                builder.push(chunk);
            }
            builder.finish(task.params.post_processor, task.params.keep)
        };
        let levels: Vec<_> = batch.iter().zip(chunks).map(level).collect();
        model.levels.extend(levels);
        t = end;
    }
    Ok(model)
}

fn packing(model: &TreeModel, t: usize) -> Result<Packing> {
    let widest = model.tree.offsets(t).windows(2).map(|w| (w[1] - w[0]) as usize).max().unwrap_or(0);
    let packing = Packing::for_level(widest, model.sparse_features);
    if widest > packing.most_children() {
        let most = packing.most_children();
        let problem = format!("a node of the tree has {widest} children, at most {most} are supported");
        return Err(Error::Shape(format!("{problem}: choose a smaller max_leaf_size or branching")));
    }
    Ok(packing)
}

/// R for every level from 0 to D, `None` where positives cost the same.
fn relevance(input: &TrainInput, tree: &Tree, config: &RankerConfig) -> Result<Option<Vec<Option<Csr>>>> {
    if config.relevance == RelevanceMode::Disable {
        return Ok(None);
    }
    // Without given relevances every positive counts 1.
    let levels = match input.relevance {
        Some(given) => targets::levels(given, tree, |v| v)?,
        None => targets::levels(input.y, tree, |_| 1.0)?,
    };
    let leaves = levels.len() - 1;
    let level = |(t, mut r): (usize, Csr)| {
        config.relevance_norm.apply(&mut r);
        (t == leaves || config.relevance == RelevanceMode::Induce).then_some(r)
    };
    Ok(Some(levels.into_iter().enumerate().map(level).collect()))
}

/// One level in the queue.
struct LevelTask<'a> {
    params: &'a LevelParams,
    matching: Matching,
    /// `[children, n]`
    targets: Csr,
    relevance: Option<Csr>,
    offsets: &'a [u32],
    packing: Packing,
}

/// Trains every parent of the given levels, the most work first; returns chunks by level and parent.
fn run_queue(
    x: &Features,
    levels: &[LevelTask],
    precision: Precision,
    seed: u64,
    first: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Vec<Vec<Chunk>> {
    let mut jobs: Vec<(u64, usize, usize)> = Vec::new();
    for (t, level) in levels.iter().enumerate() {
        for (p, w) in level.offsets.windows(2).enumerate() {
            jobs.push((u64::from(w[1] - w[0]).div_ceil(16) * level.matching.rows(p) as u64, t, p));
        }
    }
    jobs.sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let slots: Vec<Vec<Mutex<Option<Chunk>>>> =
        levels.iter().map(|l| l.offsets.windows(2).map(|_| Mutex::new(None)).collect()).collect();
    let next = AtomicUsize::new(0);
    rayon::scope(|scope| {
        for _ in 0..rayon::current_num_threads() {
            scope.spawn(|_| {
                let mut worker = Worker::new(x);
                while let Some(&(_, t, p)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let chunk = worker.train_parent(&levels[t], p, precision, job_seed(seed, first + t, p));
                    if let Ok(mut slot) = slots[t][p].lock() {
                        *slot = Some(chunk);
                    }
                    progress((levels[t].offsets[p + 1] - levels[t].offsets[p]) as usize);
                }
            });
        }
    });
    let chunk = |slot: Mutex<Option<Chunk>>| slot.into_inner().ok().flatten();
    slots.into_iter().map(|level| level.into_iter().filter_map(chunk).collect()).collect()
}

/// A seed of its own for every parent, so that the order of work does not matter.
fn job_seed(seed: u64, level: usize, parent: usize) -> u64 {
    let mix = (seed ^ ((level as u64) << 56) ^ parent as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix ^ (mix >> 32)
}

/// Scratch of one thread.
struct Worker<'a> {
    x: &'a Features,
    renumbering: Renumbering,
    /// Row to its position in the sub-problem, `u32::MAX` outside.
    position: Vec<u32>,
    rows: Vec<u32>,
}

impl<'a> Worker<'a> {
    fn new(x: &'a Features) -> Self {
        let renumbering = Renumbering::new(x.sparse().cols());
        Worker { x, renumbering, position: vec![u32::MAX; x.rows()], rows: Vec::new() }
    }

    /// Trains the children of parent `p` and packs them.
    fn train_parent(&mut self, level: &LevelTask, p: usize, precision: Precision, seed: u64) -> Chunk {
        let children = level.offsets[p]..level.offsets[p + 1];
        self.rows.clear();
        level.matching.extend(p, &mut self.rows);
        let matched = self.rows.len();
        for (at, &r) in self.rows.iter().enumerate() {
            self.position[r as usize] = at as u32;
        }
        // Positives that the matching left out come behind, in the order of rows.
        for child in children.clone() {
            for &r in level.targets.row(child as usize).indices {
                if self.position[r as usize] == u32::MAX {
                    self.position[r as usize] = 0;
                    self.rows.push(r);
                }
            }
        }
        self.rows[matched..].sort_unstable();
        for (at, &r) in self.rows.iter().enumerate().skip(matched) {
            self.position[r as usize] = at as u32;
        }
        let sub = SubProblem::new(self.x, &self.rows, matched, &mut self.renumbering);
        let problems: Vec<Child> = children.map(|c| self.child(level, c as usize)).collect();
        for &r in &self.rows {
            self.position[r as usize] = u32::MAX;
        }
        let columns = solver::solve(&sub, &problems, &level.params.solver, seed);
        Chunk::new(&by_feature(&sub, columns), self.x.sparse().cols(), level.packing, precision)
    }

    fn child(&self, level: &LevelTask, child: usize) -> Child {
        let positives = level.targets.row(child).indices.iter().map(|&r| self.position[r as usize]);
        let relevance = level.relevance.as_ref().map_or(&[][..], |r| r.row(child).values);
        if relevance.is_empty() {
            let mut positives: Vec<u32> = positives.collect();
            positives.sort_unstable();
            return Child { positives, relevance: Vec::new() };
        }
        let mut pairs: Vec<(u32, f32)> = positives.zip(relevance.iter().copied()).collect();
        pairs.sort_unstable_by_key(|&(at, _)| at);
        let (positives, relevance) = pairs.into_iter().unzip();
        Child { positives, relevance }
    }
}

/// Columns of local features to one list by global feature.
fn by_feature(sub: &SubProblem, columns: Vec<Column>) -> ChunkWeights {
    let (sparse, children) = (sub.sparse_features(), columns.len());
    let mut weights = ChunkWeights {
        entries: Vec::with_capacity(columns.iter().map(|c| c.weights.len()).sum()),
        bias: columns.iter().map(|c| c.bias).collect(),
        dense: vec![0.0; (sub.features() - sparse) * children],
    };
    for (c, column) in columns.into_iter().enumerate() {
        for (f, v) in column.weights {
            match sub.global().get(f as usize) {
                Some(&global) => weights.entries.push((global, c as u16, v)),
                None => weights.dense[(f as usize - sparse) * children + c] = v,
            }
        }
    }
    weights.entries.sort_unstable_by_key(|&(f, c, _)| (f, c));
    weights
}

//! Who trains which parent when? One queue for all parents of all levels that may be trained now, most work first.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use xmc_data::Csr;

use super::config::LevelParams;
use crate::features::Features;
use crate::negatives::Matching;
use crate::solver::{self, Child, Column};
use crate::store::{Chunk, ChunkWeights, Level, LevelBuilder, Packing, Precision};
use crate::subproblem::{Renumbering, SubProblem};

/// One level in the queue.
pub(crate) struct LevelTask<'a> {
    pub(crate) params: &'a LevelParams,
    pub(crate) matching: Matching,
    /// `[children, n]`
    pub(crate) targets: Csr,
    /// With the pattern of `targets`.
    pub(crate) relevance: Option<Csr>,
    pub(crate) offsets: &'a [u32],
    pub(crate) packing: Packing,
}

/// Trains the given levels; the first of them has place `first` in its tree. `progress` is told of children as they are
/// done.
pub(crate) fn train_levels(
    x: &Features,
    tasks: &[LevelTask],
    precision: Precision,
    seed: u64,
    first: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Vec<Level> {
    let sparse = x.sparse().cols();
    let pack =
        |task: &LevelTask, weights: ChunkWeights| Chunk::new(&weights, sparse, task.packing, precision);
    let chunks = train_parents(x, tasks, seed, first, &pack, progress);
    let level = |(task, chunks): (&LevelTask, Vec<Chunk>)| {
        let mut builder = LevelBuilder::new(task.packing, precision);
        for chunk in chunks {
            builder.push(chunk);
        }
        builder.finish(task.params.post_processor, task.params.keep)
    };
    tasks.iter().zip(chunks).map(level).collect()
}

/// Trains every parent of the given levels, the most work first; returns what `pack` makes of the weights, by level and
/// parent.
pub(crate) fn train_parents<T: Send>(
    x: &Features,
    levels: &[LevelTask],
    seed: u64,
    first: usize,
    pack: &(impl Fn(&LevelTask, ChunkWeights) -> T + Sync),
    progress: &(dyn Fn(usize) + Sync),
) -> Vec<Vec<T>> {
    let mut jobs: Vec<(u64, usize, usize)> = Vec::new();
    for (t, level) in levels.iter().enumerate() {
        for (p, w) in level.offsets.windows(2).enumerate() {
            jobs.push((u64::from(w[1] - w[0]).div_ceil(16) * level.matching.rows(p) as u64, t, p));
        }
    }
    jobs.sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let slots: Vec<Vec<Mutex<Option<T>>>> =
        levels.iter().map(|l| l.offsets.windows(2).map(|_| Mutex::new(None)).collect()).collect();
    let next = AtomicUsize::new(0);
    rayon::scope(|scope| {
        for _ in 0..rayon::current_num_threads() {
            scope.spawn(|_| {
                let mut worker = Worker::new(x);
                while let Some(&(_, t, p)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let weights = worker.train_parent(&levels[t], p, job_seed(seed, first + t, p));
                    let packed = pack(&levels[t], weights);
                    if let Ok(mut slot) = slots[t][p].lock() {
                        *slot = Some(packed);
                    }
                    progress((levels[t].offsets[p + 1] - levels[t].offsets[p]) as usize);
                }
            });
        }
    });
    let packed = |slot: Mutex<Option<T>>| slot.into_inner().ok().flatten();
    slots.into_iter().map(|level| level.into_iter().filter_map(packed).collect()).collect()
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

    /// Trains the children of parent `p`.
    fn train_parent(&mut self, level: &LevelTask, p: usize, seed: u64) -> ChunkWeights {
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
        by_feature(&sub, columns)
    }

    fn child(&self, level: &LevelTask, child: usize) -> Child {
        let positives = level.targets.row(child).indices.iter().map(|&r| self.position[r as usize]);
        let Some(relevance) = &level.relevance else {
            let mut positives: Vec<u32> = positives.collect();
            positives.sort_unstable();
            return Child { positives, relevance: Vec::new() };
        };
        let relevance = relevance.row(child).values;
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

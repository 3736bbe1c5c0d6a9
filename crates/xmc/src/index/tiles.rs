//! How are many queries answered? By matrix products of blocks of queries and blocks of labels.
//!
//! ```text
//! for each step of labels            laid out for the products once, in parallel
//!     for each block of queries      in parallel
//!         for each block of labels   scores [queries, labels] stay in the second-level cache
//!             keep what is above the floor of its query
//! ```
//! Of int8 the bf16 copy is multiplied: products wait for arithmetic, not for memory, and it leaves fewer candidates.
//! With few blocks of queries the labels are cut into parts that run side by side.

use std::ops::Range;

use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, IntoParallelRefMutIterator,
    ParallelIterator,
};
use rayon::slice::ParallelSliceMut;
use xmc_nn::Precision;
use xmc_nn::ops::matmul::{Lhs, Rhs, View, product};

use super::bound::Bound;
use super::embeddings::{LabelEmbeddings, Values};
use super::scan::{keep, merged};
use super::select::Band;
use super::{Batch, Ranked, kernels};

/// Queries of a product.
const QUERIES: usize = 256;

/// Labels of a product.
const LABELS: usize = 512;

/// Blocks of labels laid out at once.
const STEP: usize = 16;

/// Tasks to have at least, if there are enough labels.
const TASKS: usize = 16;

/// Answers the open queries by products in `precision`; those with too many candidates stay open.
pub(super) fn search(
    batch: &Batch<'_>,
    labels: &LabelEmbeddings,
    precision: Precision,
    results: &mut [Option<Ranked>],
) {
    let open = Batch::open(results);
    if open.is_empty() {
        return;
    }
    let pass = Pass::new(batch, labels, precision, &open);
    let parts = TASKS.div_ceil(open.len().div_ceil(QUERIES));
    let size = labels.rows().div_ceil(parts).next_multiple_of(LABELS * STEP / 2);
    let starts: Vec<usize> = (0..labels.rows()).step_by(size).collect();
    let parts: Vec<Vec<Band>> = (starts.into_par_iter())
        .map(|start| pass.candidates(start..(start + size).min(labels.rows())))
        .collect();
    let bands = merged(parts, Band::merge);
    let ranked: Vec<Option<Ranked>> = (open.par_iter().zip(bands))
        .map(|(&i, band)| band.rank(|chosen| labels.scores_of(batch.rows[i], chosen)))
        .collect();
    for (&i, row) in open.iter().zip(ranked) {
        results[i] = row;
    }
}

/// Everything that all tasks read.
struct Pass<'a> {
    batch: &'a Batch<'a>,
    labels: &'a LabelEmbeddings,
    precision: Precision,
    /// Query of each row of `lhs`.
    open: &'a [usize],
    bounds: Vec<Bound>,
    lhs: Lhs,
}

/// A block of labels laid out.
struct Block {
    labels: Range<usize>,
    rhs: Rhs,
    scratch: Vec<f32>,
    /// Largest norm and residual.
    norm: f32,
    residual: f32,
}

/// Buffers of a task.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    found: Vec<u32>,
}

impl<'a> Pass<'a> {
    fn new(
        batch: &'a Batch<'a>,
        labels: &'a LabelEmbeddings,
        precision: Precision,
        open: &'a [usize],
    ) -> Self {
        let rows: Vec<f32> = open.iter().flat_map(|&i| batch.rows[i]).copied().collect();
        let bound = |row: &[f32]| Bound::of_products(row, precision, labels.dtype());
        let mut lhs = Lhs::new(precision);
        lhs.fill(View::new(&rows, open.len(), labels.dim));
        let bounds = open.par_iter().map(|&i| bound(batch.rows[i])).collect();
        Pass { batch, labels, precision, open, bounds, lhs }
    }

    /// Candidates of all open queries among a range of labels.
    fn candidates(&self, range: Range<usize>) -> Vec<Band> {
        let band = |&i: &usize| Band::new(self.batch.k, self.batch.floor(i));
        let mut bands: Vec<Band> = self.open.iter().map(band).collect();
        let mut blocks: Vec<Block> = (0..STEP).map(|_| Block::new(self.precision)).collect();
        for start in range.clone().step_by(STEP * LABELS) {
            let step = start..(start + STEP * LABELS).min(range.end);
            let blocks = &mut blocks[..step.len().div_ceil(LABELS)];
            blocks.par_iter_mut().enumerate().for_each(|(n, block)| {
                let start = step.start + n * LABELS;
                block.fill(self, start..(start + LABELS).min(step.end));
            });
            bands.par_chunks_mut(QUERIES).enumerate().for_each_init(
                Scratch::default,
                |scratch, (n, bands)| {
                    for block in &*blocks {
                        self.select(n * QUERIES, bands, block, scratch);
                    }
                },
            );
        }
        bands
    }

    /// Scores a block of queries, of which the first is `first`, with a block of labels, and keeps the best.
    fn select(&self, first: usize, bands: &mut [Band], block: &Block, scratch: &mut Scratch) {
        let n = block.labels.len();
        scratch.scores.resize(QUERIES * LABELS, 0.0);
        let scores = &mut scratch.scores[..bands.len() * n];
        product(&self.lhs, &block.rhs, first..first + bands.len(), scores, n, false);
        for (row, (band, scores)) in bands.iter_mut().zip(scores.chunks_exact(n)).enumerate() {
            let bound = self.bounds[first + row];
            let floor = band.floor() - bound.error(block.norm, block.residual);
            scratch.found.clear();
            kernels::at_least(scores, floor, &mut scratch.found);
            let query = self.open[first + row];
            keep(self.batch, query, self.labels, block.labels.start, scores, &scratch.found, bound, band);
        }
    }
}

impl Block {
    fn new(precision: Precision) -> Self {
        Block { labels: 0..0, rhs: Rhs::new(precision), scratch: Vec::new(), norm: 0.0, residual: 0.0 }
    }

    /// Lays out the labels of a range.
    fn fill(&mut self, pass: &Pass<'_>, range: Range<usize>) {
        let (labels, d) = (pass.labels, pass.labels.dim);
        let values = range.start * d..range.end * d;
        (self.norm, self.residual) = labels.largest(&range);
        self.scratch.resize(LABELS * d, 0.0);
        let scratch = &mut self.scratch[..values.len()];
        let rows = match &labels.values {
            Values::F32(v) => &v[values],
            Values::Bf16(v) | Values::Int8 { exact: v, .. } => {
                kernels::widen(&v[values], scratch);
                scratch
            }
        };
        self.rhs.fill(View::new(rows, range.len(), d).t());
        self.labels = range;
    }
}

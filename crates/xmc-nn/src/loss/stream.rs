//! How does a loss see b × l scores without storing them?
//!
//! Labels pass by in blocks. For one block and up to 256 rows the scores S [rows, block] are made, used and forgotten
//! while they are in the second-level cache:
//!
//! ```text
//! S   = X' Y_b^T + offset        X' = X / tau, laid out once
//! reduce:     fold each row of S into a few numbers                       1 product
//! gradients:  S becomes G = d loss / d S, then
//!             dX += G Y_b,   dY_b = G^T X',   doffset_b = column sums     3 products
//! ```
//!
//! Work for threads: blocks are grouped into at most 64 contiguous leaves of a binary tree, from l alone. A leaf runs
//! its blocks in their order; results are joined left before right along the tree. So sums have one order at any
//! number of threads, and no more partial sums are alive than the tree is deep, for each thread.
//!
//! Memory: dX partial sums [b, d], layouts of X twice, some blocks; nothing grows with l but y and dy themselves.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::ops::matmul::{Lhs, Precision, Rhs, View, product};

/// Rows of X whose scores are made together.
const TILE_ROWS: usize = 256;

/// Leaves of the tree of sums: enough to keep many threads busy to the end.
const MAX_LEAVES: usize = 64;

/// Embeddings, ready to be multiplied block by block.
pub(super) struct Stream<'a> {
    y: &'a [f32],              // [l, d]
    offset: Option<&'a [f32]>, // [l]
    d: usize,
    b: usize,
    tau: f32,
    block: usize,
    precision: Precision,
    tiles: Vec<Tile>,
    scratch: Mutex<Vec<Scratch>>,
}

/// Some rows of X', laid out for both sides.
struct Tile {
    rows: Range<usize>,
    lhs: Lhs, // [rows, d]
    rhs: Rhs, // [rows, d]
}

/// What one thread needs for one block.
struct Scratch {
    scores: Vec<f32>, // [rows, block]
    y_t: Rhs,         // [d, block]
    y: Rhs,           // [block, d]
    g: Lhs,           // [rows, block]
    g_t: Lhs,         // [block, rows]
}

/// A contiguous range of labels and where its gradients go; empty places where none are asked for.
struct Leaf<'a> {
    labels: Range<usize>,
    dy: &'a mut [f32],      // [labels, d]
    doffset: &'a mut [f32], // [labels]
}

/// What a pass of gradients gives besides dY and doffset.
pub(super) struct Gradients<R> {
    /// [b, d]
    pub(super) dx: Vec<f32>,
    /// What the rows were folded into.
    pub(super) folded: R,
}

/// What a loss does with the scores of a row in a block: `(folded, row, first label, scores)`.
pub(super) trait Visit<R>: Fn(&mut R, usize, usize, &mut [f32]) + Sync {}
impl<R, F: Fn(&mut R, usize, usize, &mut [f32]) + Sync> Visit<R> for F {}

impl<'a> Stream<'a> {
    /// Lays out `rows` of `x [_, d]`, divided by tau, against `y [l, d]`.
    pub(super) fn new(
        (x, rows): (&[f32], &[usize]),
        y: &'a [f32],
        offset: Option<&'a [f32]>,
        d: usize,
        tau: f32,
        (block, precision): (usize, Precision),
    ) -> Self {
        let b = rows.len();
        let per_tile = b.div_ceil(b.div_ceil(TILE_ROWS).max(1)).max(1);
        let tiles = rows.chunks(per_tile).enumerate().map(|(i, rows)| {
            let scaled: Vec<f32> =
                rows.iter().flat_map(|&row| x[row * d..(row + 1) * d].iter().map(|v| v / tau)).collect();
            let view = View::new(&scaled, rows.len(), d);
            let (mut lhs, mut rhs) = (Lhs::new(precision), Rhs::new(precision));
            lhs.fill(view);
            rhs.fill(view);
            Tile { rows: i * per_tile..i * per_tile + rows.len(), lhs, rhs }
        });
        let tiles = tiles.collect();
        Stream { y, offset, d, b, tau, block, precision, tiles, scratch: Mutex::default() }
    }

    /// Number of labels.
    pub(super) fn l(&self) -> usize {
        self.y.len() / self.d
    }

    /// Folds the scores of all rows; every leaf begins with `new()`, `merge(left, right)` joins neighbours.
    pub(super) fn reduce<R: Send>(
        &self,
        new: impl Fn() -> R + Sync,
        visit: impl Visit<R>,
        merge: impl Fn(R, R) -> R + Sync,
    ) -> R {
        let mut leaves = self.leaves(&mut [], &mut []);
        let work = |leaf: &mut Leaf<'_>| {
            let mut folded = new();
            self.with_scratch(|scratch| {
                for labels in blocks(&leaf.labels, self.block) {
                    self.lay_out_labels(&labels, scratch);
                    for tile in &self.tiles {
                        self.scores(tile, &labels, scratch, &mut folded, &visit);
                    }
                }
            });
            folded
        };
        tree(&mut leaves, &work, &merge).unwrap_or_else(new)
    }

    /// Folds as [`reduce`](Self::reduce) does; `visit` turns scores into d loss / d score. Writes `dy [l, d]` and
    /// `doffset` (`[l]` or empty).
    pub(super) fn gradients<R: Send>(
        &self,
        (dy, doffset): (&mut [f32], &mut [f32]),
        new: impl Fn() -> R + Sync,
        visit: impl Visit<R>,
        merge: impl Fn(R, R) -> R + Sync,
    ) -> Gradients<R> {
        let mut leaves = self.leaves(dy, doffset);
        let work = |leaf: &mut Leaf<'_>| {
            let mut sums = Gradients { dx: vec![0.0; self.b * self.d], folded: new() };
            self.with_scratch(|scratch| self.leaf_gradients(leaf, scratch, &mut sums, &visit));
            sums
        };
        let join = |mut left: Gradients<R>, right: Gradients<R>| {
            for (sum, value) in left.dx.iter_mut().zip(&right.dx) {
                *sum += value;
            }
            Gradients { dx: left.dx, folded: merge(left.folded, right.folded) }
        };
        let mut all = tree(&mut leaves, &work, &join)
            .unwrap_or_else(|| Gradients { dx: vec![0.0; self.b * self.d], folded: new() });
        all.dx.iter_mut().for_each(|v| *v /= self.tau);
        all
    }

    fn leaf_gradients<R>(
        &self,
        leaf: &mut Leaf<'_>,
        scratch: &mut Scratch,
        sums: &mut Gradients<R>,
        visit: &impl Visit<R>,
    ) {
        let (d, start) = (self.d, leaf.labels.start);
        for labels in blocks(&leaf.labels, self.block) {
            let n = labels.len();
            self.lay_out_labels(&labels, scratch);
            scratch.y.fill(View::new(&self.y[labels.start * d..labels.end * d], n, d));
            let inside = labels.start - start..labels.end - start;
            let dy = &mut leaf.dy[inside.start * d..inside.end * d];
            for tile in &self.tiles {
                let rows = tile.rows.len();
                self.scores(tile, &labels, scratch, &mut sums.folded, visit);
                let g = View::new(&scratch.scores[..rows * n], rows, n);
                scratch.g.fill(g);
                scratch.g_t.fill(g.t());
                product(&scratch.g, &scratch.y, 0..rows, &mut sums.dx[tile.rows.start * d..], d, true);
                product(&scratch.g_t, &tile.rhs, 0..n, dy, d, tile.rows.start > 0);
                if self.offset.is_some() {
                    add_column_sums(&scratch.scores[..rows * n], &mut leaf.doffset[inside.clone()]);
                }
            }
        }
    }

    /// Makes the scores of a block for a tile and lets `visit` see them, row by row.
    fn scores<R>(
        &self,
        tile: &Tile,
        labels: &Range<usize>,
        scratch: &mut Scratch,
        folded: &mut R,
        visit: &impl Visit<R>,
    ) {
        let n = labels.len();
        let scores = &mut scratch.scores[..tile.rows.len() * n];
        product(&tile.lhs, &scratch.y_t, 0..tile.rows.len(), scores, n, false);
        for (row, scores) in tile.rows.clone().zip(scores.chunks_mut(n)) {
            if let Some(offset) = self.offset {
                for (score, value) in scores.iter_mut().zip(&offset[labels.clone()]) {
                    *score += value;
                }
            }
            visit(folded, row, labels.start, scores);
        }
    }

    fn lay_out_labels(&self, labels: &Range<usize>, scratch: &mut Scratch) {
        let y = &self.y[labels.start * self.d..labels.end * self.d];
        scratch.y_t.fill(View::new(y, labels.len(), self.d).t());
    }

    /// Cuts labels, and the places of their gradients, into leaves; a function of l and the block size alone.
    fn leaves<'b>(&self, mut dy: &'b mut [f32], mut doffset: &'b mut [f32]) -> Vec<Leaf<'b>> {
        let (l, blocks) = (self.l(), self.l().div_ceil(self.block));
        let per_leaf = blocks.div_ceil(MAX_LEAVES).max(1) * self.block;
        let mut leaves = Vec::with_capacity(l.div_ceil(per_leaf));
        for start in (0..l).step_by(per_leaf) {
            let labels = start..(start + per_leaf).min(l);
            let (dy_here, dy_later) = dy.split_at_mut((labels.len() * self.d).min(dy.len()));
            let (doffset_here, doffset_later) = doffset.split_at_mut(labels.len().min(doffset.len()));
            (dy, doffset) = (dy_later, doffset_later);
            leaves.push(Leaf { labels, dy: dy_here, doffset: doffset_here });
        }
        leaves
    }

    /// Lends buffers, so that their memory is touched for the first time only once per thread.
    fn with_scratch(&self, work: impl FnOnce(&mut Scratch)) {
        let lent = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = lent.unwrap_or_else(|| Scratch {
            scores: vec![0.0; self.tiles.first().map_or(0, |tile| tile.rows.len()) * self.block],
            y_t: Rhs::new(self.precision),
            y: Rhs::new(self.precision),
            g: Lhs::new(self.precision),
            g_t: Lhs::new(self.precision),
        });
        work(&mut scratch);
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

fn blocks(labels: &Range<usize>, block: usize) -> impl Iterator<Item = Range<usize>> {
    let end = labels.end;
    labels.clone().step_by(block).map(move |start| start..(start + block).min(end))
}

fn add_column_sums(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks(sums.len().max(1)) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// Runs leaves in parallel and joins their results along a binary tree of fixed shape. None without leaves.
fn tree<L: Send, R: Send>(
    leaves: &mut [L],
    work: &(impl Fn(&mut L) -> R + Sync),
    merge: &(impl Fn(R, R) -> R + Sync),
) -> Option<R> {
    match leaves {
        [] => None,
        [leaf] => Some(work(leaf)),
        _ => {
            let (left, right) = leaves.split_at_mut(leaves.len() / 2);
            match rayon::join(|| tree(left, work, merge), || tree(right, work, merge)) {
                (Some(left), Some(right)) => Some(merge(left, right)),
                (one, None) | (None, one) => one,
            }
        }
    }
}

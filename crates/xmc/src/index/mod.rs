//! Which labels have the largest inner product with a query? Exactly, over all of them.
//!
//! * [`embeddings`]: the label matrix `[l, d]` as f32, bf16 or int8, in memory or mapped from a [`file`];
//! * [`search()`]: blocked top k with filters; [`bound`] is why a fast first pass loses nothing;
//! * `tiles` is that first pass for many queries, `scan` for few;
//! * [`cells`] looks only near a query: approximate, for more pairs than can all be compared.
//!
//! The score of a label is one fixed thing, whatever path found it: the f32 sum over 32 lanes of `kernels::dot` of the
//! query with the stored row, multiplication and addition rounded one by one. It has the same bits on every processor,
//! for any number of threads, alone or in a batch. Labels come by falling score, equal scores by rising id.
//!
//! *Useful for* up to some millions of labels: a batch costs 2 b l d operations at the speed of matrix products, a
//! single query one reading of the label matrix. *Not for* answers below a millisecond over more than 10^5 labels:
//! that takes an approximate index, as [`elias`](crate::methods::elias) learns one.
//!
//! ```
//! use xmc::index::{search, Dtype, Filter, LabelEmbeddings};
//! use xmc::nn::{Device, Tensor};
//! let labels = [1.0, 0.0, 0.0, 1.0, 0.5, 0.5]; // [3, 2]
//! let labels = LabelEmbeddings::from_values(2, &labels, Dtype::F32).unwrap();
//! let query = Tensor::from_host(1, 2, vec![2.0, 1.0], Device::Cpu).unwrap();
//! let top = search(&query, &labels, 2, &Filter::none()).unwrap();
//! assert_eq!(top.row(0), [(0, 2.0), (2, 1.5)]);
//! let top = search(&query, &labels, 2, &Filter::pairs(&[(0, 0)])).unwrap();
//! assert_eq!(top.row(0), [(2, 1.5), (1, 1.0)]);
//! ```

pub mod bound;
pub mod cells;
mod chosen;
pub mod embeddings;
pub mod file;
pub mod filter;
mod kernels;
mod nearest;
pub mod quantize;
mod scan;
mod select;
mod tiles;

use xmc_data::TopK;
use xmc_nn::{Precision, Tensor};

pub use cells::Cells;
pub(crate) use chosen::Query;
pub use embeddings::LabelEmbeddings;
pub use file::Writer;
pub use filter::Filter;
pub use quantize::Dtype;
pub(crate) use select::best_of;

use crate::encoder::best_precision;
use crate::error::{Error, Result};

/// Queries searched at once: bounds the memory for candidates.
const BATCH: usize = 4096;

/// Up to so many queries a pass over the labels costs less than laying them out for matrix products.
const FEW: usize = 8;

/// The best `k` labels of every row of `queries [b, d]`, all of them exact, without those that `filter` excludes.
///
/// A row has fewer than `k` labels only if fewer are left.
pub fn search(queries: &Tensor, labels: &LabelEmbeddings, k: usize, filter: &Filter<'_>) -> Result<TopK> {
    search_in(best_precision(), queries, labels, k, filter)
}

/// [`search()`], with the precision of the products that find candidates given. The answer is the same.
pub fn search_in(
    precision: Precision,
    queries: &Tensor,
    labels: &LabelEmbeddings,
    k: usize,
    filter: &Filter<'_>,
) -> Result<TopK> {
    search_above(precision, queries, labels, k, filter, &[])
}

/// [`search_in`], where labels of query i that score below `floors[i]` need not be found: without them, most labels cost
/// next to nothing.
fn search_above(
    precision: Precision,
    queries: &Tensor,
    labels: &LabelEmbeddings,
    k: usize,
    filter: &Filter<'_>,
    floors: &[f32],
) -> Result<TopK> {
    check(queries, labels)?;
    let mut top = TopK::new();
    let rows: Vec<&[f32]> = queries.host().chunks_exact(labels.dim()).collect();
    for (n, rows) in rows.chunks(BATCH).enumerate() {
        let floors = floors.get(n * BATCH..).unwrap_or_default();
        let batch = Batch { rows, first: n * BATCH, k, filter, floors };
        for row in batch.search(precision, labels) {
            top.push_ranked(&row);
        }
    }
    Ok(top)
}

fn check(queries: &Tensor, labels: &LabelEmbeddings) -> Result<()> {
    if queries.cols() != labels.dim() {
        let (q, l) = (queries.cols(), labels.dim());
        return Err(Error::Mismatch(format!(
            "queries have {q} dimensions, the label embeddings {l}: both must come from the same encoder"
        )));
    }
    match queries.host().chunks_exact(labels.dim()).position(|row| !quantize::representable(row)) {
        None => Ok(()),
        Some(i) => Err(Error::Mismatch(format!(
            "query {i}: its embedding has values that are not numbers, or are beyond {:e}",
            quantize::LARGEST
        ))),
    }
}

/// Queries that are searched together.
struct Batch<'a> {
    rows: &'a [&'a [f32]],
    /// Number of the first one, as the filter counts.
    first: usize,
    k: usize,
    filter: &'a Filter<'a>,
    /// What a label of each query must reach to count; none if this is empty.
    floors: &'a [f32],
}

/// Labels and scores of a query, best first.
type Ranked = Vec<(u32, f32)>;

impl Batch<'_> {
    /// Ever more exact passes, each over the queries for which the one before found too many candidates.
    fn search(&self, precision: Precision, labels: &LabelEmbeddings) -> Vec<Ranked> {
        let mut results = vec![None; self.rows.len()];
        if self.k == 0 || labels.rows() == 0 {
            return vec![Ranked::new(); self.rows.len()];
        }
        if self.rows.len() > FEW {
            tiles::search(self, labels, precision, &mut results);
            if precision != Precision::F32 {
                tiles::search(self, labels, Precision::F32, &mut results);
            }
        } else if labels.dtype() == Dtype::Int8 {
            scan::search_codes(self, labels, &mut results);
        }
        scan::search_exact(self, labels, &mut results);
        results.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Numbers of the queries that have no answer yet.
    fn open(results: &[Option<Ranked>]) -> Vec<usize> {
        (0..results.len()).filter(|&i| results[i].is_none()).collect()
    }

    /// What a label of query `i` of these must reach.
    fn floor(&self, i: usize) -> f32 {
        self.floors.get(i).copied().unwrap_or(f32::NEG_INFINITY)
    }

    /// Whether query `i` of these must not find `label`.
    fn excludes(&self, i: usize, label: u32) -> bool {
        self.filter.excludes(self.first + i, label)
    }
}

//! Which labels have the largest inner product with a query, among those that lie near it?
//!
//! Labels are parted into cells around centroids (spherical k-means on a sample); a query looks into the few cells whose
//! centroids it has the largest products with, and ranks all labels there exactly. Scores are those of [`search()`]; only
//! labels may be missing. So recall is what must be known, and [`Cells::recall`] measures it against the exact search.
//!
//! Queries are grouped by cell, so that each cell is multiplied once with all queries that look into it.
//! Cost for b queries: 2 b d (c + p l / c) operations for c cells of which p are looked into, instead of 2 b d l.
//!
//! *Useful for* more than some 10^12 pairs of queries and labels. *Not for* vectors without any structure: neighbours of
//! random vectors lie in all cells, and exact search is as fast.
//!
//! Everything is a function of labels and seed: any number of threads gives the same cells and answers.

use rayon::prelude::*;
use xmc_data::TopK;
use xmc_data::topk::by_score;
use xmc_nn::{Device, Tensor};

use super::{Dtype, Filter, LabelEmbeddings, search, search_above};
use crate::encoder::best_precision;
use crate::error::Result;
use crate::random::{Draws, Purpose};

/// Rows that k-means looks at, for each cell.
const SAMPLE: usize = 64;
/// Rounds of k-means: later ones move next to nothing.
const ROUNDS: u64 = 8;
/// Rows embedded or looked up at a time.
const AT_ONCE: usize = 1 << 15;

/// Labels in cells.
#[derive(Debug)]
pub struct Cells {
    dim: usize,
    centroids: LabelEmbeddings,
    /// Ids of the labels of each cell, rising.
    members: Vec<Vec<u32>>,
    /// Their embeddings, as they were given.
    lists: Vec<LabelEmbeddings>,
}

impl Cells {
    /// About as many cells as a query then meets labels in one: the cheapest.
    pub fn usual(labels: usize) -> usize {
        ((labels as f64).sqrt() as usize).clamp(1, 1 << 16)
    }

    /// Parts `labels` into `count` cells.
    pub fn new(labels: &LabelEmbeddings, count: usize, seed: u64) -> Result<Self> {
        let (dim, n) = (labels.dim(), labels.rows());
        let count = count.clamp(1, n.max(1));
        let mut draws = Draws::new(seed, Purpose::Cells, 0);
        let sample = draws.distinct(count.saturating_mul(SAMPLE).min(n), n);
        let sample = rows_of(labels, &sample)?;
        let first = draws.distinct(count, sample.rows());
        let first: Vec<f32> = first.iter().flat_map(|&i| row(&sample, i as usize).to_vec()).collect();
        let mut centroids = LabelEmbeddings::from_values(dim, &first, Dtype::F32)?;
        for _ in 0..ROUNDS {
            let cells = nearest(&sample, &centroids)?;
            centroids = moved(&sample, &cells, &centroids)?;
        }
        let mut members = vec![Vec::new(); centroids.rows()];
        for start in (0..n).step_by(AT_ONCE) {
            let ids: Vec<u32> = (start..n.min(start + AT_ONCE)).map(|i| i as u32).collect();
            for (&id, &cell) in ids.iter().zip(&nearest(&rows_of(labels, &ids)?, &centroids)?) {
                if let Some(list) = members.get_mut(cell as usize) {
                    list.push(id);
                }
            }
        }
        let lists = members
            .iter()
            .map(|ids| LabelEmbeddings::from_values(dim, rows_of(labels, ids)?.host(), labels.dtype()))
            .collect::<Result<_>>()?;
        Ok(Cells { dim, centroids, members, lists })
    }

    /// Number of cells.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The best `k` labels of every row of `queries [b, d]` among those of the `probes` cells that fit it best.
    pub fn search(&self, queries: &Tensor, k: usize, probes: usize) -> Result<TopK> {
        if k == 0 || self.dim == 0 {
            return search(queries, &self.centroids, 0, &Filter::none());
        }
        let mut top = TopK::new();
        for rows in queries.host().chunks(AT_ONCE * self.dim) {
            let some = tensor(self.dim, rows.to_vec())?;
            let cells = search(&some, &self.centroids, probes, &Filter::none())?;
            let mut best = vec![Vec::new(); some.rows()];
            for round in 0..cells.longest() {
                self.visit(&some, &cells, round, k, &mut best)?;
            }
            for row in &best {
                top.push_ranked(row);
            }
        }
        Ok(top)
    }

    /// Looks into the cell of each query that is its `round`-th. What a query has found so far is a floor for what is
    /// worth finding there.
    fn visit(
        &self,
        queries: &Tensor,
        cells: &TopK,
        round: usize,
        k: usize,
        best: &mut [Vec<(u32, f32)>],
    ) -> Result<()> {
        let mut visitors = vec![Vec::new(); self.count()];
        for i in 0..queries.rows() {
            if let Some(&(cell, _)) = cells.row(i).get(round) {
                visitors[cell as usize].push(i as u32);
            }
        }
        let floor = |i: u32| best[i as usize].get(k - 1).map_or(f32::NEG_INFINITY, |&(_, score)| score);
        let found: Vec<TopK> = visitors
            .par_iter()
            .zip(&self.lists)
            .map(|(rows, list)| {
                let gathered = rows.iter().flat_map(|&i| row(queries, i as usize)).copied().collect();
                let floors: Vec<f32> = rows.iter().map(|&i| floor(i)).collect();
                let gathered = tensor(self.dim, gathered)?;
                search_above(best_precision(), &gathered, list, k, &Filter::none(), &floors)
            })
            .collect::<Result<_>>()?;
        for ((rows, members), found) in visitors.iter().zip(&self.members).zip(&found) {
            for (at, &i) in rows.iter().enumerate() {
                let best = &mut best[i as usize];
                best.extend(found.row(at).iter().map(|&(place, score)| (members[place as usize], score)));
                best.sort_unstable_by(by_score);
                best.truncate(k);
            }
        }
        Ok(())
    }

    /// Share of the `k` best labels of some queries that `probes` cells hold; `exact` are all of them. A label as good as
    /// the last of these counts as well, if its id alone kept it out.
    pub fn recall(&self, queries: &Tensor, exact: &TopK, k: usize, probes: usize) -> Result<f64> {
        let found = self.search(queries, k, probes)?;
        let (mut hits, mut of) = (0, 0);
        for i in 0..queries.rows() {
            let all = exact.row(i);
            of += all.len();
            let last = all.last().map_or(f32::INFINITY, |&(_, score)| score);
            hits += found.row(i).iter().filter(|&&(_, score)| score >= last).count().min(all.len());
        }
        Ok(if of == 0 { 1.0 } else { hits as f64 / of as f64 })
    }

    /// The fewest probes, doubling from 1, whose recall on a sample of queries is at least `recall`, and what it is; none if
    /// more than a quarter of the cells would be needed, where exact search is no slower.
    pub fn probes_for(
        &self,
        sample: &Tensor,
        exact: &TopK,
        k: usize,
        recall: f64,
    ) -> Result<Option<(usize, f64)>> {
        let mut probes = 1;
        while probes <= self.count().div_ceil(4) {
            let found = self.recall(sample, exact, k, probes)?;
            if found >= recall {
                return Ok(Some((probes, found)));
            }
            probes *= 2;
        }
        Ok(None)
    }
}

fn tensor(dim: usize, values: Vec<f32>) -> Result<Tensor> {
    Ok(Tensor::from_host(values.len() / dim.max(1), dim, values, Device::Cpu)?)
}

fn row(m: &Tensor, i: usize) -> &[f32] {
    &m.host()[i * m.cols()..(i + 1) * m.cols()]
}

fn rows_of(labels: &LabelEmbeddings, ids: &[u32]) -> Result<Tensor> {
    let mut values = Vec::with_capacity(ids.len() * labels.dim());
    for &id in ids {
        values.extend_from_slice(&labels.row(id as usize));
    }
    tensor(labels.dim(), values)
}

/// The centroid that fits each row best.
fn nearest(rows: &Tensor, centroids: &LabelEmbeddings) -> Result<Vec<u32>> {
    let top = search(rows, centroids, 1, &Filter::none())?;
    Ok((0..rows.rows()).map(|i| top.row(i).first().map_or(0, |&(cell, _)| cell)).collect())
}

/// Sums of the rows of each cell, of length 1; an empty cell stays where it was.
fn moved(rows: &Tensor, cells: &[u32], old: &LabelEmbeddings) -> Result<LabelEmbeddings> {
    let dim = rows.cols();
    let mut sums = vec![0f64; old.rows() * dim];
    for (i, &cell) in cells.iter().enumerate() {
        let at = cell as usize * dim;
        sums[at..at + dim].iter_mut().zip(row(rows, i)).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    let mut values = Vec::with_capacity(sums.len());
    for (cell, sum) in sums.chunks_exact(dim.max(1)).enumerate() {
        let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > 0.0 {
            values.extend(sum.iter().map(|v| (v / norm) as f32));
        } else {
            values.extend_from_slice(&old.row(cell));
        }
    }
    LabelEmbeddings::from_values(dim, &values, Dtype::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows around `centres` points, of length 1.
    fn clustered(rows: usize, dim: usize, centres: u64, seed: u64) -> Vec<f32> {
        let centre = |c: u64| {
            let mut draws = Draws::new(1, Purpose::Cells, 1 << 40 | c);
            (0..dim).map(|_| draws.normal()).collect::<Vec<_>>()
        };
        let mut values = Vec::with_capacity(rows * dim);
        for i in 0..rows as u64 {
            let mut draws = Draws::new(seed, Purpose::Cells, i);
            let mut row = centre(draws.below(centres));
            for v in &mut row {
                *v += 0.6 * draws.normal();
            }
            xmc_nn::pool::normalize(&mut row);
            values.extend(row);
        }
        values
    }

    #[test]
    fn all_cells_together_give_the_exact_answer() {
        let labels = LabelEmbeddings::from_values(16, &clustered(2000, 16, 20, 2), Dtype::F32).unwrap();
        let queries = tensor(16, clustered(300, 16, 20, 3)).unwrap();
        let cells = Cells::new(&labels, 30, 5).unwrap();
        assert_eq!(cells.members.iter().map(Vec::len).sum::<usize>(), 2000);
        let exact = search(&queries, &labels, 7, &Filter::none()).unwrap();
        assert_eq!(cells.search(&queries, 7, 30).unwrap(), exact);
        assert_eq!(cells.recall(&queries, &exact, 7, 30).unwrap(), 1.0);
    }

    #[test]
    fn probes_are_as_many_as_the_recall_asked_for_needs() {
        let labels = LabelEmbeddings::from_values(32, &clustered(20_000, 32, 100, 2), Dtype::F32).unwrap();
        let queries = tensor(32, clustered(500, 32, 100, 3)).unwrap();
        let cells = Cells::new(&labels, Cells::usual(20_000), 5).unwrap();
        let exact = search(&queries, &labels, 10, &Filter::none()).unwrap();
        let (probes, recall) = cells.probes_for(&queries, &exact, 10, 0.95).unwrap().unwrap();
        assert!(recall >= 0.95 && probes <= 35, "{probes} probes: {recall}");
        assert!(probes == 1 || cells.recall(&queries, &exact, 10, probes / 2).unwrap() < 0.95);
        assert_eq!(cells.probes_for(&queries, &exact, 10, 1.1).unwrap(), None);
    }

    #[test]
    fn threads_change_nothing_and_fewer_labels_than_cells_are_no_problem() {
        let values = clustered(500, 16, 9, 2);
        let labels = LabelEmbeddings::from_values(16, &values, Dtype::Bf16).unwrap();
        let queries = tensor(16, clustered(40, 16, 9, 3)).unwrap();
        let answer = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Cells::new(&labels, 20, 5).unwrap().search(&queries, 5, 2).unwrap())
        };
        assert_eq!(answer(1), answer(3));
        let few = LabelEmbeddings::from_values(16, &values[..48], Dtype::F32).unwrap();
        let found = Cells::new(&few, 9, 5).unwrap().search(&queries, 5, 9).unwrap();
        assert!((0..40).all(|i| found.row(i).len() == 3));
    }
}

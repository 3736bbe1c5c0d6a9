//! Which targets lie nearest to each synthetic text?
//!
//! Distinct texts are searched once, in blocks of queries, exactly or in cells ([`Cells`]); what comes out is the `k`
//! nearest targets with their cosines, ties to the lower id, for every synthetic text. Finished blocks are kept, so a
//! process that dies at any moment loses one block, and goes on to the same bits. Memory: embeddings are mapped; beside
//! them one block, and the cells if there are any.
//!
//! Cells may miss neighbours. How many is measured on a sample of the queries against the exact answer, always; as many
//! cells are looked into as reach the recall asked for, and if that takes more than a quarter of them, search is exact.

use std::path::Path;

use bytemuck::cast_slice;
use serde::{Deserialize, Serialize};
use xmc_data::TopK;
use xmc_nn::{Device, Tensor};
use xxhash_rust::xxh3::Xxh3;

use super::Neighbours;
use super::blocks::Blocks;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::index::{Cells, Filter, LabelEmbeddings, search};
use crate::random::{Draws, Purpose};

/// Operations up to which `auto` compares everything: a quarter of an hour on two cores.
const EXACT: f64 = 2e14;

/// Queries whose answers are compared with exact ones.
const SAMPLE: usize = 2000;

/// Queries of a block: small enough to lose, large enough to fill the kernels.
const EXACT_BLOCK: usize = 4096;
/// The same for cells, each of which should see many queries of a block.
const CELLS_BLOCK: usize = 1 << 15;

/// How neighbours are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Search {
    /// `exact` up to 2e14 operations, then `cells`.
    #[default]
    Auto,
    /// Every text is compared with every target.
    Exact,
    /// Only targets in cells near a text are looked at.
    Cells,
}

/// Settings of the mapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapConfig {
    /// Neighbours of a text that are kept.
    pub k: usize,
    /// How they are searched.
    pub search: Search,
    /// Share of them that must be found by `cells`.
    pub recall: f64,
    /// Seed of cells and sample.
    pub seed: u64,
}

impl Default for MapConfig {
    fn default() -> Self {
        MapConfig { k: 10, search: Search::Auto, recall: 0.98, seed: 0 }
    }
}

/// What a mapping did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapReport {
    /// Synthetic texts.
    pub texts: usize,
    /// Distinct ones: queries.
    pub queries: usize,
    /// Targets.
    pub targets: usize,
    /// Neighbours kept of each text.
    pub k: usize,
    /// `exact` or `cells`.
    pub search: Search,
    /// Cells, and how many of them a query looked into; 0 if search was exact.
    pub cells: usize,
    /// See `cells`.
    pub probes: usize,
    /// Share of the exact neighbours that were found, on a sample of `checked` queries.
    pub recall: f64,
    /// Queries of that sample; none are needed if search was exact.
    pub checked: usize,
    /// Queries whose neighbours an earlier process had found.
    pub resumed: usize,
}

/// How one query is answered.
enum Method<'a> {
    Exact(&'a LabelEmbeddings),
    Cells { cells: Box<Cells>, probes: usize },
}

impl Method<'_> {
    fn find(&self, queries: &Tensor, k: usize) -> Result<TopK> {
        match self {
            Method::Exact(targets) => search(queries, targets, k, &Filter::none()),
            Method::Cells { cells, probes } => cells.search(queries, k, *probes),
        }
    }
}

/// The nearest of `targets` for every synthetic text; text i is row `of[i]` of `queries`. Rows of both must have length 1.
///
/// `ongoing` is where finished blocks are kept; the file is removed by [`Mapped::keep`], once the result is safe.
pub fn map(
    queries: &LabelEmbeddings,
    of: &[u32],
    targets: &LabelEmbeddings,
    config: &MapConfig,
    ongoing: &Path,
    events: &dyn Events,
) -> Result<Mapped> {
    check(queries, of, targets, config)?;
    let operations = 2.0 * queries.rows() as f64 * targets.rows() as f64 * targets.dim() as f64;
    let approximate = match config.search {
        Search::Auto => operations > EXACT,
        Search::Exact => false,
        Search::Cells => true,
    };
    let mut report = MapReport {
        texts: of.len(),
        queries: queries.rows(),
        targets: targets.rows(),
        k: config.k,
        search: Search::Exact,
        cells: 0,
        probes: 0,
        recall: 1.0,
        checked: 0,
        resumed: 0,
    };
    let mut method = Method::Exact(targets);
    if approximate && let Some((cells, probes)) = cells(queries, targets, config, &mut report, events)? {
        method = Method::Cells { cells, probes };
    }
    let block = if report.search == Search::Exact { EXACT_BLOCK } else { CELLS_BLOCK };
    let identity = identity(queries, targets, config, &report);
    let mut blocks = Blocks::open(ongoing, identity)?;
    report.resumed = (blocks.len() * block).min(queries.rows());
    for start in (blocks.len() * block..queries.rows()).step_by(block) {
        events.progress(start as u64, queries.rows() as u64);
        let rows = tensor(queries, start..queries.rows().min(start + block))?;
        blocks.push(&packed(&method.find(&rows, config.k)?, config.k))?;
    }
    events.progress(queries.rows() as u64, queries.rows() as u64);
    let neighbours = spread(&mut blocks, of, queries.rows(), config.k)?;
    Ok(Mapped { neighbours, report, blocks })
}

/// Neighbours that were found, and the blocks in which they are kept until they are safe.
#[derive(Debug)]
pub struct Mapped {
    /// Of every synthetic text.
    pub neighbours: Neighbours,
    /// How they were found.
    pub report: MapReport,
    blocks: Blocks,
}

impl Mapped {
    /// Calls `save`, which must bring the neighbours to disk, and then removes the blocks.
    pub fn keep(self, save: impl FnOnce(&Neighbours) -> Result<()>) -> Result<(Neighbours, MapReport)> {
        save(&self.neighbours)?;
        self.blocks.remove()?;
        Ok((self.neighbours, self.report))
    }
}

fn check(queries: &LabelEmbeddings, of: &[u32], targets: &LabelEmbeddings, config: &MapConfig) -> Result<()> {
    if queries.dim() != targets.dim() {
        let (q, t) = (queries.dim(), targets.dim());
        return Err(Error::Mismatch(format!(
            "synthetic texts have {q} dimensions, targets {t}: embed both with the same encoder"
        )));
    }
    if targets.rows() > i32::MAX as usize {
        return Err(Error::Mismatch(format!(
            "{} targets: at most 2^31 - 1 can be mapped to",
            targets.rows()
        )));
    }
    if config.k == 0 || !(0.0..=1.0).contains(&config.recall) {
        let MapConfig { k, recall, .. } = config;
        return Err(Error::Mismatch(format!("k = {k}, recall = {recall}: expected k >= 1, recall 0 to 1")));
    }
    match of.iter().position(|&i| i as usize >= queries.rows()) {
        Some(at) => {
            let (found, rows) = (of[at], queries.rows());
            Err(Error::Mismatch(format!("text {at} is row {found} of {rows} embeddings: embed again")))
        }
        None => Ok(()),
    }
}

/// Cells, and how many to look into; none if they are of no use here.
fn cells(
    queries: &LabelEmbeddings,
    targets: &LabelEmbeddings,
    config: &MapConfig,
    report: &mut MapReport,
    events: &dyn Events,
) -> Result<Option<(Box<Cells>, usize)>> {
    events.status("cells");
    let cells = Box::new(Cells::new(targets, Cells::usual(targets.rows()), config.seed)?);
    let chosen = Draws::new(config.seed, Purpose::Checked, 0).distinct(SAMPLE, queries.rows());
    let values = chosen.iter().flat_map(|&i| queries.row(i as usize).into_owned()).collect();
    let sample = Tensor::from_host(chosen.len(), queries.dim(), values, Device::Cpu)?;
    let exact = search(&sample, targets, config.k, &Filter::none())?;
    events.status("");
    let Some((probes, recall)) = cells.probes_for(&sample, &exact, config.k, config.recall)? else {
        events.message(&format!(
            "a quarter of {} cells does not hold {:.0} % of the neighbours: search is exact",
            cells.count(),
            100.0 * config.recall
        ));
        return Ok(None);
    };
    (report.search, report.cells, report.probes) = (Search::Cells, cells.count(), probes);
    (report.recall, report.checked) = (recall, chosen.len());
    Ok(Some((cells, probes)))
}

fn tensor(m: &LabelEmbeddings, rows: std::ops::Range<usize>) -> Result<Tensor> {
    let mut values = Vec::with_capacity(rows.len() * m.dim());
    rows.clone().for_each(|i| values.extend_from_slice(&m.row(i)));
    Ok(Tensor::from_host(rows.len(), m.dim(), values, Device::Cpu)?)
}

/// What decides every bit of the blocks.
fn identity(
    queries: &LabelEmbeddings,
    targets: &LabelEmbeddings,
    config: &MapConfig,
    report: &MapReport,
) -> u64 {
    let mut hash = Xxh3::new();
    for m in [queries, targets] {
        hash.update(cast_slice(&[m.rows() as u64, m.dim() as u64]));
        (0..m.rows()).for_each(|i| hash.update(cast_slice(&m.row(i))));
    }
    let exact = u64::from(report.search == Search::Exact);
    // The seed moves the cells alone.
    let seed = if report.search == Search::Exact { 0 } else { config.seed };
    hash.update(cast_slice(&[config.k as u64, exact, report.probes as u64, seed]));
    hash.digest()
}

/// A block as bytes: for each query `k` ids, then `k` cosines.
fn packed(top: &TopK, k: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(top.rows() * k * 8);
    for i in 0..top.rows() {
        let found = top.row(i);
        let missing = k - found.len().min(k);
        let ids = found.iter().map(|&(id, _)| id.cast_signed()).chain(std::iter::repeat_n(-1, missing));
        bytes.extend(ids.flat_map(i32::to_le_bytes));
        // Rounding may leave the last bit above 1.
        let cosines = found.iter().map(|&(_, score)| score.clamp(-1.0, 1.0));
        bytes.extend(cosines.chain(std::iter::repeat_n(-1.0, missing)).flat_map(f32::to_le_bytes));
    }
    bytes
}

/// Gives every text the neighbours of its row.
fn spread(blocks: &mut Blocks, of: &[u32], queries: usize, k: usize) -> Result<Neighbours> {
    let (mut ids, mut cosines) = (Vec::with_capacity(queries * k), Vec::with_capacity(queries * k));
    let mut payload = Vec::new();
    for i in 0..blocks.len() {
        blocks.read(i, &mut payload)?;
        for query in payload.chunks_exact(8 * k) {
            let (first, second) = query.split_at(4 * k);
            ids.extend(first.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            cosines.extend(second.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
    }
    if of.iter().enumerate().all(|(i, &row)| i == row as usize) && of.len() == queries {
        return Ok(Neighbours { k, ids, cosines });
    }
    let mut all = Neighbours { k, ids: Vec::with_capacity(of.len() * k), cosines: Vec::new() };
    all.cosines.reserve_exact(of.len() * k);
    for &row in of {
        let range = row as usize * k..(row as usize + 1) * k;
        all.ids.extend_from_slice(&ids[range.clone()]);
        all.cosines.extend_from_slice(&cosines[range]);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;
    use crate::index::Dtype;

    fn rows(n: usize, dim: usize, seed: u64) -> LabelEmbeddings {
        let mut values = Vec::new();
        for i in 0..n as u64 {
            let mut draws = Draws::new(seed, Purpose::Cells, i);
            let mut centre = Draws::new(0, Purpose::Cells, 1 << 50 | draws.below(40));
            let mut row: Vec<f32> = (0..dim).map(|_| centre.normal() + 0.5 * draws.normal()).collect();
            xmc_nn::pool::normalize(&mut row);
            values.extend(row);
        }
        LabelEmbeddings::from_values(dim, &values, Dtype::F32).unwrap()
    }

    fn naive(query: &[f32], targets: &LabelEmbeddings, k: usize) -> Vec<(u32, f32)> {
        let dot = |t: &[f32]| query.iter().zip(t).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let mut all: Vec<(u32, f32)> =
            (0..targets.rows()).map(|i| (i as u32, dot(&targets.row(i)) as f32)).collect();
        all.sort_by(xmc_data::topk::by_score);
        all.truncate(k);
        all
    }

    fn identical(n: usize) -> Vec<u32> {
        (0..n as u32).collect()
    }

    #[test]
    fn exact_search_equals_the_naive_one() {
        let (queries, targets) = (rows(2000, 32, 2), rows(3000, 32, 3));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map.ongoing");
        let config = MapConfig { k: 10, ..MapConfig::default() };
        let mapped = map(&queries, &identical(2000), &targets, &config, &path, &Silent).unwrap();
        let (found, report) = mapped.keep(|_| Ok(())).unwrap();
        assert_eq!((report.search, report.recall, report.resumed), (Search::Exact, 1.0, 0));
        assert!(!path.exists());
        for i in (0..2000).step_by(7) {
            let expected = naive(&queries.row(i), &targets, 10);
            let cosines = &found.cosines[i * 10..(i + 1) * 10];
            for (at, (id, score)) in expected.into_iter().enumerate() {
                assert!((cosines[at] - score).abs() < 1e-5);
                // Another target may only stand here if it is as good to the last bits.
                let other = found.ids[i * 10 + at] as usize;
                let same = other == id as usize
                    || (naive(&queries.row(i), &targets, 3000)[..12]
                        .iter()
                        .any(|&(l, s)| l as usize == other && (s - score).abs() < 1e-5));
                assert!(same, "query {i}: {other} instead of {id}");
            }
        }
    }

    #[test]
    fn ties_go_to_the_lower_id_repeated_texts_share_and_missing_targets_are_minus_one() {
        let values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let targets = LabelEmbeddings::from_values(2, &values, Dtype::F32).unwrap();
        let queries = LabelEmbeddings::from_values(2, &[1.0, 0.0, 0.0, 1.0], Dtype::F32).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = MapConfig { k: 4, ..MapConfig::default() };
        let path = dir.path().join("o");
        let found = map(&queries, &[1, 0, 1], &targets, &config, &path, &Silent).unwrap().neighbours;
        assert_eq!(found.ids, [1, 0, 2, -1, 0, 2, 1, -1, 1, 0, 2, -1]);
        assert_eq!(found.cosines[..8], [1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, -1.0]);
    }

    #[test]
    fn blocks_of_a_process_that_died_are_kept_and_the_rest_is_the_same() {
        let (queries, targets) = (rows(9000, 16, 2), rows(500, 16, 3));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o");
        let config = MapConfig { k: 3, ..MapConfig::default() };
        let of = identical(9000);
        let whole = map(&queries, &of, &targets, &config, &path, &Silent).unwrap();
        let neighbours = whole.neighbours.clone();
        drop(whole);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 10, 16, 40, bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 1, bytes.len()] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let again = map(&queries, &of, &targets, &config, &path, &Silent).unwrap();
            assert_eq!(again.neighbours, neighbours);
            assert_eq!(again.report.resumed > 0, cut >= bytes.len() / 2, "{cut} of {}", bytes.len());
            drop(again);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        let other = MapConfig { k: 4, ..config };
        assert_eq!(map(&queries, &of, &targets, &other, &path, &Silent).unwrap().report.resumed, 0);
    }

    #[test]
    fn cells_find_nearly_all_and_say_how_many() {
        let (queries, targets) = (rows(3000, 32, 2), rows(20_000, 32, 3));
        let dir = tempfile::tempdir().unwrap();
        let of = identical(3000);
        let run = |search| {
            let config = MapConfig { search, ..MapConfig::default() };
            map(&queries, &of, &targets, &config, &dir.path().join("o"), &Silent).unwrap()
        };
        let cells = run(Search::Cells);
        let report = cells.report.clone();
        let found = cells.keep(|_| Ok(())).unwrap().0;
        let exact = run(Search::Exact).neighbours;
        let pairs = |n: &Neighbours| -> std::collections::HashSet<(usize, i32)> {
            n.ids.iter().enumerate().map(|(at, &id)| (at / 10, id)).collect()
        };
        let both = pairs(&found).intersection(&pairs(&exact)).count();
        let recall = both as f64 / exact.ids.len() as f64;
        assert!(recall >= 0.97 && (recall - report.recall).abs() < 0.01, "{recall} {report:?}");
        assert!(report.probes <= report.cells / 4 && report.checked == 2000, "{report:?}");
        // What becomes of it in a matrix, at a sigma of 0.8.
        let near = |n: &Neighbours| -> std::collections::HashSet<(usize, i32)> {
            let at = (0..n.ids.len()).filter(|&at| n.cosines[at] >= 0.6);
            at.map(|at| (at / 10, n.ids[at])).collect()
        };
        let (a, b) = (near(&found), near(&exact));
        let jaccard = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
        assert!(b.len() > 1000 && jaccard >= 0.95, "{jaccard} of {}", b.len());
    }

    #[test]
    fn what_cannot_be_mapped_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o");
        let fails = |queries: &LabelEmbeddings, of: &[u32], k| {
            let config = MapConfig { k, ..MapConfig::default() };
            map(queries, of, &rows(5, 16, 1), &config, &path, &Silent).unwrap_err().to_string()
        };
        assert!(fails(&rows(2, 8, 1), &[0], 3).contains("the same encoder"));
        assert!(fails(&rows(2, 16, 1), &[2], 3).contains("text 0 is row 2 of 2"));
        assert!(fails(&rows(2, 16, 1), &[0], 0).contains("expected k >= 1"));
        let none = map(&rows(0, 16, 1), &[], &rows(5, 16, 1), &MapConfig::default(), &path, &Silent);
        assert!(none.unwrap().neighbours.ids.is_empty());
    }
}

//! What do the parameters of a head begin with?
//!
//! ```text
//! W_C   U(-1/sqrt(d), 1/sqrt(d)), or those of an earlier phase
//! a_cl  U[0, 1), or ln of the value of the adjacency
//! w_l   0, or those of an earlier phase
//! b_l   ln(q / (1 - q)), 0, or that of an earlier phase;       q = rows with label l / rows that see it
//! ```
//!
//! A label that begins with its own frequency need not first unlearn that it is everywhere; the original draws biases
//! from 0 to 1, so that every label begins as right. Weights of 0 leave rare labels without noise: what they are like
//! is what their few steps say. A label that training never compares (a step shows it to no row) keeps its bias: one of
//! 0 would put it above all others in a search of all labels, so it has that of all n rows, whatever the settings say.
//!
//! How many rows see a label of an index is not known before it has learned. A guess is enough: a row goes to the
//! clusters of its own labels and to `beam` of all others, and finds there as many labels as the shortlist holds.
//!
//! ```text
//! v_c    = f_c + (1 - f_c) beam / C                 f_c = part of the rows with a label of cluster c
//! seen_l = own + (n - own) (1 - prod over clusters c of l of (1 - v_c)) min(1, K / (beam * mean edges of a cluster))
//! ```

use std::path::Path;

use xmc_data::Csr;
use xmc_data::metrics::label_counts;
use xmc_nn::table::{Moments as TableMoments, Stored as TableStored, TableConfig};

use super::config::{FirstBias, FirstEdges, Moments, Stored};
use super::exhaustive::{Candidates, Exhaustive};
use super::graph::{Graph, PAD};
use super::head::{HeadState, set_classifiers};
use super::index::{Index, IndexOptions};
use super::learner::adamw;
use super::stages;
use super::training::{Edges, PhaseTask, Texts};
use crate::error::{Error, Result};
use crate::index::LabelEmbeddings;

/// Name of the working file of classifiers that do not lie in memory.
const WORKING: &str = "classifiers.working";

/// The head of a phase that trains with `rows`, for embeddings of `dim` columns (those of the matrix if unset). First
/// weights depend on `seed`; a working file lies in `folder`.
pub(super) fn head(
    task: &PhaseTask<'_>,
    rows: &[u32],
    dim: Option<usize>,
    (seed, folder): (u64, &Path),
) -> Result<HeadState> {
    let dim = match (task.texts, dim) {
        (Texts::Embeddings(x), _) => x.cols(),
        (_, dim) => dim.unwrap_or_default(),
    };
    match (Candidates::of(task.config.head), task.first.edges) {
        (Some(candidates), _) => exhaustive(task, rows, dim, candidates),
        (None, Some(edges)) => index(task, rows, dim, edges, (seed, folder)),
        (None, None) => Err(Error::Mismatch("edges from clusters to labels are missing".to_owned())),
    }
}

fn exhaustive(task: &PhaseTask<'_>, rows: &[u32], dim: usize, candidates: Candidates) -> Result<HeadState> {
    let mut weights = vec![0.0; task.y.cols() * (dim + 1)];
    if let Some(earlier) = kept(task, dim)? {
        for (label, row) in weights.chunks_exact_mut(dim + 1).enumerate() {
            row.copy_from_slice(&earlier.row(label));
        }
    } else {
        let counts = counts(task.y, rows);
        let seen = seen_without_index(candidates, task, rows.len());
        let biases = biases(task, rows.len(), &counts, |_, own| seen(own));
        weights.chunks_exact_mut(dim + 1).zip(biases).for_each(|(row, bias)| row[dim] = bias);
    }
    let (adam, precision) = (adamw(&task.config.training), task.config.precision.resolve());
    Ok(HeadState::Exhaustive(Box::new(Exhaustive::new(candidates, weights, dim, adam, precision))))
}

fn index(
    task: &PhaseTask<'_>,
    rows: &[u32],
    dim: usize,
    edges: Edges<'_>,
    (seed, folder): (u64, &Path),
) -> Result<HeadState> {
    let config = task.config;
    let graph = match edges {
        Edges::Fixed { of_label, clusters } => Graph::fixed(of_label, clusters)?,
        Edges::Learned(edges) => match config.index.first_edges {
            FirstEdges::Random => Graph::learned(edges, config.index.beta, seed)?,
            FirstEdges::Visits => Graph::weighted(edges, config.index.beta)?,
        },
        Edges::Stored(dir) => stages::graph(dir, config.index.beta)?,
    };
    if graph.labels() != task.y.cols() {
        let (found, labels) = (graph.labels(), task.y.cols());
        return Err(Error::Mismatch(format!("edges to {found} labels, but the data has {labels}")));
    }
    let adam = adamw(&config.training);
    let stored = match config.classifier.weights {
        Stored::F32 => TableStored::F32,
        Stored::Bf16 => TableStored::Bf16,
    };
    let moments = match config.classifier.moments {
        Moments::Element => TableMoments::Element,
        Moments::Row => TableMoments::Row,
    };
    let options = IndexOptions {
        table: TableConfig { stored, moments, adam },
        adam,
        working_folder: config.classifier.mapped.then(|| folder.join(WORKING)),
        precision: config.precision.resolve(),
        seed,
    };
    let mut index = Index::new(graph, dim, &config.index, &options)?;
    if let Some(dir) = task.first.earlier {
        let (cols, weights) = stages::clusters(dir)?;
        let found = (weights.len() / cols.max(1), cols);
        let expected = (index.graph().clusters(), dim + 1);
        if found != expected {
            let problem = format!(
                "clusters {found:?}, expected {expected:?}: they belong to another encoder or other clusters"
            );
            return Err(Error::file(dir, problem));
        }
        index.set_clusters(&weights)?;
    }
    if let Some(earlier) = kept(task, dim)? {
        set_classifiers(&mut index, |label, row| row.copy_from_slice(&earlier.row(label as usize)))?;
    } else {
        let counts = counts(task.y, rows);
        let met = met_by_others(task, rows, index.graph());
        let n = rows.len() as f64;
        let parents = index.graph().parents();
        let seen = |label: usize, own: f64| (parents[label] != PAD).then(|| own + (n - own) * met[label]);
        let biases = biases(task, rows.len(), &counts, seen);
        index.labels_mut().set_biases(&biases)?;
    }
    Ok(HeadState::Index(Box::new(index)))
}

/// Classifiers of an earlier phase that go on; none if there are none, or they begin anew.
fn kept(task: &PhaseTask<'_>, dim: usize) -> Result<Option<LabelEmbeddings>> {
    let Some(dir) = task.first.earlier.filter(|_| task.config.classifier.keep) else { return Ok(None) };
    let earlier = stages::classifiers(dir)?;
    let (labels, cols) = (task.y.cols(), dim + 1);
    if (earlier.rows(), earlier.dim()) != (labels, cols) {
        return Err(Error::file(
            dir,
            format!(
                "classifiers [{}, {}], expected [{labels}, {cols}]: they belong to other labels or another encoder; \
                 set classifier.keep = false to begin anew",
                earlier.rows(),
                earlier.dim()
            ),
        ));
    }
    Ok(Some(earlier))
}

/// First biases `[L]` of a phase with `rows` rows, from how many of them have each label; `seen(label, its rows)` is how
/// many rows see it, or none if training never compares it.
fn biases(
    task: &PhaseTask<'_>,
    rows: usize,
    counts: &[u32],
    seen: impl Fn(usize, f64) -> Option<f64>,
) -> Vec<f32> {
    let zero = task.config.classifier.bias == FirstBias::Zero;
    let bias = |(label, &count): (usize, &u32)| {
        let own = f64::from(count);
        let seen = match seen(label, own) {
            Some(_) if zero => return 0.0,
            Some(seen) => seen.max(own),
            None => rows as f64,
        };
        // Half a row more on both sides: no label is never or always right.
        let q = (own + 0.5) / (seen + 1.0);
        (q / (1.0 - q)).ln() as f32
    };
    counts.iter().enumerate().map(bias).collect()
}

/// How many of `rows` have each label.
fn counts(y: &Csr, rows: &[u32]) -> Vec<u32> {
    if rows.len() == y.rows() { label_counts(y) } else { label_counts(&y.select_rows(rows)) }
}

/// Rows that a label without an index is compared with: all of `rows`, or those of the steps that meet the label, if any.
fn seen_without_index(
    candidates: Candidates,
    task: &PhaseTask<'_>,
    rows: usize,
) -> impl Fn(f64) -> Option<f64> + use<> {
    let (rows, size) = (rows as f64, task.config.training.batch_size as f64);
    move |own| match candidates {
        Candidates::All => Some(rows),
        Candidates::OfStep => {
            (own > 0.0).then(|| rows * (1.0 - (1.0 - (own / rows).min(1.0)).powf(size.min(rows))))
        }
    }
}

/// The part of the rows without a label that may meet it all the same, `[L]`.
fn met_by_others(task: &PhaseTask<'_>, rows: &[u32], graph: &Graph) -> Vec<f64> {
    let (parents, clusters) = (graph.parents(), graph.clusters() as f64);
    let mut own = vec![0u32; graph.clusters()];
    let mut of_row = Vec::new();
    for &row in rows {
        of_row.clear();
        of_row.extend(task.y.row(row as usize).iter().map(|(label, _)| parents[label as usize]));
        of_row.sort_unstable();
        of_row.dedup();
        of_row.iter().filter(|&&c| c != PAD).for_each(|&c| own[c as usize] += 1);
    }
    let beam = (task.config.index.beam as f64).min(clusters);
    let mean = graph.ids().len() as f64 / clusters;
    let scored = (task.config.index.shortlist as f64 / (beam * mean).max(1.0)).min(1.0);
    // The product over the clusters of a label of the parts that do not go there.
    let mut missed = vec![1.0; graph.labels()];
    for (c, &own) in own.iter().enumerate() {
        let own = f64::from(own) / rows.len() as f64;
        let away = (1.0 - own) * (1.0 - beam / clusters);
        for &label in graph.edges(c as u32).iter().filter(|label| **label != PAD) {
            missed[label as usize] *= away;
        }
    }
    missed.into_iter().map(|missed| (1.0 - missed) * scored).collect()
}

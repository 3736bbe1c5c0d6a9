//! What do the parameters of a head begin with?
//!
//! ```text
//! w_l   0, or those of an earlier phase
//! b_l   ln(q / (1 - q))    q = rows with label l / rows that see it, or 0, or that of an earlier phase
//! ```
//!
//! A label that begins with its own frequency need not first unlearn that it is everywhere; the original draws biases
//! from 0 to 1, so that every label begins as right. Weights of 0 leave rare labels without noise: what they are like
//! is what their few steps say.

use xmc_data::Csr;
use xmc_data::metrics::label_counts;

use super::config::FirstBias;
use super::exhaustive::{Candidates, Exhaustive};
use super::head::HeadState;
use super::learner::adamw;
use super::stages;
use super::training::{PhaseTask, Texts};
use crate::error::{Error, Result};
use crate::index::LabelEmbeddings;

/// The head of a phase that trains with `rows`, for embeddings of `dim` columns (those of the matrix if unset).
pub(super) fn head(task: &PhaseTask<'_>, rows: &[u32], dim: Option<usize>, _seed: u64) -> Result<HeadState> {
    let dim = match (task.texts, dim) {
        (Texts::Embeddings(x), _) => x.cols(),
        (_, dim) => dim.unwrap_or_default(),
    };
    let labels = task.y.cols();
    let Some(candidates) = Candidates::of(task.config.head) else {
        return Err(Error::Mismatch("edges from clusters to labels are missing".to_owned()));
    };
    let seen = seen_without_index(candidates, task, rows.len());
    let mut weights = vec![0.0; labels * (dim + 1)];
    if let Some(earlier) = kept(task, dim)? {
        for (label, row) in weights.chunks_exact_mut(dim + 1).enumerate() {
            row.copy_from_slice(&earlier.row(label));
        }
    } else {
        let biases = biases(task, rows, seen);
        weights.chunks_exact_mut(dim + 1).zip(biases).for_each(|(row, bias)| row[dim] = bias);
    }
    let (adam, precision) = (adamw(&task.config.training), task.config.precision.resolve());
    Ok(HeadState::Exhaustive(Exhaustive::new(candidates, weights, dim, adam, precision)))
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

/// First biases `[L]`; `seen(label, its rows)` is how many rows a label is compared with.
fn biases(task: &PhaseTask<'_>, rows: &[u32], seen: impl Fn(usize, f64) -> f64) -> Vec<f32> {
    let zero = task.config.classifier.bias == FirstBias::Zero;
    let counts = counts(task.y, rows);
    let bias = |(label, count): (usize, u32)| {
        if zero {
            return 0.0;
        }
        // Half a row more on both sides: no label is never or always right.
        let count = f64::from(count);
        let q = (count + 0.5) / (seen(label, count).max(count) + 1.0);
        (q / (1.0 - q)).ln() as f32
    };
    counts.into_iter().enumerate().map(bias).collect()
}

/// How many of `rows` have each label.
fn counts(y: &Csr, rows: &[u32]) -> Vec<u32> {
    if rows.len() == y.rows() { label_counts(y) } else { label_counts(&y.select_rows(rows)) }
}

/// Rows that a label without an index is compared with: all of `rows`, or those of the steps that meet the label.
fn seen_without_index(
    candidates: Candidates,
    task: &PhaseTask<'_>,
    rows: usize,
) -> impl Fn(usize, f64) -> f64 + use<> {
    let (rows, size) = (rows as f64, task.config.training.batch_size as f64);
    move |_, count| match candidates {
        Candidates::All => rows,
        Candidates::OfStep => rows * (1.0 - (1.0 - (count / rows).min(1.0)).powf(size.min(rows))),
    }
}

//! Which rows train the children of a parent? (spec: XR-Linear, 5.2)
//!
//! * `tfn`, teacher forcing: rows that have a label below the parent;
//! * `man`, matcher aware: rows for which the levels above, as trained so far, keep the parent in their beam;
//! * `usn`, user supplied: rows for which the user named a label below the parent;
//! * and unions of them. A child's positives always take part.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use xmc_data::{Csr, CsrBuilder, Error, Result};

use crate::ranker::TrainInput;
use crate::search::{Query, Searcher};
use crate::store::TreeModel;
use crate::targets;

/// Sources of negatives, joined by `+`: `tfn`, `man`, `usn`, `tfn+man`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NegativeSampling {
    /// Teacher forcing.
    pub tfn: bool,
    /// Matcher aware.
    pub man: bool,
    /// User supplied.
    pub usn: bool,
}

impl NegativeSampling {
    /// Teacher forcing alone, the default.
    pub const TFN: Self = NegativeSampling { tfn: true, man: false, usn: false };

    /// Whether the levels above must be trained before.
    pub fn uses_model(self) -> bool {
        self.man
    }
}

impl From<NegativeSampling> for String {
    fn from(n: NegativeSampling) -> String {
        let parts = [(n.usn, "usn"), (n.tfn, "tfn"), (n.man, "man")];
        parts.iter().filter(|p| p.0).map(|p| p.1).collect::<Vec<_>>().join("+")
    }
}

impl TryFrom<String> for NegativeSampling {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        let mut sampling = NegativeSampling { tfn: false, man: false, usn: false };
        for part in name.split('+') {
            match part {
                "tfn" => sampling.tfn = true,
                "man" => sampling.man = true,
                "usn" => sampling.usn = true,
                _ => return Err(Error::config("negatives", name, "tfn, man or usn, or some joined by +")),
            }
        }
        Ok(sampling)
    }
}

/// Rows of every parent of a level.
#[derive(Debug)]
pub enum Matching {
    /// The root sees every row.
    All(u32),
    /// `[parents, n]`
    Rows(Csr),
}

impl Matching {
    /// Number of rows of parent `p`.
    pub fn rows(&self, p: usize) -> usize {
        match self {
            Matching::All(n) => *n as usize,
            Matching::Rows(m) => m.row(p).len(),
        }
    }

    /// Appends the rows of parent `p`, rising.
    pub fn extend(&self, p: usize, rows: &mut Vec<u32>) {
        match self {
            Matching::All(n) => rows.extend(0..*n),
            Matching::Rows(m) => rows.extend_from_slice(m.row(p).indices),
        }
    }
}

/// The rows of every parent of level `t`; `model` has the levels above trained if `sampling` asks for them.
pub(crate) fn matching(
    sampling: NegativeSampling,
    t: usize,
    input: &TrainInput,
    targets: &[Csr],
    model: &TreeModel,
) -> Result<Matching> {
    if t == 0 {
        return Ok(Matching::All(input.x.rows() as u32));
    }
    let mut sources = Vec::new();
    if sampling.tfn {
        sources.push(targets[t].clone());
    }
    if sampling.usn {
        let given = input.negatives.ok_or_else(|| {
            Error::config("negatives", String::from(sampling), "a file of user-supplied negatives with `usn`")
        })?;
        sources.push(targets::levels(given, model.tree(), None)?.swap_remove(t));
    }
    if sampling.man {
        sources.push(predicted(model, input, t)?);
    }
    Ok(Matching::Rows(union(&sources.iter().collect::<Vec<_>>())?.transpose()))
}

/// Nodes of level `t` that the model keeps for each training row.
fn predicted(model: &TreeModel, input: &TrainInput, t: usize) -> Result<Csr> {
    let rows: Vec<Vec<(u32, f32)>> = (0..input.x.rows())
        .into_par_iter()
        .map_init(|| Searcher::new(model), |searcher, i| searcher.nodes(Query::of(input.x, i), t).to_vec())
        .collect();
    let mut nodes = CsrBuilder::new();
    for row in rows {
        nodes.push(row.into_iter().map(|(node, _)| (node, 1.0)));
    }
    nodes.finish(model.tree().width(t))
}

/// Entries that are in any of the matrices `[n, nodes]`; what their values are does not matter.
pub fn union(sources: &[&Csr]) -> Result<Csr> {
    if let [one] = sources {
        return Ok((*one).clone());
    }
    let (rows, cols) = sources.first().map_or((0, 0), |m| (m.rows(), m.cols()));
    let mut all = CsrBuilder::new();
    for i in 0..rows {
        all.push(sources.iter().flat_map(|m| m.row(i).iter()).map(|(c, _)| (c, 1.0)));
    }
    all.finish(cols)
}

//! Which label of a dataset is which label of a model?
//!
//! Ids are positions in a list of names, and a dataset written at another time may list the same names in another
//! order. Labels are therefore paired by name. Equal lists, the usual case, cost one comparison; others
//! O(bytes of the names) and a copy of the label matrix.

use xmc_data::dataset::Dataset;
use xmc_data::{Csr, CsrBuilder, LabelSet};

use crate::error::{Error, Result};
use crate::model::{Model, Predictor};

/// New ids for the labels of a dataset: those of the model, and after them the labels that the model lacks.
pub(crate) struct Pairing {
    /// `[L of the dataset]`
    ids: Vec<u32>,
    num_labels: usize,
    /// Labels of the dataset that the model cannot predict.
    pub(crate) unknown: usize,
}

/// Pairs the labels of `data` with those of `model`; `None` if ids mean the same on both sides.
pub(crate) fn pair(model: &Model, data: &Dataset) -> Result<Option<Pairing>> {
    let (known, found) = (model.labels(), &data.labels);
    let fail = |problem: String| Err(Error::file(&data.path, problem));
    if model.manifest().is_none() {
        // A model without names of its own: numbers are all there is.
        if known.len() != found.len() {
            return fail(format!("{} labels, but the model knows {}", found.len(), known.len()));
        }
        return Ok(None);
    }
    if known == found {
        return Ok(None);
    }
    let index = known.index();
    if index.len() < known.len() || found.repeated() > 0 {
        return fail(format!(
            "its label names are not those of {}, line by line; some names repeat, so labels cannot be told by name",
            model.path().display()
        ));
    }
    let mut next = known.len() as u32;
    let ids: Vec<u32> = found
        .iter()
        .map(|name| {
            index.get(name).map_or_else(
                || {
                    next += 1;
                    next - 1
                },
                |label| label.0,
            )
        })
        .collect();
    let unknown = next as usize - known.len();
    if unknown == found.len() {
        let first = |names: &LabelSet| names.iter().next().unwrap_or_default().to_owned();
        return fail(format!(
            "none of its {unknown} labels, such as `{}`, is one of the {} labels of {}, such as `{}`: \
             wrong model, or no raw/Y.txt?",
            first(found),
            known.len(),
            model.path().display(),
            first(known)
        ));
    }
    Ok(Some(Pairing { ids, num_labels: next as usize, unknown }))
}

impl Pairing {
    /// Labels `[n, L]` under their new ids.
    pub(crate) fn matrix(&self, y: &Csr) -> Result<Csr> {
        let mut paired = CsrBuilder::new();
        for row in y.iter() {
            paired.push(row.iter().filter_map(|(label, weight)| Some((self.id(label)?, weight))));
        }
        Ok(paired.finish(self.num_labels)?)
    }

    /// `(row, label)` pairs under the new ids, sorted.
    pub(crate) fn filter(&self, pairs: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut paired: Vec<_> =
            pairs.iter().filter_map(|&(row, label)| Some((row, self.id(label)?))).collect();
        paired.sort_unstable();
        paired
    }

    /// Training rows of each label, in the order of the new ids; labels of the model alone have none.
    pub(crate) fn counts(&self, counts: &[u32]) -> Vec<u32> {
        let mut paired = vec![0; self.num_labels];
        for (&id, &count) in self.ids.iter().zip(counts) {
            if let Some(place) = paired.get_mut(id as usize) {
                *place = count;
            }
        }
        paired
    }

    fn id(&self, label: u32) -> Option<u32> {
        self.ids.get(label as usize).copied()
    }
}

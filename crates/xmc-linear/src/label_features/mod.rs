//! What does a label look like? One feature row per label, from which the tree is grown.
//!
//! | kind | row of label l | source |
//! |---|---|---|
//! | `pifa` | the normalised sum of its training rows, see [`pifa()`] | XR-Linear (PECOS), section 3.1 |
//! | `text` | the features of its own text | |
//! | `pifa+text` | `[pifa | text]`, both as they are | |
//! | `mix` | `w * pifa + (1 - w) * text`, both over the same features | |
//! | `given` | a row of a matrix that the user brings | |
//!
//! A label without training rows (`pifa`) or without text has an empty row; the tree still finds it a place.

mod pifa;

use serde::{Deserialize, Serialize};
use xmc_data::{Csr, CsrBuilder, Error, Result};

use crate::features::Features;
pub use pifa::{centroids, pifa};

/// Where label rows come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelFeatureKind {
    /// Sum of the label's training rows.
    #[default]
    #[serde(rename = "pifa")]
    Pifa,
    /// Features of the label's text.
    #[serde(rename = "text")]
    Text,
    /// Both, side by side.
    #[serde(rename = "pifa+text")]
    PifaAndText,
    /// Both, added with weights.
    #[serde(rename = "mix")]
    Mix,
    /// A matrix of the user's.
    #[serde(rename = "given")]
    Given,
}

/// How label rows are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelFeaturesConfig {
    /// `pifa`, `text`, `pifa+text`, `mix` or `given`.
    pub kind: LabelFeatureKind,
    /// Share of PIFA in `mix`, from 0 to 1.
    pub pifa_weight: f32,
}

impl Default for LabelFeaturesConfig {
    fn default() -> Self {
        LabelFeaturesConfig { kind: LabelFeatureKind::Pifa, pifa_weight: 0.5 }
    }
}

impl LabelFeaturesConfig {
    /// Refuses settings out of range.
    pub fn check(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.pifa_weight) {
            return Ok(());
        }
        Err(Error::config("label_features.pifa_weight", self.pifa_weight, "a number from 0 to 1"))
    }
}

/// Label rows `[L, d']` from training rows `x [n, d]`, labels `y [n, L]` and, for all kinds but `pifa`, the matrix
/// `given [L, d']` of label texts or of the user.
pub fn label_features(
    config: &LabelFeaturesConfig,
    x: &Features,
    y: &Csr,
    given: Option<&Csr>,
) -> Result<Features> {
    config.check()?;
    let given = || {
        let problem = "these label features need a matrix with one row per label, and none was given";
        let given = given.ok_or_else(|| Error::Shape(problem.to_owned()))?;
        if given.rows() == y.cols() {
            return Ok(given);
        }
        Err(Error::Shape(format!("{} rows of label features for {} labels", given.rows(), y.cols())))
    };
    match config.kind {
        LabelFeatureKind::Pifa => pifa(x, y),
        LabelFeatureKind::Text | LabelFeatureKind::Given => Ok(given()?.clone().into()),
        LabelFeatureKind::PifaAndText => {
            let (sparse, dense) = pifa(x, y)?.into_parts();
            Features::new(sparse.hstack(given()?)?, dense)
        }
        LabelFeatureKind::Mix => {
            let (sparse, dense) = pifa(x, y)?.into_parts();
            if dense.is_some() {
                let problem = "`mix` adds sparse rows; use `pifa+text` with dense features";
                return Err(Error::Shape(problem.to_owned()));
            }
            Ok(mix(&sparse, given()?, config.pifa_weight)?.into())
        }
    }
}

/// `weight * a + (1 - weight) * b`.
fn mix(a: &Csr, b: &Csr, weight: f32) -> Result<Csr> {
    if a.cols() != b.cols() {
        let (a, b) = (a.cols(), b.cols());
        return Err(Error::Shape(format!("rows have {a} features and labels {b}: `mix` needs the same")));
    }
    let mut sum = CsrBuilder::new();
    for (a, b) in a.iter().zip(b.iter()) {
        let a = a.iter().map(|(c, v)| (c, weight * v));
        sum.push(a.chain(b.iter().map(|(c, v)| (c, (1.0 - weight) * v))));
    }
    sum.finish(a.cols())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(cols: usize, rows: &[&[(u32, f32)]]) -> Csr {
        let mut b = CsrBuilder::new();
        for row in rows {
            b.push(row.iter().copied());
        }
        b.finish(cols).unwrap()
    }

    fn rows_of(kind: LabelFeatureKind, given: Option<&Csr>) -> Result<Csr> {
        let x = matrix(3, &[&[(0, 3.0), (1, 4.0)], &[(2, 2.0)]]).into();
        let y = matrix(2, &[&[(0, 1.0)], &[(1, 1.0)]]);
        let config = LabelFeaturesConfig { kind, pifa_weight: 0.25 };
        Ok(label_features(&config, &x, &y, given)?.into_parts().0)
    }

    #[test]
    fn every_kind_gives_the_row_of_its_formula() {
        let text = matrix(3, &[&[(1, 1.0)], &[(0, 1.0)]]);
        let z = |kind| rows_of(kind, Some(&text)).unwrap();
        assert_eq!(z(LabelFeatureKind::Pifa), matrix(3, &[&[(0, 0.6), (1, 0.8)], &[(2, 1.0)]]));
        assert_eq!(z(LabelFeatureKind::Text), text);
        assert_eq!(z(LabelFeatureKind::Given), text);
        let both = matrix(6, &[&[(0, 0.6), (1, 0.8), (4, 1.0)], &[(2, 1.0), (3, 1.0)]]);
        assert_eq!(z(LabelFeatureKind::PifaAndText), both);
        let mixed = matrix(3, &[&[(0, 0.15), (1, 0.95)], &[(0, 0.75), (2, 0.25)]]);
        for (a, b) in z(LabelFeatureKind::Mix).values().iter().zip(mixed.values()) {
            assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn a_missing_or_short_matrix_is_refused() {
        let why = |given| rows_of(LabelFeatureKind::Text, given).unwrap_err().to_string();
        assert!(why(None).contains("none was given"));
        assert!(why(Some(&matrix(3, &[&[(1, 1.0)]]))).contains("1 rows of label features for 2 labels"));
        let wide = matrix(4, &[&[], &[]]);
        let error = rows_of(LabelFeatureKind::Mix, Some(&wide)).unwrap_err().to_string();
        assert!(error.contains("rows have 3 features and labels 4"));
    }

    #[test]
    fn a_weight_outside_the_unit_interval_is_refused() {
        let config = LabelFeaturesConfig { pifa_weight: f32::NAN, ..LabelFeaturesConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("from 0 to 1"));
    }
}

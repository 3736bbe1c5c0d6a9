//! Did the augmentation help, before anything is trained on it?
//!
//! One report of all that can be said without training: whether the matrix is sound ([`Invariants`]), what changed
//! ([`Statistics`]), whether hidden pairs would have been found ([`Recovery`]), how near synthetic texts come to what is true
//! ([`Coverage`], [`Confirmation`]), and how far it is from another matrix ([`Difference`]). Every number has a name
//! ([`Report::values`]), so that a run can be made to fail below a bound.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

use super::Neighbours;
use super::agreement::{Confirmation, Coverage, Difference, confirmation};
use super::build::BuildConfig;
use super::invariants::Invariants;
use super::leaks::Guard;
use super::mapping::Mapping;
use super::recovery::{Hiding, Recovery, hide_systematic, hide_uniform, recover, rest};
use super::statistics::Statistics;
use crate::error::{Error, Result};

/// Settings of a validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidateConfig {
    /// How the matrix was built, and is built again without hidden pairs.
    pub build: BuildConfig,
    /// Share of the pairs that is hidden.
    pub share: f64,
    /// Neighbours that count as covered.
    pub coverage_k: usize,
    /// Seed of what is hidden.
    pub seed: u64,
}

impl Default for ValidateConfig {
    fn default() -> Self {
        ValidateConfig { build: BuildConfig::default(), share: 0.1, coverage_k: 100, seed: 0 }
    }
}

/// What is looked at. Matrices are `[n, L]`.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The matrix that was augmented.
    pub original: &'a Csr,
    /// The augmented one.
    pub augmented: &'a Csr,
    /// Neighbours of the synthetic texts.
    pub mapping: Mapping<'a>,
    /// What must get no new pair.
    pub guard: &'a Guard,
    /// Neighbours of each target among the targets, for propagation.
    pub propagation: Option<&'a Neighbours>,
    /// The cluster of each label, for systematic hiding.
    pub clusters: Option<&'a [u32]>,
    /// Pairs that are true and not in the original, as a simulated bias leaves them.
    pub hidden: Option<&'a Csr>,
    /// Another matrix to compare with.
    pub other: Option<&'a Csr>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its settings.
    pub settings: ValidateConfig,
    /// Whether the matrix is sound.
    pub invariants: Invariants,
    /// What changed.
    pub statistics: Statistics,
    /// Hidden pairs found again, a row for each way of hiding.
    pub recovery: Vec<Recovery>,
    /// True targets near synthetic texts, of the original pairs.
    pub coverage: Coverage,
    /// The same of the hidden pairs, if there are any.
    pub hidden_coverage: Option<Coverage>,
    /// Suggested pairs that were known, by cosine.
    pub confirmation: Vec<Confirmation>,
    /// Against another matrix; that one is the second.
    pub difference: Option<Difference>,
}

/// Looks at everything.
pub fn validate(inputs: &Inputs<'_>, config: &ValidateConfig) -> Result<Report> {
    if !(config.share > 0.0 && config.share < 1.0) {
        return Err(Error::Mismatch(format!(
            "share = {}: expected more than 0 and less than 1",
            config.share
        )));
    }
    let Inputs { original, augmented, mapping, .. } = inputs;
    let hidden_coverage = |hidden: &Csr| Coverage::new(mapping, hidden, config.coverage_k);
    Ok(Report {
        settings: config.clone(),
        invariants: Invariants::new(original, augmented, config.build.tau),
        statistics: Statistics::new(original, augmented),
        recovery: recoveries(inputs, config)?,
        coverage: Coverage::new(mapping, original, config.coverage_k)?,
        hidden_coverage: inputs.hidden.map(hidden_coverage).transpose()?,
        confirmation: confirmation(mapping, original, config.build.k)?,
        difference: inputs.other.map(|other| Difference::new(augmented, other)).transpose()?,
    })
}

fn recoveries(inputs: &Inputs<'_>, config: &ValidateConfig) -> Result<Vec<Recovery>> {
    let y = inputs.original;
    let run = |hiding, known: &Csr, hidden: &Csr| {
        let rule = (&config.build, inputs.guard);
        recover(hiding, &inputs.mapping, known, hidden, rule, inputs.propagation)
    };
    let hidden = hide_uniform(y, config.share, config.seed);
    let mut found = vec![run(Hiding::Uniform, &rest(y, &hidden), &hidden)?];
    if let Some(clusters) = inputs.clusters {
        let hidden = hide_systematic(y, clusters, config.share, config.seed)?;
        found.push(run(Hiding::Systematic, &rest(y, &hidden), &hidden)?);
    }
    if let Some(hidden) = inputs.hidden {
        found.push(run(Hiding::Given, y, &rest(hidden, y))?);
    }
    Ok(found)
}

impl Report {
    /// Every number with its name: `violations`, `new-ratio`, `recovery.uniform.recall`, `coverage.share` and so on.
    pub fn values(&self) -> Vec<(String, f64)> {
        let s = &self.statistics;
        let mut values = vec![
            ("violations".to_owned(), self.invariants.violations as f64),
            ("new".to_owned(), s.new as f64),
            ("new-ratio".to_owned(), s.ratio),
            ("labels.gained".to_owned(), s.labels.gained as f64),
            ("labels.first".to_owned(), s.labels.first as f64),
            ("rows.gained".to_owned(), s.rows.gained as f64),
            ("top-labels-share".to_owned(), s.top_labels_share),
        ];
        for r in &self.recovery {
            let mut add =
                |name: &str, value: f64| values.push((format!("recovery.{}.{name}", r.hiding.name()), value));
            add("recall", r.recall);
            add("precision", r.precision);
            add("random", r.random);
            if let Some(recall) = r.propagation {
                add("propagation", recall);
            }
        }
        for (side, coverage) in
            [("coverage", Some(&self.coverage)), ("hidden-coverage", self.hidden_coverage.as_ref())]
        {
            if let Some(coverage) = coverage {
                values.push((format!("{side}.covered"), coverage.covered));
                values.push((format!("{side}.share"), coverage.share));
            }
        }
        if let Some(d) = &self.difference {
            values.push(("difference.jaccard".to_owned(), d.jaccard));
            values.push(("difference.largest".to_owned(), f64::from(d.largest)));
        }
        values
    }

    /// One of these.
    ///
    /// # Errors
    /// If there is no such number; the message lists those that there are.
    pub fn value(&self, name: &str) -> Result<f64> {
        let values = self.values();
        values.iter().find(|(known, _)| known == name).map(|&(_, value)| value).ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
            Error::Mismatch(format!("the report has no `{name}`; it has {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Direction;
    use crate::augment::mapping::matrix;

    /// The worked example: 6 rows, 3 labels, texts of the labels 0 and 2.
    fn neighbours() -> Neighbours {
        Neighbours {
            k: 3,
            ids: vec![0, 1, 2, 1, 3, 0, 4, 5, 0, 5, 4, 2, 2, 0, 1],
            cosines: vec![0.9, 0.7, 0.2, 0.8, 0.61, 0.5, 0.6, 0.59, 0.1, 0.95, 0.3, 0.2, 0.1, 0.0, -0.2],
        }
    }

    fn original() -> Csr {
        matrix(&[&[(0, 1.0)], &[(0, 1.0)], &[(1, 1.0)], &[(2, 1.0)], &[(2, 1.0)], &[]], 3)
    }

    fn augmented() -> Csr {
        let rows: [&[(u32, f32)]; 6] =
            [&[(0, 1.0)], &[(0, 1.0)], &[(1, 1.0)], &[(0, 0.805), (2, 1.0)], &[(2, 1.0)], &[(2, 0.975)]];
        matrix(&rows, 3)
    }

    fn report(config: &ValidateConfig) -> Result<Report> {
        let (original, augmented, neighbours) = (original(), augmented(), neighbours());
        let hidden = matrix(&[&[], &[], &[], &[(0, 1.0)], &[], &[(1, 1.0), (2, 1.0)]], 3);
        let inputs = Inputs {
            original: &original,
            augmented: &augmented,
            mapping: Mapping::new(Direction::Label, &[0, 2, 2, 5], &neighbours, 6)?,
            guard: &Guard::default(),
            propagation: None,
            clusters: Some(&[0, 0, 1]),
            hidden: Some(&hidden),
            other: Some(&original),
        };
        validate(&inputs, config)
    }

    #[test]
    fn the_worked_example_is_sound_and_its_numbers_have_names() {
        let report = report(&ValidateConfig {
            build: BuildConfig { k: 3, ..BuildConfig::default() },
            ..ValidateConfig::default()
        })
        .unwrap();
        let value = |name: &str| report.value(name).unwrap();
        assert_eq!((value("violations"), value("new")), (0.0, 2.0));
        assert!((value("new-ratio") - 0.4).abs() < 1e-12);
        // Of the hidden pairs (3, 0), (5, 1), (5, 2) the first and the last are added, and nothing else.
        assert!((value("recovery.given.recall") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(value("recovery.given.precision"), 1.0);
        assert!((value("difference.jaccard") - 5.0 / 7.0).abs() < 1e-12);
        // All true rows of label 0, none of 1, row 4 of 2.
        assert!((value("coverage.share") - 3.0 / 5.0).abs() < 1e-12);
        let names: Vec<_> = report.recovery.iter().map(|r| r.hiding.name()).collect();
        assert_eq!(names, ["uniform", "systematic", "given"]);
        let message = report.value("recall").unwrap_err().to_string();
        assert!(message.contains("no `recall`; it has violations, new,"), "{message}");
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap().values(), report.values());
    }

    #[test]
    fn a_share_that_hides_all_or_nothing_is_refused() {
        for share in [0.0, 1.0, f64::NAN] {
            assert!(report(&ValidateConfig { share, ..ValidateConfig::default() }).is_err());
        }
    }
}

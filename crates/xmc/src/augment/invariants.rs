//! Is an augmented matrix what it must be?
//!
//! The original with nothing lost: same shape, every pair still there and not weaker (values above 1 may become 1), all
//! values from 0 to 1, new ones at least tau. That ids rise and are unique within a row is part of the type [`Csr`], and
//! reading a file makes it so.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

use crate::error::{Error, Result};

/// Where floating point decides whether a value reaches tau.
const TOLERANCE: f32 = 1e-6;

/// Examples of each kind that a report names.
const EXAMPLES: usize = 5;

/// What an augmented matrix must not do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Violation {
    #[error("shape [{rows}, {labels}], expected [{expected_rows}, {expected_labels}] as the original")]
    Shape { rows: usize, labels: usize, expected_rows: usize, expected_labels: usize },
    #[error("row {row}: label {label} of the original is missing")]
    LostPair { row: usize, label: u32 },
    #[error("row {row}: label {label} has value {value}, the original {original}")]
    Weakened { row: usize, label: u32, value: f32, original: f32 },
    #[error("row {row}: label {label} has value {value}, expected more than 0 and at most 1")]
    OutOfRange { row: usize, label: u32, value: f32 },
    #[error("row {row}: new label {label} has value {value}, below tau = {tau}")]
    BelowTau { row: usize, label: u32, value: f32, tau: f32 },
}

/// How often each rule is broken, and where for example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Invariants {
    /// All that is broken.
    pub violations: usize,
    /// The first few of each kind.
    pub examples: Vec<Violation>,
}

impl Invariants {
    /// Compares `augmented` with `original`, both `[n, L]`.
    pub fn new(original: &Csr, augmented: &Csr, tau: f32) -> Self {
        let mut found = Invariants::default();
        let [a, b] = [augmented, original].map(|m| (m.rows(), m.cols()));
        if a != b {
            let ((rows, labels), (expected_rows, expected_labels)) = (a, b);
            found.add(Violation::Shape { rows, labels, expected_rows, expected_labels });
        }
        for row in 0..original.rows().min(augmented.rows()) {
            found.row(row, original, augmented, tau);
        }
        found
    }

    fn row(&mut self, row: usize, original: &Csr, augmented: &Csr, tau: f32) {
        let (before, after) = (original.row(row), augmented.row(row));
        for (label, value) in after.iter() {
            if !(value > 0.0 && value <= 1.0) {
                self.add(Violation::OutOfRange { row, label, value });
            } else if value < tau - TOLERANCE && before.indices.binary_search(&label).is_err() {
                self.add(Violation::BelowTau { row, label, value, tau });
            }
        }
        for (label, was) in before.iter() {
            match after.indices.binary_search(&label) {
                Err(_) => self.add(Violation::LostPair { row, label }),
                Ok(at) if after.values[at] < was.min(1.0) - TOLERANCE => {
                    let value = after.values[at];
                    self.add(Violation::Weakened { row, label, value, original: was });
                }
                Ok(_) => {}
            }
        }
    }

    fn add(&mut self, violation: Violation) {
        self.violations += 1;
        let same = |a: &&Violation| std::mem::discriminant(*a) == std::mem::discriminant(&violation);
        if self.examples.iter().filter(same).count() < EXAMPLES {
            self.examples.push(violation);
        }
    }

    /// An error that names the first violation, if there is one.
    pub fn require(&self) -> Result<()> {
        match self.examples.first() {
            None => Ok(()),
            Some(first) => Err(Error::Mismatch(format!(
                "the augmented matrix is wrong in {} places; {first}: build it again",
                self.violations
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::mapping::matrix;

    type Case<'a> = (&'a [&'a [(u32, f32)]], usize, Violation);

    #[test]
    fn each_kind_of_damage_is_named() {
        let original = matrix(&[&[(0, 1.0), (2, 0.5)], &[(1, 3.0)]], 4);
        let check = |rows: &[&[(u32, f32)]], cols| Invariants::new(&original, &matrix(rows, cols), 0.8);
        let right = check(&[&[(0, 1.0), (2, 0.5), (3, 0.8)], &[(1, 1.0)]], 4);
        assert!(right.violations == 0 && right.require().is_ok(), "{right:?}");
        let cases: [Case<'_>; 5] = [
            (&[&[(0, 1.0)], &[(1, 1.0)]], 4, Violation::LostPair { row: 0, label: 2 }),
            (
                &[&[(0, 0.9), (2, 0.5)], &[(1, 1.0)]],
                4,
                Violation::Weakened { row: 0, label: 0, value: 0.9, original: 1.0 },
            ),
            (
                &[&[(0, 1.0), (2, 1.2)], &[(1, 1.0)]],
                4,
                Violation::OutOfRange { row: 0, label: 2, value: 1.2 },
            ),
            (
                &[&[(0, 1.0), (2, 0.5)], &[(0, 0.7), (1, 1.0)]],
                4,
                Violation::BelowTau { row: 1, label: 0, value: 0.7, tau: 0.8 },
            ),
            (
                &[&[(0, 1.0), (2, 0.5)], &[(1, 1.0)]],
                5,
                Violation::Shape { rows: 2, labels: 5, expected_rows: 2, expected_labels: 4 },
            ),
        ];
        for (rows, cols, expected) in cases {
            let found = check(rows, cols);
            assert_eq!((found.violations, &found.examples[..]), (1, &[expected.clone()][..]));
            assert!(found.require().unwrap_err().to_string().contains(&expected.to_string()));
        }
    }

    #[test]
    fn many_violations_are_counted_and_a_few_named() {
        let rows: Vec<Vec<(u32, f32)>> = (0..50).map(|l| vec![(l, 1.0)]).collect();
        let rows: Vec<&[(u32, f32)]> = rows.iter().map(Vec::as_slice).collect();
        let original = matrix(&rows, 50);
        let found = Invariants::new(&original, &Csr::empty(50, 50), 0.8);
        assert_eq!((found.violations, found.examples.len()), (50, EXAMPLES));
    }
}

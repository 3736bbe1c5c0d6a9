//! What does a label's value, such as 0.85 beside a sure 1, change in training?
//!
//! ```text
//! sample   the chance of the pair to take part
//! weight   what the pair counts in the loss
//! target   the probability that the score is to say
//! ignore   nothing: every label is 1
//! ```
//!
//! Every method says which of these it can do. A value is used once: pairs that are drawn by it are not weighed by it too.
//! Where all values are 1, all four are the same.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use xmc_data::Csr;
use xmc_data::dataset::Dataset;

use crate::error::{Error, Result};

/// The role of the values of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SoftValue {
    /// The chance to take part.
    Sample,
    /// The weight in the loss.
    Weight,
    /// The probability to be learned.
    Target,
    /// None.
    Ignore,
}

impl<'de> Deserialize<'de> for SoftValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(match Spelling::deserialize(deserializer)? {
            Spelling::Weighted(true) | Spelling::Name(Name::Weight) => SoftValue::Weight,
            Spelling::Weighted(false) | Spelling::Name(Name::Sample) => SoftValue::Sample,
            Spelling::Name(Name::Target) => SoftValue::Target,
            Spelling::Name(Name::Ignore) => SoftValue::Ignore,
        })
    }
}

/// Models of before say `weighted = true` or `false`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Weighted(bool),
    Name(Name),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Sample,
    Weight,
    Target,
    Ignore,
}

/// Whether a label of `y` has another value than 1.
pub(in crate::methods) fn is_soft(y: &Csr) -> bool {
    y.values().iter().any(|&value| value != 1.0)
}

/// The labels that training reads: `y`, or all of them as 1 if values are ignored.
pub(in crate::methods) fn read(y: &Csr, value: SoftValue) -> Cow<'_, Csr> {
    if value != SoftValue::Ignore || !is_soft(y) {
        return Cow::Borrowed(y);
    }
    let mut ones = y.clone();
    ones.values_mut().fill(1.0);
    Cow::Owned(ones)
}

/// Refuses training labels above 1 where a value is a probability.
pub(in crate::methods) fn check_probabilities(data: &Dataset) -> Result<()> {
    let y = &data.train.y;
    for (i, row) in y.iter().enumerate() {
        if let Some((label, value)) = row.iter().find(|entry| entry.1 > 1.0) {
            return Err(Error::file(
                &data.path,
                format!(
                    "training row {i} has label {label} with value {value}; value = \"target\" expects probabilities, \
                     up to 1; scale them, or set value = \"ignore\""
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_so_is_what_models_of_before_say() {
        let read = |text: &str| serde_json::from_str::<SoftValue>(text).ok();
        assert_eq!(read("\"target\""), Some(SoftValue::Target));
        assert_eq!(read("true"), Some(SoftValue::Weight));
        assert_eq!(read("false"), Some(SoftValue::Sample));
        assert_eq!(read("\"weights\""), None);
        assert_eq!(serde_json::to_string(&SoftValue::Ignore).unwrap(), "\"ignore\"");
    }

    #[test]
    fn ignored_values_are_ones_and_others_stay() {
        let y = Csr::new(2, 3, vec![0, 2, 3], vec![0, 2, 1], vec![1.0, 0.8, 0.9]).unwrap();
        assert_eq!(read(&y, SoftValue::Ignore).values(), [1.0; 3]);
        assert_eq!(read(&y, SoftValue::Ignore).indices(), y.indices());
        assert_eq!(read(&y, SoftValue::Weight).values(), y.values());
        let sure = read(&y, SoftValue::Ignore).into_owned();
        assert!(is_soft(&y) && !is_soft(&sure));
        assert!(matches!(read(&sure, SoftValue::Ignore), Cow::Borrowed(_)));
    }
}

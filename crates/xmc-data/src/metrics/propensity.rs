//! How likely is it that a true label was written down at all?
//!
//! Rare labels are missed more often than common ones. Jain, Prabhu, Varma (KDD 2016) model the chance that a label
//! with `n_l` of `N` training rows is observed as
//!
//! ```text
//! p_l = 1 / (1 + C (n_l + B)^-A),    C = (ln N - 1) (B + 1)^A
//! ```
//!
//! with `A` and `B` fitted per data set. Scores weighted by `1 / p_l` are the propensity-scored metrics. O(L).
//!
//! ```
//! use xmc_data::metrics::Propensity;
//! let inverse = Propensity { a: 0.55, b: 1.5 }.inverse(&[6, 4], 40);
//! assert!((inverse[0] - 2.46945).abs() < 1e-5 && (inverse[1] - 2.74277).abs() < 1e-5);
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The two constants of the propensity model; the default serves every data set without fitted ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Propensity {
    /// Exponent A, at least 0.
    pub a: f64,
    /// Offset B, above 0.
    pub b: f64,
}

impl Default for Propensity {
    fn default() -> Self {
        Propensity { a: 0.55, b: 1.5 }
    }
}

/// Word in the name, A, B; the first that fits counts. Reasons: [`Propensity::for_dataset`].
const FAMILIES: [(&str, f64, f64); 6] = [
    ("amazoncat", 0.55, 1.5),
    ("amazon", 0.6, 2.6),
    ("wikipedia", 0.5, 0.4),
    ("wikilshtc", 0.5, 0.4),
    ("wikititles", 0.5, 0.4),
    ("wiki500k", 0.5, 0.4),
];

impl Propensity {
    /// The constants the field uses for the data set of this name.
    ///
    /// As published with the Extreme Classification Repository and used by pyxclib and napkinXC. A data set belongs
    /// to the first family whose word its name contains, in any case and with `-` and `_` ignored.
    ///
    /// | name contains | A | B | why |
    /// |---|---|---|---|
    /// | `amazoncat` | 0.55 | 1.5 | categories of products, not links between them: the repository gives it the default |
    /// | `amazon` | 0.6 | 2.6 | fitted on Amazon product links |
    /// | `wikipedia`, `wikilshtc`, `wikititles`, `wiki500k` | 0.5 | 0.4 | fitted on Wikipedia categories |
    /// | anything else | 0.55 | 1.5 | the repository's default (EURLex, Wiki10, WikiSeeAlso, Delicious, RCV1, …) |
    pub fn for_dataset(name: &str) -> Self {
        let plain: String =
            name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        FAMILIES
            .iter()
            .find(|(word, ..)| plain.contains(word))
            .map_or(Self::default(), |&(_, a, b)| Propensity { a, b })
    }

    /// An error if a constant is outside the range in which the model is a probability.
    pub fn check(&self) -> Result<()> {
        if !(self.a.is_finite() && self.a >= 0.0) {
            return Err(Error::config("propensity.a", self.a, "a number of at least 0"));
        }
        if !(self.b.is_finite() && self.b > 0.0) {
            return Err(Error::config("propensity.b", self.b, "a number above 0"));
        }
        Ok(())
    }

    /// `1 / p_l` for each label, `[L]`, from its number of training rows; every value is at least 1.
    ///
    /// With fewer than three training rows C would be negative and `p_l` no probability; C is 0 then.
    pub fn inverse(&self, train_counts: &[u32], num_train: usize) -> Vec<f64> {
        let c = ((num_train as f64).ln() - 1.0).max(0.0) * (self.b + 1.0).powf(self.a);
        train_counts.iter().map(|&n| 1.0 + c * (f64::from(n) + self.b).powf(-self.a)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_field_find_their_constants() {
        let of = |name| {
            let p = Propensity::for_dataset(name);
            (p.a, p.b)
        };
        for name in ["Amazon-670K", "amazon-3m", "LF-AmazonTitles-131K", "lf_amazon_131k"] {
            assert_eq!(of(name), (0.6, 2.6), "{name}");
        }
        for name in
            ["WikipediaLarge-500K", "LF-Wikipedia-500K", "WikiLSHTC-325K", "LF-WikiTitles-500K", "wiki-500k"]
        {
            assert_eq!(of(name), (0.5, 0.4), "{name}");
        }
        for name in
            ["AmazonCat-13K", "LF-WikiSeeAlso-320K", "EURLex-4K", "Wiki10-31K", "debian-debtags", "", "é"]
        {
            assert_eq!(of(name), (0.55, 1.5), "{name}");
        }
    }

    #[test]
    fn constants_outside_their_range_are_refused() {
        assert!(Propensity::default().check().is_ok());
        let message = Propensity { a: -0.1, b: 1.5 }.check().unwrap_err().to_string();
        assert_eq!(message, "`propensity.a` = -0.1: expected a number of at least 0");
        assert!(Propensity { a: 0.5, b: 0.0 }.check().is_err());
        assert!(Propensity { a: f64::NAN, b: 1.0 }.check().is_err());
    }

    proptest! {
        #[test]
        fn rarer_labels_weigh_more_and_never_less_than_one(a in 0.0..1.0, b in 0.1..3.0, n in 0usize..10_000_000) {
            let inverse = Propensity { a, b }.inverse(&[0, 1, 10, 1000], n);
            prop_assert!(inverse.windows(2).all(|w| w[0] >= w[1]));
            prop_assert!(inverse.iter().all(|&v| v >= 1.0 && v.is_finite()));
        }
    }
}

//! How does a margin become a score, and how does a node's score meet that of its parent? (spec: XR-Linear, 6.1)
//!
//! | name            | sigma(m)                  | with the parent |
//! |-----------------|---------------------------|-----------------|
//! | `noop`          | m                         | child alone     |
//! | `sigmoid`       | 1 / (1 + e^-m)            | product         |
//! | `log-sigmoid`   | -ln(1 + e^-m)             | sum             |
//! | `lP-hinge`      | exp(-max(0, 1 - m)^P)     | product         |
//! | `log-lP-hinge`  | -max(0, 1 - m)^P          | sum             |
//!
//! Except for `noop`, a child never scores above its parent. Tree search lives on this: a subtree whose root is
//! below the k-th best label so far cannot matter.
//!
//! ```
//! use xmc_linear::PostProcessor;
//! let l3: PostProcessor = "l3-hinge".parse().unwrap();
//! assert_eq!(l3.combine(0.5, l3.transform(2.0)), 0.5); // margins above 1 are certain
//! assert!((l3.transform(0.0) - (-1f32).exp()).abs() < 1e-7);
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xmc_data::Error;

/// Largest power of a hinge; the field uses 1 to 4.
const MAX_POWER: u8 = 9;

/// From margins to scores; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum PostProcessor {
    /// The margin itself; parents only filter.
    Noop,
    /// Logistic function, product along the path.
    Sigmoid,
    /// Logarithm of the logistic function, sum along the path.
    LogSigmoid,
    /// exp(-max(0, 1 - m)^p), product along the path.
    Hinge(u8),
    /// -max(0, 1 - m)^p, sum along the path.
    LogHinge(u8),
}

impl PostProcessor {
    /// sigma(m).
    #[inline]
    pub fn transform(self, margin: f32) -> f32 {
        match self {
            PostProcessor::Noop => margin,
            PostProcessor::Sigmoid => 1.0 / (1.0 + (-margin).exp()),
            // ln(1 + e^-m) written so that neither branch overflows.
            PostProcessor::LogSigmoid => margin.min(0.0) - (-margin.abs()).exp().ln_1p(),
            PostProcessor::Hinge(p) => (-(1.0 - margin).max(0.0).powi(i32::from(p))).exp(),
            PostProcessor::LogHinge(p) => -(1.0 - margin).max(0.0).powi(i32::from(p)),
        }
    }

    /// Score of a child from that of its parent and its own sigma(m).
    #[inline]
    pub fn combine(self, parent: f32, child: f32) -> f32 {
        match self {
            PostProcessor::Noop => child,
            PostProcessor::Sigmoid | PostProcessor::Hinge(_) => parent * child,
            PostProcessor::LogSigmoid | PostProcessor::LogHinge(_) => parent + child,
        }
    }

    /// Score of the root, which leaves its children as they are.
    pub fn root(self) -> f32 {
        match self {
            PostProcessor::LogSigmoid | PostProcessor::LogHinge(_) => 0.0,
            _ => 1.0,
        }
    }

    /// True if a child's score is its parent's times its own.
    pub fn is_product(self) -> bool {
        matches!(self, PostProcessor::Sigmoid | PostProcessor::Hinge(_))
    }

    /// True if a larger margin never makes a smaller score; a product with a negative parent turns the order round.
    pub fn rises_with_margin(self, parent: f32) -> bool {
        !self.is_product() || parent >= 0.0
    }

    /// True if no child scores above its parent; for products, if the parent's score is not negative.
    pub fn is_bounded_by_parent(self) -> bool {
        self != PostProcessor::Noop
    }

    /// A margin below which no child of a parent with score `parent` reaches `floor`.
    ///
    /// Conservative: it leaves room for the rounding of `transform`, so margins above it still have to be scored.
    /// Comparing margins first spares an `exp` for nearly every candidate.
    pub fn least_margin(self, parent: f32, floor: f32) -> f32 {
        if floor == f32::NEG_INFINITY {
            return f32::NEG_INFINITY;
        }
        let (parent, floor) = (f64::from(parent), f64::from(floor));
        // The share of the parent's score that the child must keep, as a logarithm (<= 0), with slack.
        let need = match self {
            PostProcessor::Noop => return floor as f32,
            PostProcessor::Sigmoid | PostProcessor::Hinge(_) => {
                // Below the normal numbers a product keeps only a few bits: no bound holds there.
                if floor < f64::from(f32::MIN_POSITIVE) || parent <= 0.0 {
                    return f32::NEG_INFINITY;
                }
                (floor / parent).ln() - 1e-6
            }
            PostProcessor::LogSigmoid | PostProcessor::LogHinge(_) => {
                floor - parent - 1e-6 * (1.0 + floor.abs() + parent.abs())
            }
        }
        .min(-1e-6);
        let margin = match self {
            PostProcessor::Hinge(p) | PostProcessor::LogHinge(p) => 1.0 - (-need).powf(1.0 / f64::from(p)),
            // ln(r / (1 - r)) for r = e^need
            _ => need - (-need.exp_m1()).ln(),
        };
        (margin - 1e-6 * (1.0 + margin.abs())) as f32
    }
}

impl fmt::Display for PostProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PostProcessor::Noop => f.write_str("noop"),
            PostProcessor::Sigmoid => f.write_str("sigmoid"),
            PostProcessor::LogSigmoid => f.write_str("log-sigmoid"),
            PostProcessor::Hinge(p) => write!(f, "l{p}-hinge"),
            PostProcessor::LogHinge(p) => write!(f, "log-l{p}-hinge"),
        }
    }
}

impl FromStr for PostProcessor {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let hinge = |rest: &str| {
            let power = rest.strip_prefix('l')?.strip_suffix("-hinge")?.parse().ok()?;
            (1..=MAX_POWER).contains(&power).then_some(power)
        };
        let known = match name {
            "noop" => Some(PostProcessor::Noop),
            "sigmoid" => Some(PostProcessor::Sigmoid),
            "log-sigmoid" => Some(PostProcessor::LogSigmoid),
            _ => match name.strip_prefix("log-") {
                Some(rest) => hinge(rest).map(PostProcessor::LogHinge),
                None => hinge(name).map(PostProcessor::Hinge),
            },
        };
        known.ok_or_else(|| {
            let allowed = "noop, sigmoid, log-sigmoid, l1-hinge to l9-hinge or log-l1-hinge to log-l9-hinge";
            Error::config("post_processor", name, allowed)
        })
    }
}

impl From<PostProcessor> for String {
    fn from(p: PostProcessor) -> String {
        p.to_string()
    }
}

impl TryFrom<String> for PostProcessor {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [&str; 11] = [
        "noop",
        "sigmoid",
        "log-sigmoid",
        "l1-hinge",
        "l2-hinge",
        "l3-hinge",
        "l4-hinge",
        "log-l1-hinge",
        "log-l2-hinge",
        "log-l3-hinge",
        "log-l4-hinge",
    ];

    #[test]
    fn names_are_read_and_written() {
        for name in ALL {
            assert_eq!(name.parse::<PostProcessor>().unwrap().to_string(), name);
        }
        for name in ["l0-hinge", "l10-hinge", "log-noop", "hinge", ""] {
            assert!(
                name.parse::<PostProcessor>().unwrap_err().to_string().contains("expected noop, sigmoid")
            );
        }
    }

    #[test]
    fn scores_equal_the_formulas_in_double_precision() {
        for step in -1000..=1000 {
            let m = f64::from(step) / 10.0;
            let hinge = |p: i32| (1.0 - m).max(0.0).powi(p);
            let close = |name: &str, exact: f64| {
                let got = f64::from(name.parse::<PostProcessor>().unwrap().transform(m as f32));
                assert!(
                    (got - exact).abs() <= 1e-6 * (1.0 + exact.abs()),
                    "{name}({m}) = {got}, not {exact}"
                );
            };
            close("sigmoid", 1.0 / (1.0 + (-m).exp()));
            close("log-sigmoid", if m < -30.0 { m } else { -(-m).exp().ln_1p() });
            for p in 1..=4 {
                close(&format!("l{p}-hinge"), (-hinge(p)).exp());
                close(&format!("log-l{p}-hinge"), -hinge(p));
            }
        }
    }

    #[test]
    fn scores_below_the_normal_numbers_are_not_bounded() {
        let p = PostProcessor::Hinge(4);
        let floor = p.combine(1e-4, p.transform(-2.1));
        assert!(floor > 0.0 && floor < f32::MIN_POSITIVE);
        assert_eq!(p.least_margin(1e-4, floor), f32::NEG_INFINITY);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn margins_below_the_least_margin_never_reach_the_floor(
            which in 0..ALL.len(), parent in 0.0001f32..1.0, other in -3.0f32..3.0, margin in -6.0f32..6.0,
        ) {
            let p: PostProcessor = ALL[which].parse().unwrap();
            let parent = if p.root() == 0.0 { parent.ln() } else { parent };
            let floor = p.combine(parent, p.transform(other));
            if margin < p.least_margin(parent, floor) {
                prop_assert!(p.combine(parent, p.transform(margin)) < floor);
            }
            // What made the floor must itself pass.
            prop_assert!(other >= p.least_margin(parent, floor));
            prop_assert!(!p.is_bounded_by_parent() || floor <= parent);
        }
    }
}

//! How right is a score? (spec: ELIAS, 4.1)
//!
//! A decision tree of depth 5 learns, from pairs of validation rows and labels that were found for them, how often a
//! label with such numbers is right:
//!
//! ```text
//! numbers of a pair: ranker score, score before the ranker, frequency of the label
//! final score = 0.3 P(right) + 0.7 ranker score
//! ```
//!
//! A node is divided where the Gini impurity, the sum of 2 p (1 - p) weighted by pairs, falls most; ties go to the first
//! number and the lowest threshold, which lies halfway between two values. Cost: 5 sorts of the pairs by each number.

use serde::{Deserialize, Serialize};

/// Levels of the tree.
const DEPTH: usize = 5;
/// Share of the tree in the final score.
const SHARE: f32 = 0.3;

/// Numbers of a pair: ranker score, score before the ranker, frequency of the label.
pub(super) type Pair = [f32; 3];

/// The decision tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Calibration {
    /// The share of pairs that were right.
    Leaf(f32),
    /// Pairs whose number `of` is at most `threshold` go left.
    Inner {
        /// 0, 1 or 2.
        of: usize,
        /// Between two values.
        threshold: f32,
        /// Where they go.
        left: Box<Calibration>,
        /// Where the others go.
        right: Box<Calibration>,
    },
}

impl Calibration {
    /// Learns from pairs and whether each is right; without pairs, every label is as likely as not.
    pub(super) fn fit(mut pairs: Vec<(Pair, bool)>) -> Self {
        // In an order of their own, whatever order they came in.
        pairs.sort_unstable_by(|a, b| {
            let numbers = (0..3).map(|i| a.0[i].total_cmp(&b.0[i]));
            numbers.fold(a.1.cmp(&b.1), |last, next| next.then(last))
        });
        grow(&mut pairs, DEPTH)
    }

    /// How often a label with such numbers was right.
    pub(super) fn probability(&self, pair: &Pair) -> f32 {
        match self {
            Calibration::Leaf(p) => *p,
            Calibration::Inner { of, threshold, left, right } => {
                let goes_left = pair.get(*of).is_some_and(|value| value <= threshold);
                if goes_left { left.probability(pair) } else { right.probability(pair) }
            }
        }
    }

    /// The final score of a pair.
    pub(super) fn score(&self, pair: &Pair) -> f32 {
        SHARE * self.probability(pair) + (1.0 - SHARE) * pair[0]
    }
}

fn grow(pairs: &mut [(Pair, bool)], depth: usize) -> Calibration {
    let right = pairs.iter().filter(|pair| pair.1).count();
    let leaf = Calibration::Leaf(if pairs.is_empty() { 0.5 } else { right as f32 / pairs.len() as f32 });
    if depth == 0 || right == 0 || right == pairs.len() {
        return leaf;
    }
    let mut best: Option<Cut> = None;
    for of in 0..3 {
        pairs.sort_by(|a, b| a.0[of].total_cmp(&b.0[of]));
        if let Some(cut) = best_cut(pairs, of, right)
            && best.as_ref().is_none_or(|best| cut.impurity < best.impurity)
        {
            best = Some(cut);
        }
    }
    let Some(Cut { of, at, threshold, .. }) = best else { return leaf };
    pairs.sort_by(|a, b| a.0[of].total_cmp(&b.0[of]));
    let (left, right) = pairs.split_at_mut(at);
    let (left, right) = (Box::new(grow(left, depth - 1)), Box::new(grow(right, depth - 1)));
    Calibration::Inner { of, threshold, left, right }
}

/// A way to divide a node.
struct Cut {
    of: usize,
    /// Pairs on the left.
    at: usize,
    threshold: f32,
    impurity: f64,
}

/// The best place to divide pairs that are sorted by the number `of`; `None` if all are alike.
fn best_cut(pairs: &[(Pair, bool)], of: usize, right: usize) -> Option<Cut> {
    // n 2 p (1 - p) = 2 r (n - r) / n
    let impurity = |right: usize, of: usize| 2.0 * right as f64 * (of - right) as f64 / of as f64;
    let (mut seen, mut best) = (0, None::<Cut>);
    for (i, neighbours) in pairs.windows(2).enumerate() {
        seen += usize::from(neighbours[0].1);
        let (low, high) = (neighbours[0].0[of], neighbours[1].0[of]);
        if low >= high {
            continue;
        }
        let both = impurity(seen, i + 1) + impurity(right - seen, pairs.len() - i - 1);
        if best.as_ref().is_none_or(|best| both < best.impurity) {
            // Two neighbours may have nothing between them.
            let middle = low + (high - low) / 2.0;
            let threshold = if middle < high { middle } else { low };
            best = Some(Cut { of, at: i + 1, threshold, impurity: both });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_between_two_kinds_is_found_in_any_order() {
        let mut pairs: Vec<(Pair, bool)> =
            (0..20u8).map(|i| ([0.5, f32::from(i * 7 % 20), 3.0], i * 7 % 20 > 12)).collect();
        let tree = Calibration::fit(pairs.clone());
        let expected = Calibration::Inner {
            of: 1,
            threshold: 12.5,
            left: Box::new(Calibration::Leaf(0.0)),
            right: Box::new(Calibration::Leaf(1.0)),
        };
        assert_eq!(tree, expected);
        pairs.reverse();
        assert_eq!(Calibration::fit(pairs), expected);
        assert_eq!((tree.score(&[0.5, 20.0, 1.0]), tree.score(&[0.5, 3.0, 1.0])), (0.65, 0.35));
    }

    #[test]
    fn probabilities_are_those_of_an_exhaustive_tree() {
        // The slow, obvious way: all cuts of all numbers, each counted anew.
        fn slow(pairs: &[(Pair, bool)], depth: usize, asked: &Pair) -> f32 {
            let p = |part: &[&(Pair, bool)]| {
                part.iter().filter(|pair| pair.1).count() as f64 / part.len().max(1) as f64
            };
            let gini = |part: &[&(Pair, bool)]| part.len() as f64 * 2.0 * p(part) * (1.0 - p(part));
            let all: Vec<&(Pair, bool)> = pairs.iter().collect();
            let mut best = (gini(&all) - 1e-9, None);
            for of in 0..3 {
                let mut values: Vec<f32> = pairs.iter().map(|pair| pair.0[of]).collect();
                values.sort_by(f32::total_cmp);
                values.dedup();
                for w in values.windows(2) {
                    let threshold = f32::midpoint(w[0], w[1]);
                    let (left, right): (Vec<_>, Vec<_>) =
                        pairs.iter().partition::<Vec<_>, _>(|pair| pair.0[of] <= threshold);
                    let both = gini(&left) + gini(&right);
                    if both < best.0 - 1e-9 {
                        best = (both, Some((of, threshold)));
                    }
                }
            }
            let (0.., Some((of, threshold))) = (depth, best.1) else { return p(&all) as f32 };
            if depth == 0 {
                return p(&all) as f32;
            }
            let left = asked[of] <= threshold;
            let part: Vec<_> =
                pairs.iter().copied().filter(|pair| (pair.0[of] <= threshold) == left).collect();
            slow(&part, depth - 1, asked)
        }
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let pairs: Vec<(Pair, bool)> = (0..120)
            .map(|_| {
                let pair = [draw(), draw(), (draw() * 6.0).floor()];
                (pair, draw() < pair[0] * pair[1] + 0.1)
            })
            .collect();
        let tree = Calibration::fit(pairs.clone());
        for (pair, _) in &pairs {
            assert!((tree.probability(pair) - slow(&pairs, DEPTH, pair)).abs() < 1e-6, "{pair:?}");
        }
    }

    #[test]
    fn few_pairs_make_small_trees() {
        assert_eq!(Calibration::fit(Vec::new()), Calibration::Leaf(0.5));
        assert_eq!(Calibration::fit(vec![([0.1, 0.2, 3.0], true)]), Calibration::Leaf(1.0));
        let alike = vec![([0.1, 0.2, 3.0], true), ([0.1, 0.2, 3.0], false)];
        assert_eq!(Calibration::fit(alike), Calibration::Leaf(0.5));
    }

    #[test]
    fn trees_are_five_deep_at_most() {
        fn depth(tree: &Calibration) -> usize {
            match tree {
                Calibration::Leaf(_) => 0,
                Calibration::Inner { left, right, .. } => 1 + depth(left).max(depth(right)),
            }
        }
        let pairs = (0..100u8).map(|i| ([f32::from(i), 0.0, 0.0], i % 2 == 0)).collect();
        assert_eq!(depth(&Calibration::fit(pairs)), DEPTH);
    }
}

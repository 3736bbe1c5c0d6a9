//! Which levels train the encoder, and with which settings? Everything is looked up before any work, so that a list of
//! the wrong length is not found after hours.

use xmc_linear::PostProcessor;
use xmc_linear::negatives::NegativeSampling;

use super::config::{Bootstrap, Matching, XrTransformerConfig};
use crate::error::Result;
use crate::methods::xr_linear::within;
use crate::random::{Draws, Purpose};

/// A level that trains the encoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    /// From 1, the children of the root.
    pub(super) t: usize,
    /// L_t
    pub(super) nodes: usize,
    /// Of every random choice at this level.
    pub(super) seed: u64,
    pub(super) negatives: NegativeSampling,
    pub(super) epochs: f32,
    pub(super) max_steps: u64,
    pub(super) lr: f32,
    /// That of the head, never 0.
    pub(super) head_lr: f32,
    pub(super) warmup_steps: u64,
    /// Whether the head of the next level begins with rankers on the embeddings of this one.
    pub(super) embeddings: bool,
    /// Whether a level below asks for what this one finds.
    pub(super) shortlist: bool,
    pub(super) matcher: LevelMatcher,
}

/// How the nodes of a level are found for the training rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LevelMatcher {
    pub(super) top_k: usize,
    pub(super) post_processor: PostProcessor,
    pub(super) ensemble: Matching,
    pub(super) cost_positive: f32,
    pub(super) cost_negative: f32,
    pub(super) threshold: f32,
}

impl Level {
    /// Steps that train it on so many rows.
    pub(super) fn steps(&self, rows: usize, batch_size: usize) -> u64 {
        if self.max_steps > 0 {
            return self.max_steps;
        }
        let batches = rows.div_ceil(batch_size) as f64;
        ((f64::from(self.epochs) * batches).round() as u64).max(1)
    }

    /// Steps of the warm-up: no more than half of all, or a short level would end before it learns.
    pub(super) fn warmup(&self, steps: u64) -> u64 {
        self.warmup_steps.min(steps / 2)
    }
}

/// The levels that train the encoder, from the top; `widths` are those of the preliminary tree below its root.
pub(super) fn plan(config: &XrTransformerConfig, widths: &[usize], seed: u64) -> Result<Vec<Level>> {
    let most = config.max_match_clusters;
    let depth = widths.iter().take_while(|&&nodes| nodes <= most).count();
    if depth == 0 {
        let first = widths.first().copied().unwrap_or(0);
        let expected = format!("at least {first}, the nodes of the first level of the preliminary tree");
        return Err(xmc_data::Error::config("max_match_clusters", most, expected).into());
    }
    let mut levels =
        (1..=depth).map(|t| level(config, widths[t - 1], t, depth, seed)).collect::<Result<Vec<Level>>>()?;
    for t in 0..depth - 1 {
        levels[t].shortlist = levels[t + 1..].iter().any(|below| below.negatives.man);
        levels[t].embeddings =
            matches!(config.training.bootstrap, Bootstrap::Linear | Bootstrap::WeightedLinear);
    }
    Ok(levels)
}

fn level(config: &XrTransformerConfig, nodes: usize, t: usize, depth: usize, seed: u64) -> Result<Level> {
    let training = &config.training;
    let at = t - 1;
    let matcher = matcher(config, at, depth).map_err(|e| within("matcher", e))?;
    let level = || {
        let lr = training.lr.at("lr", at, depth)?;
        let head_lr = training.head_lr.at("head_lr", at, depth)?;
        Ok(Level {
            t,
            nodes,
            seed: Draws::new(seed, Purpose::Level, t as u64).next(),
            negatives: training.negatives.at("negatives", at, depth)?,
            epochs: training.epochs.at("epochs", at, depth)?,
            max_steps: training.max_steps.at("max_steps", at, depth)?,
            lr,
            head_lr: if head_lr > 0.0 { head_lr } else { lr },
            warmup_steps: training.warmup_steps.at("warmup_steps", at, depth)?,
            embeddings: false,
            shortlist: false,
            matcher,
        })
    };
    Ok(level().map_err(|e| within("training", e))?)
}

fn matcher(config: &XrTransformerConfig, at: usize, depth: usize) -> xmc_data::Result<LevelMatcher> {
    let matcher = &config.matcher;
    Ok(LevelMatcher {
        top_k: matcher.top_k.at("top_k", at, depth)?,
        post_processor: matcher.post_processor.at("post_processor", at, depth)?,
        ensemble: matcher.ensemble.at("ensemble", at, depth)?,
        cost_positive: matcher.cost_positive.at("cost_positive", at, depth)?,
        cost_negative: matcher.cost_negative.at("cost_negative", at, depth)?,
        threshold: matcher.threshold.at("threshold", at, depth)?,
    })
}

#[cfg(test)]
mod tests {
    use xmc_linear::ranker::PerLevel;

    use super::*;

    const WIDTHS: [usize; 3] = [2, 4, 8];

    fn sampling(names: &[&str]) -> PerLevel<NegativeSampling> {
        PerLevel::Each(names.iter().map(|name| (*name).to_owned().try_into().unwrap()).collect())
    }

    #[test]
    fn levels_with_too_many_nodes_do_not_train_and_one_must() {
        let levels =
            |most| plan(&XrTransformerConfig { max_match_clusters: most, ..Default::default() }, &WIDTHS, 0);
        let nodes = |most| levels(most).unwrap().iter().map(|level| level.nodes).collect::<Vec<_>>();
        assert_eq!((nodes(2), nodes(7), nodes(8)), (vec![2], vec![2, 4], vec![2, 4, 8]));
        let message = levels(1).unwrap_err().to_string();
        assert_eq!(
            message,
            "`max_match_clusters` = 1: expected at least 2, the nodes of the first level of the preliminary tree"
        );
    }

    #[test]
    fn lists_must_have_one_value_for_each_level_that_trains() {
        let mut config = XrTransformerConfig { max_match_clusters: 4, ..Default::default() };
        config.training.lr = PerLevel::Each(vec![0.5, 0.25]);
        config.training.head_lr = PerLevel::Each(vec![0.0, 0.125]);
        let levels = plan(&config, &WIDTHS, 0).unwrap();
        assert_eq!(levels.iter().map(|l| (l.lr, l.head_lr)).collect::<Vec<_>>(), [(0.5, 0.5), (0.25, 0.125)]);
        assert_ne!(levels[0].seed, levels[1].seed);
        config.training.epochs = PerLevel::Each(vec![1.0; 3]);
        let message = plan(&config, &WIDTHS, 0).unwrap_err().to_string();
        assert!(
            message.starts_with("`training.epochs` = [3 values]: ") && message.contains("2 levels"),
            "{message}"
        );
        config.training.epochs = PerLevel::All(1.0);
        config.matcher.top_k = PerLevel::Each(vec![3]);
        let message = plan(&config, &WIDTHS, 0).unwrap_err().to_string();
        assert!(message.starts_with("`matcher.top_k` = [1 values]"), "{message}");
    }

    #[test]
    fn a_level_has_at_least_a_step_and_its_warm_up_ends_halfway() {
        let levels = |epochs, max_steps| {
            let mut config = XrTransformerConfig::default();
            (config.training.epochs, config.training.max_steps) =
                (PerLevel::All(epochs), PerLevel::All(max_steps));
            config.training.warmup_steps = PerLevel::All(10);
            plan(&config, &WIDTHS, 0).unwrap().remove(0)
        };
        let steps = |epochs, max_steps| levels(epochs, max_steps).steps(33, 32);
        assert_eq!((steps(2.0, 0), steps(0.5, 0), steps(0.1, 0), steps(2.0, 7)), (4, 1, 1, 7));
        let level = levels(1.0, 0);
        assert_eq!((level.warmup(1), level.warmup(7), level.warmup(1000)), (0, 3, 10));
    }

    #[test]
    fn a_level_is_searched_only_for_levels_below_that_ask() {
        let mut config = XrTransformerConfig::default();
        let mut needs = |bootstrap, names: &[&str]| {
            (config.training.bootstrap, config.training.negatives) = (bootstrap, sampling(names));
            let levels = plan(&config, &WIDTHS, 0).unwrap();
            levels.iter().map(|l| (l.embeddings, l.shortlist)).collect::<Vec<_>>()
        };
        let (no, yes) = (false, true);
        assert_eq!(needs(Bootstrap::Linear, &["tfn"; 3]), [(yes, no), (yes, no), (no, no)]);
        assert_eq!(needs(Bootstrap::Inherit, &["man", "tfn", "tfn"]), [(no, no); 3]);
        assert_eq!(needs(Bootstrap::Inherit, &["tfn", "tfn+man", "tfn"]), [(no, yes), (no, no), (no, no)]);
        assert_eq!(needs(Bootstrap::None, &["tfn", "tfn", "man"]), [(no, yes), (no, yes), (no, no)]);
    }
}

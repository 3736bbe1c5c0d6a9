//! Settings of XR-Linear.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::text::VectorizerConfig;
use xmc_data::topk::ensemble::EnsembleRule;
use xmc_linear::cluster::ClusterConfig;
use xmc_linear::label_features::LabelFeaturesConfig;
use xmc_linear::ranker::{RankerConfig, RelevanceMode};

use crate::config::{Group, Settings};
use crate::methods::SoftValue;
use crate::methods::xr_linear::keys;

/// Which features rows are described by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSource {
    /// The given ones if the data has them, else those of the texts.
    #[default]
    Auto,
    /// Those that vectorizers make of the texts.
    Text,
    /// Those given with the data.
    Given,
}

/// Inputs that come with the data but not within a dataset folder, as files that scipy writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Label features `[L, d']`, for the kind `given`.
    pub label_features: Option<PathBuf>,
    /// A label tree: code matrix `[L, c]` or a folder of them.
    pub tree: Option<PathBuf>,
    /// Relevance of the labels `[n, L]`, with the entries of the training labels.
    pub relevance: Option<PathBuf>,
    /// Labels that are to be negatives of a row `[n, L]`.
    pub negatives: Option<PathBuf>,
}

/// Everything that can be set; mirrors the TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XrLinearConfig {
    /// Which features to use.
    pub features: FeatureSource,
    /// What the values of labels change.
    pub value: SoftValue,
    /// Trees of the ensemble.
    pub trees: usize,
    /// How the scores of several trees become one.
    pub combine: EnsembleRule,
    /// Vectorizers, side by side; for features from texts.
    pub vectorizer: Vec<VectorizerConfig>,
    /// What a label looks like when labels are grouped.
    pub label_features: LabelFeaturesConfig,
    /// How labels are grouped.
    pub cluster: ClusterConfig,
    /// How a level of the tree learns to rank, and is searched.
    pub ranker: RankerConfig,
    /// Further matrices.
    pub files: Files,
}

impl Default for XrLinearConfig {
    fn default() -> Self {
        XrLinearConfig {
            features: FeatureSource::Auto,
            value: SoftValue::Weight,
            trees: 1,
            combine: EnsembleRule::Average,
            vectorizer: vec![VectorizerConfig::default()],
            label_features: LabelFeaturesConfig::default(),
            cluster: ClusterConfig::default(),
            ranker: RankerConfig::default(),
            files: Files::default(),
        }
    }
}

/// More trees than this would hardly fit anywhere, and are a slip of the keyboard.
const MAX_TREES: usize = 100;

impl Settings for XrLinearConfig {
    const METHOD: &'static str = "xr-linear";
    const GROUPS: &'static [Group] = keys::GROUPS;

    fn check_values(&self) -> xmc_data::Result<()> {
        if !(1..=MAX_TREES).contains(&self.trees) {
            let expected = format!("a whole number from 1 to {MAX_TREES}");
            return Err(xmc_data::Error::config("trees", self.trees, expected));
        }
        check_value(self.value)?;
        if self.vectorizer.is_empty() && self.features != FeatureSource::Given {
            return Err(xmc_data::Error::config("vectorizer", "[]", "at least one vectorizer"));
        }
        for (i, vectorizer) in self.vectorizer.iter().enumerate() {
            vectorizer.check().map_err(|e| within(&format!("vectorizer.{i}"), e))?;
        }
        self.label_features.check().map_err(|e| within("label_features", e))?;
        self.cluster.check().map_err(|e| within("cluster", e))?;
        self.ranker.check().map_err(|e| within("ranker", e))?;
        self.check_files()
    }
}

impl XrLinearConfig {
    /// A file and the setting that reads it need each other.
    fn check_files(&self) -> xmc_data::Result<()> {
        let sampling = self.ranker.negatives.values();
        let asking = sampling.iter().find(|sampling| sampling.usn);
        let fail = |key: &str, value: String, expected: &str| {
            Err(xmc_data::Error::config(key, value, expected.to_owned()))
        };
        match (asking, &self.files.negatives) {
            (Some(&sampling), None) => {
                return fail(
                    "ranker.negatives",
                    sampling.into(),
                    "a file in `files.negatives`, which usn reads",
                );
            }
            (None, Some(path)) => {
                let expected = "usn in `ranker.negatives`, as nothing else reads this file";
                return fail("files.negatives", path.display().to_string(), expected);
            }
            _ => {}
        }
        match &self.files.relevance {
            Some(path) if self.ranker.relevance == RelevanceMode::Disable => {
                let expected = "`ranker.relevance` = induce or ranker-only, as nothing else reads this file";
                fail("files.relevance", path.display().to_string(), expected)
            }
            _ => Ok(()),
        }
    }
}

/// Refuses roles of values that rankers cannot give them.
fn check_value(value: SoftValue) -> xmc_data::Result<()> {
    let (name, why) = match value {
        SoftValue::Weight | SoftValue::Ignore => return Ok(()),
        SoftValue::Sample => ("sample", "rankers learn from all pairs at once and draw none"),
        SoftValue::Target => ("target", "rankers learn right and wrong, no probabilities"),
    };
    Err(xmc_data::Error::config("value", name, format!("weight or ignore: {why}")))
}

/// Puts the name of the table before the key that an error names.
pub(in crate::methods) fn within(table: &str, problem: xmc_data::Error) -> xmc_data::Error {
    match problem {
        xmc_data::Error::Config { key, value, expected } => {
            let name = key.rsplit('.').next().unwrap_or_default();
            xmc_data::Error::Config { key: format!("{table}.{name}"), value, expected }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{checks, load};

    #[test]
    fn every_setting_is_documented_and_every_documented_setting_exists() {
        checks::documentation_is_complete::<XrLinearConfig>();
    }

    #[test]
    fn the_printed_file_gives_the_defaults() {
        checks::printed_file_gives_the_defaults::<XrLinearConfig>();
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_for_every_setting() {
        checks::wrong_kinds_are_refused::<XrLinearConfig>();
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_table_and_option() {
        for (set, expected) in [
            ("trees=0", "--set trees=0: `trees` = 0: expected a whole number from 1 to 100"),
            (
                "value=sample",
                "--set value=sample: `value` = sample: expected weight or ignore: rankers learn from all pairs at once and draw none",
            ),
            (
                "value=target",
                "--set value=target: `value` = target: expected weight or ignore: rankers learn right and wrong, no probabilities",
            ),
            (
                "ranker.beam_size=0",
                "--set ranker.beam_size=0: `ranker.beam_size` = 0: expected a number from 1",
            ),
            (
                "ranker.negatives=tfn+usn",
                "--set ranker.negatives=tfn+usn: `ranker.negatives` = usn+tfn: expected a file in `files.negatives`, which usn reads",
            ),
            (
                "files.negatives=n.npz",
                "--set files.negatives=n.npz: `files.negatives` = n.npz: expected usn in `ranker.negatives`, as nothing else reads this file",
            ),
            (
                "files.relevance=r.npz",
                "--set files.relevance=r.npz: `files.relevance` = r.npz: expected `ranker.relevance` = induce or ranker-only, as nothing else reads this file",
            ),
            (
                "cluster.branching=1",
                "--set cluster.branching=1: `cluster.branching` = 1: expected a whole number of at least 2",
            ),
            (
                "vectorizer.ngram_range=[2,1]",
                "--set vectorizer.ngram_range=[2,1]: `vectorizer.0.ngram_range` = [2, 1]: expected [shortest, longest] with 1 <= shortest <= longest <= 20",
            ),
            (
                "max_leaf_sise=3",
                "--set max_leaf_sise=3: unknown setting `max_leaf_sise`; did you mean `cluster.max_leaf_size`?",
            ),
        ] {
            assert_eq!(checks::message::<XrLinearConfig>(set), expected);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        checks::are_refused::<XrLinearConfig>(&[
            "trees=101",
            "vectorizer.ngram_range=[0,1]",
            "vectorizer.ngram_range=[1,21]",
            "vectorizer.min_df=1.5",
            "vectorizer.max_df=-0.1",
            "vectorizer.n_features=0",
            "vectorizer.truncate_length=-1",
            "vectorizer.max_features=-1",
            "label_features.pifa_weight=1.5",
            "label_features.pifa_weight=nan",
            "cluster.max_leaf_size=0",
            "cluster.max_iterations=0",
            "cluster.unbalanced_branching=1",
            "cluster.unbalanced_depth=0",
            "ranker.cost_positive=0",
            "ranker.cost_negative=-1",
            "ranker.cost_negative=inf",
            "ranker.bias=-1",
            "ranker.epsilon=0",
            "ranker.epsilon=nan",
            "ranker.max_iterations=0",
            "ranker.threshold=-0.1",
            "ranker.threshold=[0.1,-0.1]",
            "ranker.beam_size=0",
            "ranker.post_processor=l0-hinge",
            "ranker.negatives=tfn+",
        ]);
    }

    #[test]
    fn a_file_and_the_setting_that_reads_it_go_together() {
        let sets = ["ranker.negatives=tfn+usn", "files.negatives=n.npz"];
        let more = ["ranker.relevance=induce", "files.relevance=r.npz"];
        let sets: Vec<String> = sets.into_iter().chain(more).map(str::to_owned).collect();
        assert!(load::<XrLinearConfig>(None, &sets).is_ok());
    }

    #[test]
    fn a_preset_decides_what_is_not_set() {
        let sets = ["vectorizer.preset=libpecos".to_owned(), "vectorizer.1.analyzer=char_wb".to_owned()];
        let config = load::<XrLinearConfig>(None, &sets).unwrap();
        assert!(!config.vectorizer[0].lowercase);
        assert!(config.vectorizer[1].lowercase);
    }
}

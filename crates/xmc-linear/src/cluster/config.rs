//! Settings of the label tree. The defaults of balanced trees are those of libpecos, of unbalanced ones those of Bonsai.

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};

/// How labels are grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Repeated halving: all groups have the same size, within one.
    #[default]
    Balanced,
    /// k-means with many parts and few levels: groups are as large as the data make them.
    Unbalanced,
}

/// How the label tree is grown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// `balanced` or `unbalanced`.
    pub method: Method,
    /// Children of an inner node of a balanced tree. A power of two keeps every node one complete group of the halving.
    pub branching: usize,
    /// A group of at most this many labels is not divided further.
    pub max_leaf_size: usize,
    /// Whether centroids are scaled to length one, which makes the similarity the cosine.
    pub spherical: bool,
    /// Rounds of k-means for one group at most.
    pub max_iterations: usize,
    /// Levels are added on top until at most this many nodes are below the root; 0 means `branching`, 1 none at all.
    pub min_codes: usize,
    /// Most children of an inner node of an unbalanced tree.
    pub unbalanced_branching: usize,
    /// Most levels of rankers of an unbalanced tree; 1 is one-vs-all.
    pub unbalanced_depth: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        ClusterConfig {
            method: Method::Balanced,
            branching: 16,
            max_leaf_size: 100,
            spherical: true,
            max_iterations: 20,
            min_codes: 0,
            unbalanced_branching: 100,
            unbalanced_depth: 3,
        }
    }
}

impl ClusterConfig {
    /// Refuses settings out of range.
    pub fn check(&self) -> Result<()> {
        let at_least = |key: &str, value: usize, least: usize| {
            if value >= least {
                return Ok(());
            }
            Err(Error::config(key, value, format!("a whole number of at least {least}")))
        };
        at_least("cluster.branching", self.branching, 2)?;
        at_least("cluster.max_leaf_size", self.max_leaf_size, 1)?;
        at_least("cluster.max_iterations", self.max_iterations, 1)?;
        at_least("cluster.unbalanced_branching", self.unbalanced_branching, 2)?;
        at_least("cluster.unbalanced_depth", self.unbalanced_depth, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |config: ClusterConfig| config.check().unwrap_err().to_string();
        let base = ClusterConfig::default;
        assert!(base().check().is_ok());
        assert!(refused(ClusterConfig { branching: 1, ..base() }).contains("`cluster.branching` = 1"));
        assert!(refused(ClusterConfig { max_leaf_size: 0, ..base() }).contains("max_leaf_size"));
        assert!(refused(ClusterConfig { max_iterations: 0, ..base() }).contains("max_iterations"));
        assert!(
            refused(ClusterConfig { unbalanced_branching: 1, ..base() }).contains("unbalanced_branching")
        );
        assert!(refused(ClusterConfig { unbalanced_depth: 0, ..base() }).contains("unbalanced_depth"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<ClusterConfig>(r#"{"branchin": 4}"#).unwrap_err();
        assert!(error.to_string().contains("branchin"));
    }
}

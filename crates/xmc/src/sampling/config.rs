//! Settings of sampling.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xmc_data::{Error, Result};

/// How labels are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Buckets of labels whose features lie on the same sides of random planes.
    #[default]
    Simhash,
    /// Buckets of labels whose names share words.
    Minhash,
    /// No buckets: a label is the likelier drawn the fewer labels are like it.
    Race,
    /// All labels alike.
    Random,
}

/// What a label looks like when it is hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashFeatures {
    /// Token embeddings where there is a decoder, else words and characters.
    #[default]
    Auto,
    /// Weighted mean of the decoder's input embeddings of the tokens of its name.
    Tokemb,
    /// Words and characters of its name.
    Tfidf,
    /// Last hidden state of the decoder behind its name.
    Llm,
    /// A row of a file.
    File,
}

/// What `ratio` is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RatioOf {
    /// Pairs of a row and one of its labels.
    #[default]
    Pairs,
    /// Labels that training rows have.
    Labels,
    /// Rows that have labels.
    Documents,
}

/// Which labels of a bucket are taken first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    /// Any.
    #[default]
    Random,
    /// Those of the most rows.
    Head,
    /// Those of the fewest rows.
    Tail,
    /// Those nearest to the middle of the bucket.
    Medoid,
}

/// Which positives of a row are kept if it has too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PositivesKept {
    /// Random ones, others in every epoch.
    #[default]
    Random,
    /// Those with the lowest label ids.
    First,
}

/// Everything that can be set; the table `sampling` of a TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// Share that is kept; 1 keeps everything.
    pub ratio: f32,
    /// What it is a share of.
    pub ratio_of: RatioOf,
    /// How labels are told apart.
    pub sampler: Sampler,
    /// What a label looks like.
    pub features: HashFeatures,
    /// Rows for `features = "file"`.
    pub features_file: Option<PathBuf>,
    /// Bits of a hash.
    pub bits: Option<u32>,
    /// Labels that every bucket gives, in place of `ratio`.
    pub per_bucket: Option<u32>,
    /// Which labels of a bucket are taken first.
    pub within: Within,
    /// Positives of a row at most; 0 is all.
    pub max_positives: usize,
    /// Which those are.
    pub positives: PositivesKept,
    /// Whether a row without a sampled label keeps its rarest one.
    pub keep_orphans: bool,
    /// Whether every epoch draws other labels.
    pub resample: bool,
}

impl Default for SampleConfig {
    fn default() -> Self {
        SampleConfig {
            ratio: 0.25,
            ratio_of: RatioOf::Pairs,
            sampler: Sampler::Simhash,
            features: HashFeatures::Auto,
            features_file: None,
            bits: None,
            per_bucket: None,
            within: Within::Random,
            max_positives: 4,
            positives: PositivesKept::Random,
            keep_orphans: false,
            resample: false,
        }
    }
}

/// Bits of the longest hash: they are one word.
pub(super) const MOST_BITS: u32 = 30;

impl SampleConfig {
    /// Whether every value is in its range and the values fit together; an error names the key within its table.
    pub fn check(&self) -> Result<()> {
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(Error::config("ratio", self.ratio, "a number above 0, at most 1"));
        }
        let most = if self.sampler == Sampler::Minhash { super::minhash::MOST_WORDS } else { MOST_BITS };
        if let Some(bits) = self.bits.filter(|bits| !(1..=most).contains(bits)) {
            return Err(Error::config("bits", bits, format!("a whole number from 1 to {most}")));
        }
        if self.per_bucket == Some(0) {
            return Err(Error::config("per_bucket", 0, "a whole number, 1 or more"));
        }
        self.check_together()
    }

    /// Whether every label is taken, so that nothing needs to be hashed.
    pub fn takes_all_labels(&self) -> bool {
        self.ratio >= 1.0 && self.per_bucket.is_none()
    }

    /// Settings that need or exclude each other.
    fn check_together(&self) -> Result<()> {
        let buckets = matches!(self.sampler, Sampler::Simhash | Sampler::Minhash);
        let only = "none, because only the samplers simhash and minhash have buckets";
        if let Some(bits) = self.bits.filter(|_| !buckets) {
            return Err(Error::config("bits", bits, only));
        }
        if let Some(labels) = self.per_bucket.filter(|_| !buckets) {
            return Err(Error::config("per_bucket", labels, only));
        }
        if self.within != Within::Random && !buckets {
            let expected = "random, because only the samplers simhash and minhash have buckets";
            return Err(Error::config("within", format!("{:?}", self.within).to_lowercase(), expected));
        }
        if self.within == Within::Medoid && self.sampler == Sampler::Minhash {
            let expected = "random, head or tail, because minhash compares sets, which have no middle";
            return Err(Error::config("within", "medoid", expected));
        }
        match (&self.features_file, self.features) {
            (None, HashFeatures::File) => {
                Err(Error::config("features", "file", "a file of label features with it (features_file)"))
            }
            (Some(path), features) if features != HashFeatures::File => {
                let expected = "the features `file`, as nothing else reads it";
                Err(Error::config("features_file", path.display(), expected))
            }
            _ => Ok(()),
        }
    }
}

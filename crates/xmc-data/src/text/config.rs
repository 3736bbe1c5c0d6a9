//! Which settings does a vectorizer have, and which values make sense?
//!
//! In TOML every key is optional; `preset` says what the others are when they are left out:
//!
//! ```toml
//! preset = "libpecos"     # split at spaces, keep case, libpecos's idf …
//! lowercase = true        # … but this one differently
//! ngram_range = [1, 2]
//! ```
//!
//! `sklearn` (the default) gives the numbers of scikit-learn's `TfidfVectorizer()`, `libpecos` those of
//! `pecos.utils.featurization.text.vectorizers.Tfidf`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stem::Stem;
use crate::error::{Error, Result};

/// Longest n-gram; longer ones are names of whole texts, not features.
const MAX_NGRAM: usize = 20;

/// Where the settings that are left out come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// scikit-learn's `TfidfVectorizer`, or `HashingVectorizer` with `kind = "hashing"`.
    #[default]
    Sklearn,
    /// libpecos's native `tfidf` vectorizer.
    Libpecos,
}

/// How a term becomes a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By a vocabulary learnt from the training texts.
    Tfidf,
    /// By a hash of the term: nothing to learn, nothing to store, no names.
    Hashing,
}

/// What a term is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnalyzerKind {
    /// Runs of words.
    Word,
    /// Runs of characters, across words.
    Char,
    /// Runs of characters within words, each word padded with a space on both sides.
    CharWb,
}

/// Where words begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenPattern {
    /// `word`: two or more letters, digits or underscores, `(?u)\b\w\w+\b`. `char`: runs of white space become
    /// one space. `char_wb`: words end at any white space.
    Sklearn,
    /// Words end at the ASCII space and only there; `char` takes the text as it is.
    Whitespace,
}

/// Which terms survive `max_features`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxFeaturesBy {
    /// Those that occur most often, repetitions within a text counted.
    Count,
    /// Those that occur in most texts; among equals the longer n-grams, then the last in byte order.
    Df,
}

/// Formula of the inverse document frequency of a term in `df` of `n` texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idf {
    /// `ln((n + s) / (df + s)) + a`.
    Sklearn,
    /// `max(ln(n / (df + s)), 0) + a`.
    Libpecos,
    /// 1: plain term frequencies.
    None,
}

/// Length that every row is scaled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Euclidean length 1.
    L2,
    /// Absolute values sum to 1.
    L1,
    /// Rows stay as they are.
    None,
}

/// A bound on document frequency: an integer counts texts, a number with a point is a share of the texts, not rounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DfLimit {
    /// Number of texts.
    Count(u64),
    /// Share of the texts, 0.0 to 1.0.
    Share(f64),
}

impl DfLimit {
    /// The bound in texts, out of `n`.
    pub fn of(self, n: usize) -> f64 {
        match self {
            DfLimit::Count(count) => count as f64,
            DfLimit::Share(share) => share * n as f64,
        }
    }
}

/// Settings of one vectorizer; see the [module](self) for presets. Defaults below are those of `sklearn`, those of
/// `libpecos` follow in brackets where they differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration file")]
pub struct VectorizerConfig {
    /// `sklearn` or `libpecos`: values of all keys that are left out. Default `sklearn`.
    pub preset: Preset,
    /// `tfidf` or `hashing`. Default `tfidf`.
    pub kind: Kind,
    /// `word`, `char` or `char_wb`. Default `word`.
    pub analyzer: AnalyzerKind,
    /// `sklearn` or `whitespace`: where words end. Default `sklearn` \[`whitespace`\].
    pub token_pattern: TokenPattern,
    /// Shortest and longest n-gram, in words or characters. Default `[1, 1]`.
    pub ngram_range: [usize; 2],
    /// Lower-case the text first. Default true \[false\].
    pub lowercase: bool,
    /// Replace characters by their compatibility decomposition without accents (NFKD). Default false.
    pub strip_accents: bool,
    /// Language whose Snowball stemmer every word goes through, or `none`. Only with `analyzer = "word"`. Default
    /// `none`.
    pub stem: Stem,
    /// Words to leave out, compared after lower-casing and before stemming. Only with `analyzer = "word"`. Default
    /// none.
    pub stop_words: Vec<String>,
    /// Look at the first so many words (`word`) or characters (`char`, `char_wb`) of a text; 0 looks at all.
    /// Default 0.
    pub truncate_length: usize,
    /// Leave out terms in fewer texts than this: a count, or with a point a share. Default 1.
    pub min_df: DfLimit,
    /// Leave out terms in more texts than this: a count, or with a point a share. Default 1.0.
    pub max_df: DfLimit,
    /// Keep at most so many terms; 0 keeps all. Default 0.
    pub max_features: usize,
    /// `count` or `df`: what decides which terms `max_features` keeps. Default `count` \[`df`\].
    pub max_features_by: MaxFeaturesBy,
    /// Term frequency `1 + ln(tf)` instead of `tf`. Default false.
    pub sublinear_tf: bool,
    /// Term frequency 1 for every term that occurs. Default false.
    pub binary: bool,
    /// `sklearn`, `libpecos` or `none`: formula of the inverse document frequency. Default `sklearn` \[`libpecos`\].
    pub idf: Idf,
    /// `s` of the formula: 1 or 0. Default true.
    pub smooth_idf: bool,
    /// `a` of the formula: 1 or 0. Default true \[false\].
    pub add_one_idf: bool,
    /// `l2`, `l1` or `none`: what every row is scaled to. Several vectorizers side by side are scaled to `l2` once
    /// more. Default `l2`.
    pub norm: Norm,
    /// Columns of `kind = "hashing"`. Default 1048576.
    pub n_features: u32,
    /// Let the hash choose the sign too, so that collisions cancel on average. Only for `kind = "hashing"`. Default
    /// true.
    pub alternate_sign: bool,
}

impl Default for VectorizerConfig {
    fn default() -> Self {
        VectorizerConfig {
            preset: Preset::Sklearn,
            kind: Kind::Tfidf,
            analyzer: AnalyzerKind::Word,
            token_pattern: TokenPattern::Sklearn,
            ngram_range: [1, 1],
            lowercase: true,
            strip_accents: false,
            stem: Stem::None,
            stop_words: Vec::new(),
            truncate_length: 0,
            min_df: DfLimit::Count(1),
            max_df: DfLimit::Share(1.0),
            max_features: 0,
            max_features_by: MaxFeaturesBy::Count,
            sublinear_tf: false,
            binary: false,
            idf: Idf::Sklearn,
            smooth_idf: true,
            add_one_idf: true,
            norm: Norm::L2,
            n_features: 1 << 20,
            alternate_sign: true,
        }
    }
}

impl VectorizerConfig {
    /// All settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        match preset {
            Preset::Sklearn => Self::default(),
            Preset::Libpecos => VectorizerConfig {
                preset,
                token_pattern: TokenPattern::Whitespace,
                lowercase: false,
                max_features_by: MaxFeaturesBy::Df,
                idf: Idf::Libpecos,
                add_one_idf: false,
                ..Self::default()
            },
        }
    }

    /// Says which setting is outside its range, or has no meaning beside another.
    pub fn check(&self) -> Result<()> {
        let [min, max] = self.ngram_range;
        if min < 1 || max < min || max > MAX_NGRAM {
            let expected = format!("[shortest, longest] with 1 <= shortest <= longest <= {MAX_NGRAM}");
            return Err(Error::config("ngram_range", format!("[{min}, {max}]"), expected));
        }
        for (key, limit) in [("min_df", self.min_df), ("max_df", self.max_df)] {
            if let DfLimit::Share(share) = limit
                && !(0.0..=1.0).contains(&share)
            {
                let expected = "a whole number of texts, or a share of them from 0.0 to 1.0";
                return Err(Error::config(key, share, expected));
            }
        }
        if let (DfLimit::Count(min), DfLimit::Count(max)) = (self.min_df, self.max_df)
            && min > max
        {
            return Err(Error::config("max_df", max, format!("at least `min_df` = {min}")));
        }
        if self.n_features < 1 || self.n_features > i32::MAX as u32 {
            return Err(Error::config("n_features", self.n_features, format!("1 to {}", i32::MAX)));
        }
        if self.analyzer != AnalyzerKind::Word && self.stem != Stem::None {
            return Err(Error::config("stem", self.stem.name(), "`none`, or `analyzer = \"word\"`"));
        }
        if self.analyzer != AnalyzerKind::Word && !self.stop_words.is_empty() {
            let value = format!("{} words", self.stop_words.len());
            return Err(Error::config("stop_words", value, "no words, or `analyzer = \"word\"`"));
        }
        self.check_hashing()
    }

    /// Hashing knows no vocabulary: settings that need one must be left alone.
    fn check_hashing(&self) -> Result<()> {
        if self.kind == Kind::Tfidf {
            return Ok(());
        }
        let usual = Self::preset(self.preset);
        let changed = [
            ("min_df", self.min_df != usual.min_df),
            ("max_df", self.max_df != usual.max_df),
            ("max_features", self.max_features != usual.max_features),
            ("sublinear_tf", self.sublinear_tf),
        ];
        match changed.iter().find(|(_, changed)| *changed) {
            Some((key, _)) => {
                Err(Error::config(key, "a value of its own", "the default: `kind = \"hashing\"` ignores it"))
            }
            None => Ok(()),
        }
    }
}

impl Serialize for VectorizerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for VectorizerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // The given keys are laid over those of the preset, then everything is read as one complete set.
        let given = serde_json::Map::deserialize(deserializer)?;
        let preset = match given.get("preset") {
            Some(name) => Preset::deserialize(name).map_err(D::Error::custom)?,
            None => Preset::Sklearn,
        };
        let mut all = serde_json::to_value(Self::preset(preset)).map_err(D::Error::custom)?;
        if let Some(all) = all.as_object_mut() {
            all.extend(given);
        }
        Self::deserialize(all).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> std::result::Result<VectorizerConfig, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_left_out_come_from_the_preset() {
        assert_eq!(read("{}").unwrap(), VectorizerConfig::default());
        let pecos = read(r#"{"preset": "libpecos", "lowercase": true}"#).unwrap();
        let expected = VectorizerConfig { lowercase: true, ..VectorizerConfig::preset(Preset::Libpecos) };
        assert_eq!(pecos, expected);
    }

    #[test]
    fn every_setting_survives_writing_and_reading() {
        let config = VectorizerConfig {
            stem: Stem::German,
            min_df: DfLimit::Share(1.0),
            max_df: DfLimit::Count(1),
            stop_words: vec!["und".to_owned()],
            ..VectorizerConfig::preset(Preset::Libpecos)
        };
        assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn unknown_keys_and_values_are_refused_with_what_is_known() {
        let message = read(r#"{"ngrams": [1, 2]}"#).unwrap_err();
        assert!(message.contains("`ngrams`") && message.contains("ngram_range"), "{message}");
        let message = read(r#"{"preset": "bm25"}"#).unwrap_err();
        assert!(message.contains("bm25") && message.contains("libpecos"), "{message}");
        let message = read(r#"{"stem": "klingon"}"#).unwrap_err();
        assert!(message.contains("klingon") && message.contains("german"), "{message}");
    }

    #[test]
    fn values_outside_their_range_are_named() {
        let refused = |json: &str| read(json).unwrap().check().unwrap_err().to_string();
        assert!(refused(r#"{"ngram_range": [0, 1]}"#).starts_with("`ngram_range` = [0, 1]"));
        assert!(refused(r#"{"ngram_range": [3, 2]}"#).contains("shortest <= longest"));
        assert!(refused(r#"{"min_df": 1.5}"#).starts_with("`min_df` = 1.5"));
        assert!(refused(r#"{"max_df": -0.5}"#).starts_with("`max_df` = -0.5"));
        assert!(refused(r#"{"min_df": 5, "max_df": 2}"#).contains("at least `min_df` = 5"));
        assert!(refused(r#"{"n_features": 0}"#).contains("1 to 2147483647"));
        assert!(refused(r#"{"analyzer": "char", "stem": "german"}"#).contains("analyzer"));
        assert!(refused(r#"{"analyzer": "char_wb", "stop_words": ["a"]}"#).contains("1 words"));
        assert!(refused(r#"{"kind": "hashing", "min_df": 2}"#).contains("hashing"));
    }

    #[test]
    fn a_whole_number_counts_texts_and_a_point_makes_a_share() {
        let config = read(r#"{"min_df": 2, "max_df": 0.5}"#).unwrap();
        assert_eq!((config.min_df.of(10), config.max_df.of(10)), (2.0, 5.0));
    }
}

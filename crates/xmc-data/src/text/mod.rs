//! How does a text become a sparse row? Words or characters, n-grams, tf-idf or hashing.
//!
//! `value(t, text) = tf(t, text) * idf(t)`, then every row is scaled to length 1; the formulas and every setting stand in
//! [`VectorizerConfig`]. With the defaults the numbers are those of scikit-learn's `TfidfVectorizer`, with
//! `preset = "libpecos"` those of libpecos's `Tfidf` (Yu et al. 2022, PECOS, section 3). Several vectorizers may stand
//! side by side: each is scaled on its own, their columns follow one another, and whole rows are scaled once more.
//!
//! Columns are numbered by falling document frequency, equal ones by rising bytes. Cost is O(characters * n-gram lengths)
//! per text, in one pass for learning and transforming together. Learning gives the same bits at any number of threads.
//!
//! ```
//! use xmc_data::{Strings, text::{Scratch, Vectorizer, VectorizerConfig}};
//! let texts = Strings::new(["sea and sea", "sea and mountain"]);
//! let (vectorizer, x) = Vectorizer::fit(&[VectorizerConfig::default()], &texts).unwrap();
//! assert_eq!(vectorizer.feature_name(2).unwrap(), "mountain");
//! // "and" and "sea" are in both texts, idf = ln(3/3) + 1 = 1; tf is 1 and 2; the length is sqrt(1 + 4).
//! assert_eq!(x.row(0).values, [0.4472136, 0.8944272]);
//! let mut scratch = Scratch::default();
//! assert_eq!(vectorizer.transform_one("SEA, and sea!", &mut scratch), x.row(0));
//! ```

mod analyze;
mod config;
mod count;
mod hashing;
mod intern;
mod rows;
mod select;
mod stem;
mod store;
mod unicode;
mod vectorizer;
mod vocabulary;
mod weigh;

pub use config::{
    AnalyzerKind, DfLimit, Idf, Kind, MaxFeaturesBy, Norm, Preset, TokenPattern, VectorizerConfig,
};
pub use stem::Stem;
pub use vectorizer::{Scratch, Vectorizer};

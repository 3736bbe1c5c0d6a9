//! Text features equal those of scikit-learn, libpecos and the Snowball stemmers (`scripts/golden/{tfidf,stems}.py`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use serde::Deserialize;
use xmc_data::text::{Kind, Scratch, Vectorizer, VectorizerConfig};
use xmc_data::{Row, Strings};

type Features = BTreeMap<String, f64>;

#[derive(Deserialize)]
struct Golden {
    train: Vec<String>,
    test: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: VectorizerConfig,
    train: Vec<Features>,
    test: Vec<Features>,
}

fn named(vectorizer: &Vectorizer, hashed: bool, row: Row) -> Features {
    let name = |column: u32| {
        if hashed { column.to_string() } else { vectorizer.feature_name(column).unwrap() }
    };
    row.iter().map(|(column, value)| (name(column), f64::from(value))).collect()
}

fn assert_same(case: &str, row: usize, ours: &Features, theirs: &Features) {
    let (a, b): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
    assert_eq!(a, b, "{case}, row {row}: terms");
    for (term, value) in theirs {
        let difference = (ours[term] - value).abs();
        assert!(
            difference < 1e-6 * value.abs().max(1.0),
            "{case}, row {row}, {term:?}: {} {value}",
            ours[term]
        );
    }
}

fn check_all(golden: &str) {
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let (train, test) = (Strings::new(&golden.train), Strings::new(&golden.test));
    for case in golden.cases {
        let hashed = case.config.kind == Kind::Hashing;
        let (vectorizer, x) = Vectorizer::fit(&[case.config], &train).unwrap();
        for (i, (ours, theirs)) in x.iter().zip(&case.train).enumerate() {
            assert_same(&case.name, i, &named(&vectorizer, hashed, ours), theirs);
        }
        let mut scratch = Scratch::default();
        for (i, (text, theirs)) in test.iter().zip(&case.test).enumerate() {
            let ours = vectorizer.transform_one(text, &mut scratch);
            assert_same(&format!("{} (test)", case.name), i, &named(&vectorizer, hashed, ours), theirs);
        }
        assert_eq!((x.rows(), case.train.len()), (train.len(), train.len()));
    }
}

#[test]
fn features_equal_those_of_scikit_learn() {
    check_all(include_str!("golden/text/sklearn.json"));
}

#[test]
fn features_equal_those_of_libpecos() {
    check_all(include_str!("golden/text/libpecos.json"));
}

#[test]
fn stems_equal_those_of_the_snowball_project() {
    let golden: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(include_str!("golden/text/stems.json")).unwrap();
    assert_eq!(golden.len(), 18);
    for (language, stems) in golden {
        // Words end at spaces only, so that words with combining marks stay whole.
        let config =
            format!(r#"{{"stem": "{language}", "token_pattern": "whitespace", "lowercase": false}}"#);
        let config: VectorizerConfig = serde_json::from_str(&config).unwrap();
        let (vectorizer, x) = Vectorizer::fit(&[config], &Strings::new(stems.keys())).unwrap();
        for (row, (word, stem)) in x.iter().zip(&stems) {
            let ours = vectorizer.feature_name(row.indices[0]).unwrap();
            assert_eq!(&ours, stem, "{language}: {word}");
        }
    }
}

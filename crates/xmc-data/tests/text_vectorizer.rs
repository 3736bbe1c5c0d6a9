//! A vectorizer gives one answer: at learning, for all texts at once, one at a time, from a file, with any threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use proptest::collection::vec;
use proptest::prelude::*;
use xmc_data::text::{Scratch, Vectorizer, VectorizerConfig};
use xmc_data::{Csr, Strings};

const CONFIGS: [&str; 6] = [
    "{}",
    r#"{"ngram_range": [1, 3], "max_features": 7, "sublinear_tf": true}"#,
    r#"{"analyzer": "char_wb", "ngram_range": [2, 4], "strip_accents": true}"#,
    r#"{"analyzer": "char", "ngram_range": [1, 9], "norm": "l1", "binary": true}"#,
    r#"{"preset": "libpecos", "ngram_range": [1, 2], "stem": "german", "max_features": 5}"#,
    r#"{"kind": "hashing", "n_features": 11}"#,
];

fn configs(which: &[usize]) -> Vec<VectorizerConfig> {
    which.iter().map(|&i| serde_json::from_str(CONFIGS[i]).unwrap()).collect()
}

fn bits(x: &Csr) -> (Vec<u64>, Vec<u32>, Vec<u32>) {
    let values = x.values().iter().map(|v| v.to_bits()).collect();
    (x.indptr().to_vec(), x.indices().to_vec(), values)
}

fn saved(vectorizer: &Vectorizer) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vectorizer.bin");
    vectorizer.save(&path).unwrap();
    (dir, path)
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn learning_transforming_one_row_and_a_reopened_file_give_the_same_bits(
        texts in vec("(aa|bb|Bäume|sea|Σ|é| |\\t|,){0,14}", 1..12),
        which in vec(0usize..CONFIGS.len(), 1..4),
    ) {
        // A text with a term for every analyzer, so that no vocabulary is empty.
        let texts = Strings::new(texts.iter().map(String::as_str).chain(["whale shark"]));
        let (vectorizer, x) = Vectorizer::fit(&configs(&which), &texts).unwrap();
        prop_assert_eq!(x.cols(), vectorizer.num_features());
        prop_assert_eq!(bits(&vectorizer.transform(&texts)), bits(&x));
        let (_dir, path) = saved(&vectorizer);
        let opened = Vectorizer::open(&path).unwrap();
        prop_assert_eq!(bits(&opened.transform(&texts)), bits(&x));
        let mut scratch = Scratch::default();
        for (i, text) in texts.iter().enumerate() {
            prop_assert_eq!(opened.transform_one(text, &mut scratch), x.row(i));
        }
        for id in 0..x.cols() as u32 {
            prop_assert_eq!(opened.feature_name(id), vectorizer.feature_name(id));
        }
        let lengths = x.iter().map(|row| row.norm()).filter(|&norm| norm != 0.0);
        let euclidean = which.len() > 1 || which[0] != 3;
        prop_assert!(!euclidean || lengths.into_iter().all(|norm| (norm - 1.0).abs() < 1e-6));
    }

    #[test]
    fn any_damaged_byte_is_found_at_opening(at in 0usize..10_000, flip in 1u8..) {
        let texts = Strings::new(["sea and mountain", "the sea and the wide rivers"]);
        let (vectorizer, _) = Vectorizer::fit(&configs(&[1, 2]), &texts).unwrap();
        let (_dir, path) = saved(&vectorizer);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        std::fs::write(&path, &bytes).unwrap();
        // The length of the settings stands before what the checksum covers, but nothing fits if it is wrong.
        prop_assert!(Vectorizer::open(&path).is_err(), "byte {at}");
    }
}

#[test]
fn ten_thousand_texts_give_the_same_bits_at_one_two_and_four_threads() {
    // More rows than a chunk holds, with terms that first occur in different chunks.
    let texts = Strings::new((0..10_000u32).map(|i| {
        let word = |shift: u32| format!("w{}", i.wrapping_mul(2_654_435_761) >> shift);
        format!("{} {} {} common", word(18), word(22), word(27))
    }));
    for which in [&[0][..], &[1, 2, 5]] {
        let fit = |threads| on_threads(threads, || Vectorizer::fit(&configs(which), &texts).unwrap());
        let (one, x) = fit(1);
        let (_dir, path) = saved(&one);
        for threads in [2, 4] {
            let (more, y) = fit(threads);
            assert_eq!(bits(&y), bits(&x), "{threads} threads");
            assert_eq!(bits(&on_threads(threads, || more.transform(&texts))), bits(&x));
            let (_other_dir, other) = saved(&more);
            assert!(
                std::fs::read(&path).unwrap() == std::fs::read(other).unwrap(),
                "file of {threads} threads"
            );
        }
    }
}

#[test]
fn columns_run_from_frequent_to_rare_and_equal_ones_by_bytes() {
    let texts = Strings::new(["sea bay cliff", "sea bay", "sea dune alp"]);
    let (vectorizer, _) = Vectorizer::fit(&configs(&[0]), &texts).unwrap();
    let names: Vec<_> = (0..5).map(|id| vectorizer.feature_name(id).unwrap()).collect();
    assert_eq!(names, ["sea", "bay", "alp", "cliff", "dune"]);
    assert_eq!(vectorizer.feature_name(5), None);
}

#[test]
fn vectorizers_side_by_side_are_scaled_alone_and_then_together() {
    let texts = Strings::new(["sea sea bay"]);
    let (vectorizer, x) = Vectorizer::fit(&configs(&[0, 0]), &texts).unwrap();
    assert_eq!(vectorizer.num_features(), 4);
    let half = |v: f64| (v / 10f64.sqrt()) as f32;
    for (ours, expected) in x.row(0).values.iter().zip([half(1.0), half(2.0), half(1.0), half(2.0)]) {
        assert!((ours - expected).abs() < 1e-7);
    }
}

#[test]
fn texts_without_a_term_are_refused_with_the_limits_to_change() {
    let refused =
        |configs: &[VectorizerConfig], texts: &[&str]| match Vectorizer::fit(configs, &Strings::new(texts)) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted"),
        };
    assert!(refused(&configs(&[0]), &["", "a"]).contains("0 of 0 terms in 2 texts"));
    let rare = VectorizerConfig { min_df: xmc_data::text::DfLimit::Count(3), ..VectorizerConfig::default() };
    assert!(refused(&[rare], &["sea bay", "sea"]).contains("0 of 2 terms"));
    assert!(refused(&[], &["sea"]).contains("one or more vectorizers"));
}

#[test]
fn foreign_truncated_and_newer_files_are_named() {
    let (vectorizer, _) = Vectorizer::fit(&configs(&[0]), &Strings::new(["sea bay"])).unwrap();
    let (_dir, path) = saved(&vectorizer);
    let good = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        match Vectorizer::open(&path) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted"),
        }
    };
    assert!(refused(b"PK\x03\x04 a zip file, longer than the header").contains("not a vectorizer"));
    for len in 0..good.len() {
        assert!(refused(&good[..len]).contains("vectorizer.bin"));
    }
    let mut newer = good.clone();
    newer[8] = 9;
    assert!(refused(&newer).contains("version 9"));
}

//! Models of every format that was ever released still open and answer as they did.
//!
//! `scripts/golden/compat_model` made the folders.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use xmc::model::{Model, OpenOptions, PredictOptions, Predictor};
use xmc_data::{LabelId, Strings};
use xmc_nn::Precision;

/// Scores may differ in the last digits where a processor computes exponentials and sums differently.
const TOLERANCE: f32 = 1e-5;

#[test]
fn format_1_opens_and_answers_as_it_did() {
    still_answers("v1");
}

#[test]
fn models_with_an_encoder_of_format_1_open_and_answer_as_they_did() {
    still_answers("v1-xr-transformer");
    still_answers("v1-dexml");
    still_answers("v1-elias");
}

#[test]
fn models_with_a_decoder_of_format_1_open_and_answer_as_they_did() {
    still_answers("v1-quest");
}

fn still_answers(version: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(version);
    let exactly = OpenOptions { precision: Precision::F32, ..OpenOptions::default() };
    let model = Model::open_with(&dir.join("model"), &exactly).unwrap();
    let texts = fs::read_to_string(dir.join("texts.txt")).unwrap();
    let found = model.predict(&Strings::new(texts.lines()), &PredictOptions::top(3)).unwrap();
    let answers = fs::read_to_string(dir.join("answers.tsv")).unwrap();
    let mut expected = answers.lines();
    for row in 0..found.rows() {
        for &(id, score) in found.row(row) {
            let cells: Vec<&str> = expected.next().unwrap().split('\t').collect();
            assert_eq!((cells[0], cells[1]), (row.to_string().as_str(), id.to_string().as_str()));
            assert!((cells[2].parse::<f32>().unwrap() - score).abs() < TOLERANCE, "{cells:?}: {score}");
            assert_eq!(model.labels().get(LabelId(id)), Some(cells[3]));
        }
    }
    assert_eq!(expected.next(), None);
}

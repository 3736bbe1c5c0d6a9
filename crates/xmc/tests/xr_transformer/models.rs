//! What a trained model answers, and where it comes from.

use std::fs;

use xmc::data::CsrBuilder;
use xmc::events::Silent;
use xmc::model::{Model, PredictOptions, Predictor};

use crate::toy::{LABELS, ROWS};
use crate::world::{World, options};

/// P@1 of a model that says the same of all rows is 100 times the share of rows that have the most frequent label.
const CHANCE: f64 = 100.0 * 16.0 / ROWS as f64;

#[test]
fn an_encoder_that_does_not_learn_makes_a_model() {
    let world = World::new();
    let precision = world.precision("model", &["do_fine_tune=false"]);
    assert!(precision > 90.0, "{precision} against {CHANCE}");
    // The encoder alone says something about the texts, too.
    let precision = world.precision("alone", &["do_fine_tune=false", "vectorizer=[]"]);
    assert!(precision > 2.0 * CHANCE, "{precision} against {CHANCE}");
    let names: Vec<String> = world.files("model").into_keys().collect();
    let expected = [
        "encoder/1_Pooling/config.json",
        "encoder/config.json",
        "encoder/model.safetensors",
        "encoder/tokenizer.json",
        "encoder/tower.json",
        "labels",
        "ranker.0",
        "vectorizer",
    ];
    assert_eq!(names, expected);
    assert!(!world.files("alone").contains_key("vectorizer"));
}

#[test]
fn single_texts_are_answered_as_many_are() {
    let world = World::new();
    for (name, sets) in [("one", &["do_fine_tune=false"][..]), ("two", &["do_fine_tune=false", "trees=2"])] {
        world.train(name, sets, &options(), &Silent).unwrap();
        let model = Model::open(&world.out(name)).unwrap();
        let texts = world.data.train.texts.as_ref().unwrap();
        for exact in [false, true] {
            let asked = PredictOptions { exact, ..PredictOptions::top(5) };
            let found = model.predict(texts, &asked).unwrap();
            let mut session = model.session(asked);
            for i in 0..texts.len() {
                assert_eq!(session.text(texts.get(i)).unwrap(), found.row(i), "{name} {i}");
            }
        }
        let mut x = CsrBuilder::new();
        x.push([(0, 1.0)]);
        let message =
            model.predict_features(&x.finish(LABELS).unwrap(), &PredictOptions::top(1)).unwrap_err();
        assert!(message.to_string().contains("reads texts, not features"), "{message}");
    }
}

#[test]
fn a_model_embeds_as_its_rankers_were_told() {
    let world = World::new();
    world.train("model", &["do_fine_tune=false", "pooling=cls"], &options(), &Silent).unwrap();
    let encoder = Model::open(&world.out("model")).unwrap().into_encoder().unwrap();
    let e = encoder.embed_one("a3 b15").unwrap();
    let length: f32 = e.host().iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5 && encoder.max_len() == 16);
    assert_eq!(encoder.tower().config().pooling, xmc::nn::Pooling::Cls);
    // A model is where another one may begin: with its pooling.
    let begin = format!("encoder={}", world.out("model").display());
    world.train("next", &["do_fine_tune=false", &begin], &options(), &Silent).unwrap();
    let (a, b) = (world.files("model"), world.files("next"));
    assert!(a == b);
}

#[test]
fn parts_of_two_models_are_not_mixed() {
    let world = World::new();
    world.train("words", &["do_fine_tune=false"], &options(), &Silent).unwrap();
    let path = world.out("words").join("ranker.0");
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(good.len() / 50) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&path, &bad).unwrap();
        let message = Model::open(&world.out("words")).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("ranker.0"), "{message}");
    }
    fs::remove_file(&path).unwrap();
    assert!(Model::open(&world.out("words")).is_err());
}

#[test]
fn what_cannot_be_trained_is_refused_with_a_reason() {
    let world = World::new();
    let message = |sets: &[&str]| world.train("model", sets, &options(), &Silent).unwrap_err().to_string();
    for (sets, expected) in [
        (&["vectorizer=[]"][..], "vectorizer = [] leaves no features to grow one from"),
        (&["do_fine_tune=false", "files.tree=t.npz"], "do_fine_tune or fix_clustering, as nothing else"),
        (&["label_features.kind=mix"], "pifa+text in place of mix"),
        (
            &["vectorizer=[]", "do_fine_tune=false", "label_features.kind=text"],
            "makes no features of label names",
        ),
        (&["encoder=/nowhere"], "/nowhere: no such folder; expected a folder with config.json"),
    ] {
        assert!(message(sets).contains(expected), "{}", message(sets));
    }
}

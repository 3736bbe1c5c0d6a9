//! What a trained model answers, and where it comes from.

use std::fs;

use xmc::config;
use xmc::data::CsrBuilder;
use xmc::data::formats::npz;
use xmc::encoder::stored_pooling;
use xmc::events::Silent;
use xmc::methods::TrainOptions;
use xmc::methods::dexml::{self, DexmlConfig};
use xmc::model::{Model, PredictOptions, Predictor};

use crate::toy::{LABELS, Messages, ROWS};
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
        "encoder/modules.json",
        "encoder/sentence_bert_config.json",
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
    assert_eq!(encoder.tower().unwrap().config().pooling, xmc::nn::Pooling::Cls);
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

#[test]
fn learning_is_better_than_chance_and_writes_what_answers() {
    let world = World::new();
    let messages = Messages::default();
    let summary = world.train("model", &[], &options(), &messages).unwrap();
    let precision = summary.metrics.unwrap().values.get("P@1").unwrap();
    assert!(precision > 90.0, "{precision} against {CHANCE}");
    assert!(messages.contain("160 rows, 24 labels") && messages.contain("train the encoder"));
    assert!(messages.contain("of memory"));
    let names: Vec<String> = summary.stages.iter().map(|stage| stage.name.clone()).collect();
    assert_eq!(names[..3], ["vectorizer", "preliminary", "tokens"]);
    assert_eq!(names[names.len() - 3..], ["embedding", "tree.0", "ranker.0"]);
    assert!(names.contains(&"level.1".to_owned()), "{names:?}");
}

#[test]
fn the_encoder_alone_is_published_and_replaces_only_its_like() {
    let world = World::new();
    let sets = ["only_encoder=true", "training.epochs=1", "pooling=pooler"];
    let summary = world.train("encoder-alone", &sets, &options(), &Silent).unwrap();
    assert!(summary.alone == Some("encoder") && summary.metrics.is_none() && summary.model_bytes > 0);
    let out = world.out("encoder-alone");
    assert!(!Model::is_at(&out) && out.join("config.json").is_file() && out.join("tokenizer.json").is_file());
    assert_eq!(stored_pooling(&out).unwrap(), Some(xmc::nn::Pooling::Pooler));
    let first = world.files("encoder-alone");
    world.train("encoder-alone", &sets, &TrainOptions { seed: 4, ..options() }, &Silent).unwrap();
    assert!(world.files("encoder-alone") != first);
    fs::write(out.join("thesis"), "1").unwrap();
    let message = world.train("encoder-alone", &sets, &options(), &Silent).unwrap_err().to_string();
    assert!(message.contains("holds `thesis`"), "{message}");
    // Others begin with it.
    let begin = format!("encoder={}", out.display());
    world.train("next", &["do_fine_tune=false", &begin], &options(), &Silent).unwrap();
    let encoder = Model::open(&world.out("next")).unwrap().into_encoder().unwrap();
    assert_eq!(encoder.tower().unwrap().config().pooling, xmc::nn::Pooling::Pooler);
}

#[test]
fn a_tree_that_is_kept_and_one_that_is_brought() {
    let world = World::new();
    let sets = ["fix_clustering=true", "training.epochs=1"];
    world.train("kept", &sets, &options(), &Silent).unwrap();
    let kept = Model::open(&world.out("kept")).unwrap();
    let tree = kept.trees().unwrap().trees()[0].tree().clone();
    assert!(tree.depth() > 1);
    // The lowest level of that tree as a matrix [L, groups], for a training that has no features to grow one.
    let mut groups = CsrBuilder::new();
    let t = tree.depth() - 1;
    let parents = tree.parents(tree.depth());
    for label in 0..LABELS as u32 {
        let at = tree.labels().iter().position(|&l| l == label).unwrap();
        groups.push([(parents[at], 1.0)]);
    }
    let path = world.out("groups.npz");
    npz::write(&path, &groups.finish(tree.width(t)).unwrap()).unwrap();
    let file = format!("files.tree={}", path.display());
    let sets = ["vectorizer=[]", &file, "fix_clustering=true", "training.epochs=12"];
    let precision = world.precision("brought", &sets);
    assert!(precision > 2.0 * CHANCE, "{precision} against {CHANCE}");
    let brought = Model::open(&world.out("brought")).unwrap();
    let linear = brought.trees().unwrap();
    assert_eq!(linear.trees()[0].tree(), &tree);
    assert_eq!((linear.num_features(), linear.num_dense()), (0, 32));
}

#[test]
fn an_encoder_of_dexml_begins_with_its_pooling_and_projection() {
    let world = World::new();
    let encoder = format!("encoder={}", world.encoder.display());
    let sets = [&encoder, "epochs=1", "max_len=16", "pooling=cls", "projection=8"].map(str::to_owned);
    let config = config::load::<DexmlConfig>(None, &sets).unwrap();
    dexml::train(&world.data, &config, &TrainOptions::new(world.out("dual")), &Silent).unwrap();
    let begin = format!("encoder={}", world.out("dual").display());
    for (name, tunes) in [("tuned", "do_fine_tune=true"), ("as-it-is", "do_fine_tune=false")] {
        world.train(name, &[tunes, &begin, "training.epochs=1"], &options(), &Silent).unwrap();
        let encoder = Model::open(&world.out(name)).unwrap().into_encoder().unwrap();
        let tower = encoder.tower().unwrap().config();
        assert_eq!((tower.pooling, tower.projection), (xmc::nn::Pooling::Cls, Some(8)));
    }
    let tensors = |name: &str| world.files(name)["encoder/model.safetensors"].clone();
    assert!(tensors("dual") == tensors("as-it-is") && tensors("dual") != tensors("tuned"));
}

#[test]
fn what_does_not_fit_into_memory_is_refused_with_the_biggest_part() {
    let world = World::new();
    let message = |sets: &[&str], memory: u64| {
        let options = TrainOptions { max_memory: Some(memory), ..options() };
        world.train("model", sets, &options, &Silent).unwrap_err().to_string()
    };
    let huge = ["training.batch_size=100000000", "training.tokens_per_batch=1000000000"];
    let said = message(&huge, 1 << 30);
    assert!(
        said.contains("the activations of a step") && said.contains("training.tokens_per_batch"),
        "{said}"
    );
    assert!(message(&[], 1 << 20).contains("the program itself"));
    let enough = TrainOptions { max_memory: Some(1 << 30), ..options() };
    world.train("model", &["training.epochs=1"], &enough, &Silent).unwrap();
}

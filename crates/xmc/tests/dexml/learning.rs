//! Every loss and every kind of negatives learns.

use std::fs;

use serde_json::Value;
use xmc::events::Silent;
use xmc::model::{Model, PredictOptions, Predictor};

use crate::toy::{LABELS, Messages};
use crate::world::World;

/// P@1 on the rows that were learned, in percent.
fn precision(world: &World, name: &str, sets: &[&str]) -> f64 {
    let summary = world.train(name, sets, false, &Silent).unwrap();
    summary.metrics.unwrap().values.get("P@1").unwrap()
}

#[test]
fn every_criterion_learns_what_words_mean() {
    let world = World::new();
    for (criterion, sets) in [
        ("decoupled-softmax", &["tau=0.05"][..]),
        ("softmax", &["tau=0.05"]),
        ("soft-topk", &["topk=2", "tau=0.05"]),
        ("soft-topk", &["topk=positives", "tau=0.05"]),
        ("decoupled-softmax", &["positives=sample"]),
        ("soft-topk", &["positives=sample", "topk=1"]),
        ("decoupled-softmax", &["value=weight", "schedule=cosine", "clip=0", "swa=2", "projection=16"]),
        ("decoupled-softmax", &["head=classifier", "head_lr=0.03"]),
        ("bce", &["head=classifier", "head_lr=0.1", "tau=1", "normalize=false"]),
    ] {
        let criterion = format!("criterion={criterion}");
        let sets = [&["negatives=all", criterion.as_str()], sets].concat();
        let found = precision(&world, "model", &sets);
        assert!(found > 90.0, "{sets:?}: {found}");
    }
}

#[test]
fn every_kind_of_negatives_learns_what_words_mean() {
    let world = World::new();
    for sets in [
        &["negatives=in-batch"][..],
        &["negatives=pool:8"],
        &["negatives=pool:8", "pool_by=frequency", "logq=true"],
        &["negatives=hard", "mine_after=1", "mine_top=10", "num_negatives=2"],
        &["negatives=hard", "positives=sample", "mine_after=3"],
        &["negatives=pool:8", "head=classifier", "head_lr=0.03"],
        &["negatives=pool:8", "criterion=soft-topk", "topk=2"],
    ] {
        let found = precision(&world, "model", sets);
        assert!(found > 90.0, "{sets:?}: {found}");
    }
}

#[test]
fn the_loss_falls_and_is_written_down() {
    let world = World::new();
    world.train("model", &["negatives=all", "validation=0.2", "epochs=6"], false, &Silent).unwrap();
    let text = fs::read_to_string(world.out("model").join("curves.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<f64> = records.iter().filter_map(|r| r["loss"].as_f64()).collect();
    assert_eq!(losses.len(), 6 * 4);
    assert!(losses[losses.len() - 1] < 0.5 * losses[0], "{losses:?}");
    let metrics: Vec<f64> = records.iter().filter_map(|r| r["validation"]["nDCG@5"].as_f64()).collect();
    assert_eq!(metrics.len(), 7);
    assert!(metrics[6] > metrics[0] + 20.0, "{metrics:?}");
}

#[test]
fn a_model_answers_with_the_names_of_labels() {
    let world = World::new();
    world.train("model", &["negatives=all"], false, &Silent).unwrap();
    let model = Model::open(&world.out("model")).unwrap();
    let texts = world.data.train.texts.as_ref().unwrap();
    let found = model.predict(texts, &PredictOptions::top(LABELS)).unwrap();
    assert_eq!((found.rows(), found.row(0).len()), (texts.len(), LABELS));
    let best = found.labels(3).next().unwrap().0;
    assert!(world.data.train.y.row(3).indices.contains(&best.0), "{best:?}");
    assert!(model.labels().get(best).unwrap().starts_with('c'));
}

#[test]
fn training_stops_when_there_is_no_progress_and_keeps_the_best() {
    let world = World::new();
    // A rate that destroys what the beginning knows.
    let sets = ["negatives=all", "validation=0.2", "epochs=9", "patience=2", "lr=3", "warmup=0"];
    world.train("model", &sets, false, &Silent).unwrap();
    let text = fs::read_to_string(world.out("model").join("curves.jsonl")).unwrap();
    let validations = text.lines().filter(|line| line.contains("validation")).count();
    assert!(validations < 10, "{validations}");
}

#[test]
fn what_a_user_should_know_is_said() {
    let world = World::new();
    for (sets, expected) in [
        (&["validation=0.2", "epochs=4", "swa=2"][..], "average of the last 2 epochs: nDCG@5"),
        (
            &["validation=0.2", "epochs=9", "swa=2", "patience=2", "lr=3", "warmup=0"],
            "training ended early, so 0 of the last 2 epochs were averaged",
        ),
        (&["validation=0.001", "epochs=1"], "the parameters of the last epoch are kept"),
    ] {
        let messages = Messages::default();
        world.train("model", sets, false, &messages).unwrap();
        assert!(messages.contain(expected), "{sets:?}");
    }
}

#[test]
fn a_pool_of_no_more_than_k_labels_teaches_nothing_and_stops_nothing() {
    let world = World::new();
    // The last batch is one row, with two positives of which k are drawn.
    for topk in ["topk=1", "topk=2", "topk=9"] {
        let sets = ["criterion=soft-topk", "negatives=in-batch", "batch_size=159", "epochs=2", topk];
        let messages = Messages::default();
        world.train("model", &sets, false, &messages).unwrap();
        assert!(messages.contain("step 1: 1 of 1 rows have no more labels"), "{topk}");
    }
}

#[test]
fn weights_in_several_files_are_read() {
    let world = World::new();
    let dir = &world.encoder;
    fs::rename(dir.join("model.safetensors"), dir.join("part-1.safetensors")).unwrap();
    let index = dir.join("model.safetensors.index.json");
    fs::write(&index, r#"{ "weight_map": { "any": "part-1.safetensors" } }"#).unwrap();
    world.train("model", &["negatives=all", "epochs=1"], false, &Silent).unwrap();
    fs::remove_file(&index).unwrap();
    fs::rename(dir.join("part-1.safetensors"), dir.join("pytorch_model.bin")).unwrap();
    let message = world.train("other", &[], false, &Silent).unwrap_err().to_string();
    assert!(message.contains("pytorch_model.bin"), "{message}");
}

#[test]
fn an_encoder_that_does_not_fit_is_named() {
    let world = World::new();
    let message = || world.train("model", &[], false, &Silent).unwrap_err().to_string();
    let path = world.encoder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    vocab.insert("more".to_owned(), vocab.len().into());
    fs::write(&path, tokenizer.to_string()).unwrap();
    assert!(message().contains("files of two encoders are mixed"), "{}", message());
    fs::remove_file(world.encoder.join("config.json")).unwrap();
    assert!(message().contains("no config.json in it; expected a folder with"), "{}", message());
}

#[test]
fn what_cannot_be_trained_is_refused_with_a_reason() {
    let world = World::new();
    let message = |sets: &[&str]| world.train("model", sets, false, &Silent).unwrap_err().to_string();
    assert!(message(&["criterion=soft-topk", "topk=24"]).contains("fewer than the 24 labels"));
    assert!(message(&["lr=1e30", "clip=0", "warmup=0", "normalize=false"]).contains("set a lower lr"));
}

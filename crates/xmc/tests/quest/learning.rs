//! Every way to train learns something, and says what it does.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xmc::Model;
use xmc::data::dataset::{Dataset, Part};
use xmc::data::{CsrBuilder, LabelSet, Strings};
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::events::Silent;

use crate::toy::{LABELS, Messages};
use crate::world::World;

/// Losses of all steps, as the curves have them.
fn losses(world: &World, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(world.out(name).join("curves.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter_map(|record| record["loss"].as_f64()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn adapters_learn_what_words_mean() {
    let world = World::new();
    let sets = ["lora_rank=8", "epochs=20", "pooling=mean", "lr=0.01"];
    let summary = world.train("model", &sets, false, &Silent).unwrap();
    let found = summary.metrics.unwrap().values.get("P@1").unwrap();
    assert!(found > 80.0, "{found}");
    let losses = losses(&world, "model");
    assert!(mean(&losses[losses.len() - 10..]) < 0.7 * mean(&losses[..10]), "{losses:?}");
}

#[test]
fn every_way_to_train_lowers_the_loss() {
    let world = World::new();
    for sets in [
        &["pooling=last"][..],
        &["pooling=eos", "prompt_init=mean-noise"],
        &["pooling=mean", "symmetric=true", "schedule=cosine"],
        &["pooling=pad-last", "mask_known_positives=false", "schedule_by=epoch", "warmup=0", "clip=0"],
        &["pooling=mean", "prompt_init=text", "prompt_text=a1 b2", "text_template=a3 {text} a4"],
        &["pooling=mean", "quantization=q8_0"],
        &["pooling=mean", "quantization=nf4-double"],
        &["pooling=mean", "lora_rank=2", "lora_dropout=0.1", "tape_tokens=0", "tokens_per_batch=100"],
    ] {
        let sets = [&["epochs=8"], sets].concat();
        world.train("model", &sets, false, &Silent).unwrap();
        let losses = losses(&world, "model");
        let (first, last) = (mean(&losses[..10]), mean(&losses[losses.len() - 10..]));
        assert!(last < 0.99 * first, "{sets:?}: {first} {last}");
    }
}

#[test]
fn further_negatives_make_a_step_harder() {
    let world = World::new();
    let of = |name: &str, sets: &[&str]| {
        world
            .train(name, &[&["epochs=2", "batch_size=8", "lr=0.000001"], sets].concat(), false, &Silent)
            .unwrap();
        let losses = losses(&world, name);
        let half = losses.len() / 2;
        (mean(&losses[..half]), mean(&losses[half..]))
    };
    let plain = of("plain", &[]);
    let drawn = of("drawn", &["negatives=12"]);
    assert!(drawn.0 > plain.0 + 0.1 && drawn.1 > plain.1 + 0.1, "{plain:?} {drawn:?}");
    // Searched at the end of the first epoch.
    let hard = of("hard", &["hard_negatives=3"]);
    assert!((hard.0 - plain.0).abs() < 1e-3 && hard.1 > plain.1 + 0.1, "{plain:?} {hard:?}");
}

#[test]
fn a_sample_is_learned_from_and_the_other_labels_are_found_too() {
    let world = World::new();
    let sets = [
        "sampling.ratio=0.5",
        "sampling.ratio_of=labels",
        "lora_rank=8",
        "epochs=20",
        "pooling=mean",
        "lr=0.01",
    ];
    let summary = world.train("model", &sets, false, &Silent).unwrap();
    let unseen = summary.metrics.unwrap().unseen.unwrap();
    assert_eq!((unseen.labels, unseen.rows > 0), (LABELS as u64 / 2, true));
    assert!(unseen.values.get("P@1").is_some());
    let sample: Value =
        serde_json::from_slice(&fs::read(world.out("model").join("sample.json")).unwrap()).unwrap();
    assert_eq!(sample["seen"].as_array().unwrap().len(), LABELS / 2);
    // Other labels in every epoch: all are seen in the end.
    let again = [&sets[..], &["sampling.resample=true"]].concat();
    let summary = world.train("again", &again, false, &Silent).unwrap();
    let unseen = summary.metrics.unwrap().unseen.map_or(0, |unseen| unseen.labels);
    assert!(unseen < LABELS as u64 / 4, "{unseen}");
}

#[test]
fn epochs_that_were_not_trained_have_seen_nothing() {
    let world = World::new();
    let sets = ["validation=0.3", "lr=1e-20", "patience=1", "sampling.ratio=0.5", "sampling.resample=true"];
    world.train("model", &sets, false, &Silent).unwrap();
    let sample: Value =
        serde_json::from_slice(&fs::read(world.out("model").join("sample.json")).unwrap()).unwrap();
    // It stops behind the first epoch, which is no better than none.
    assert_eq!(sample["seen"], sample["sample"]["labels"]);
}

/// Each label has two words of its name from other labels: what it is called can be learned without it.
fn pairs_of_words() -> Dataset {
    let labels = LabelSet::new((0..LABELS * LABELS).map(|l| format!("c{} d{}", l / LABELS, l % LABELS)));
    let part = |noises: std::ops::Range<usize>| {
        let (mut texts, mut y) = (Vec::new(), CsrBuilder::new());
        for noise in noises {
            for l in 0..LABELS * LABELS {
                texts.push(format!("a{} noise{noise} b{}", l / LABELS, l % LABELS));
                y.push([(l as u32, 1.0)]);
            }
        }
        let y = y.finish(LABELS * LABELS).unwrap();
        Part { texts: Some(Strings::new(texts)), features: None, y, filter: Vec::new() }
    };
    Dataset::new(Path::new("pairs"), labels, part(0..2), Some(part(2..3))).unwrap()
}

#[test]
fn labels_outside_the_sample_are_found_far_above_chance() {
    let mut world = World::new();
    world.data = pairs_of_words();
    let sets = [
        "sampling.ratio=0.5",
        "sampling.ratio_of=labels",
        "lora_rank=8",
        "epochs=20",
        "pooling=mean",
        "lr=0.01",
    ];
    world.train("model", &sets, false, &Silent).unwrap();
    let model = Model::open(&world.out("model")).unwrap();
    let report =
        evaluate(&model, &world.data, world.data.test.as_ref().unwrap(), &EvaluateOptions::at(&[10]))
            .unwrap();
    let unseen = report.unseen.unwrap();
    let (found, chance) = (unseen.values.get("R@10").unwrap(), 1000.0 / (LABELS * LABELS) as f64);
    println!("R@10 of unseen labels: {found:.2}, {:.1} times chance", found / chance);
    assert!(found > 10.0 * chance, "{found}, by chance {chance}");
}

#[test]
fn the_best_epoch_is_found_on_rows_set_apart() {
    let world = World::new();
    let messages = Messages::default();
    // A rate that destroys what the beginning knows.
    let sets = ["validation=0.3", "epochs=9", "patience=2", "lr=30", "warmup=0"];
    world.train("model", &sets, false, &messages).unwrap();
    assert!(messages.contain("epoch 0: P@1"));
    let text = fs::read_to_string(world.out("model").join("curves.jsonl")).unwrap();
    let validations = text.lines().filter(|line| line.contains("validation")).count();
    assert!((2..=10).contains(&validations), "{validations}");
}

#[test]
fn what_learns_is_counted() {
    let world = World::new();
    let messages = Messages::default();
    world.train("model", &["prompt_tokens=7", "epochs=1"], false, &messages).unwrap();
    // n d, spec Q-9.
    assert!(messages.contain(&format!("{} parameters", 7 * 32)));
    // Spec Q-23.
    let bytes = fs::metadata(world.out("model").join("prompt.safetensors")).unwrap().len();
    assert!(bytes <= 7 * 32 * 4 + 1024, "{bytes}");
}

#[test]
fn what_cannot_be_trained_is_refused_with_a_reason() {
    let world = World::new();
    let message = |sets: &[&str]| world.train("model", sets, false, &Silent).unwrap_err().to_string();
    assert!(message(&["decoder=/nowhere.gguf"]).contains("/nowhere.gguf"));
    assert!(message(&["prompt_tokens=64"]).contains("fewer than the 64 positions"));
    fs::write(world.dir.path().join("junk.safetensors"), "junk").unwrap();
    let file = format!("prompt_file={}", world.dir.path().join("junk.safetensors").display());
    assert!(message(&["prompt_init=file", &file]).contains("junk.safetensors"));
    // A tokenizer that leaves dashes out.
    let tokenizer = world.decoder.join("tokenizer.json");
    let text = fs::read_to_string(&tokenizer).unwrap();
    let without = r#""normalizer":{"type":"Replace","pattern":{"String":"-"},"content":""}"#;
    fs::write(tokenizer, text.replace(r#""normalizer":null"#, without)).unwrap();
    let message_of_dashes = message(&["prompt_init=text", "prompt_text=--"]);
    assert!(message_of_dashes.contains("`prompt_text` = --"), "{message_of_dashes}");
    fs::remove_file(world.decoder.join("model.safetensors")).unwrap();
    assert!(message(&[]).contains("safetensors"));
}

//! `xmc explain`.

use serde_json::Value;

use crate::encoders::world_with_dexml;
use crate::world::{World, stderr, stdout};

fn explained(world: &World, text: &str, more: &[&str]) -> Value {
    let mut xmc = world.xmc(&["explain", "model", text, "--json"]);
    serde_json::from_str(&stdout(xmc.args(more))).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Shares and bias sum to the margin of every step.
pub(crate) fn sums_hold(explanation: &Value) {
    for label in explanation["labels"].as_array().unwrap() {
        let path = label["path"].as_array().unwrap();
        assert!(!path.is_empty(), "{label}");
        for step in path {
            let terms = step["terms"].as_array().unwrap();
            let words: f64 = terms.iter().map(|term| number(&term["contribution"])).sum();
            let embedding = step["embedding"].as_f64().unwrap_or(0.0);
            assert!((words - number(&step["words"])).abs() < 1e-4, "{step}");
            let (node, nodes) = (step["node"].as_u64().unwrap(), step["nodes"].as_u64().unwrap());
            assert!((1..=nodes).contains(&node), "{step}");
            let sum = words + embedding + number(&step["bias"]);
            assert!((sum - number(&step["margin"])).abs() < 1e-4, "{step}");
        }
        assert_eq!(path.last().unwrap()["labels"], 1);
    }
}

#[test]
fn the_words_that_carry_a_label_are_named_with_their_shares() {
    let world = World::with_model();
    let found = explained(&world, "whale and coral report", &["-k", "2"]);
    sums_hold(&found);
    // Tables and programs count nodes alike.
    let step = &found["labels"][0]["path"][1];
    let table = stdout(&mut world.xmc(&["explain", "model", "whale and coral report", "-k", "1"]));
    assert!(table.contains(&format!(" {} of {} ", step["node"], step["nodes"])), "{table}");
    // One word alone is all that words say.
    let alone = explained(&world, "whale", &["-k", "1"]);
    for step in alone["labels"][0]["path"].as_array().unwrap() {
        if let [term] = step["terms"].as_array().unwrap().as_slice() {
            assert_eq!(step["words"], term["contribution"]);
        }
    }
    let labels = found["labels"].as_array().unwrap();
    assert_eq!((labels.len(), &labels[0]["label"], &found["trees"]), (2, &"sea life".into(), &1.into()));
    let last = &labels[0]["path"][1];
    let (term, share) = (&last["terms"][0]["term"], number(&last["terms"][0]["contribution"]));
    assert!((term == "whale" || term == "coral") && share > 0.0, "{last}");
    // The score of the path is the score of the label, and that of predict.
    assert_eq!(last["score"], labels[0]["score"]);
    let answer = stdout(world.xmc(&["predict", "model", "-k", "2"]).write_stdin("whale and coral report\n"));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    for (label, predicted) in labels.iter().zip(answer["labels"].as_array().unwrap()) {
        assert_eq!((&label["label"], &label["score"]), (&predicted["label"], &predicted["score"]));
    }
    // Examples of an inner node are labels below it.
    let such_as = labels[0]["path"][0]["such_as"].as_array().unwrap();
    assert!(!such_as.is_empty() && labels[0]["path"][0]["nodes"] == 4, "{found}");
}

#[test]
fn tables_say_what_the_numbers_are() {
    let world = World::with_model();
    let shown =
        stdout(&mut world.xmc(&["explain", "model", "whale and coral report", "-k", "1", "--terms", "1"]));
    for part in [
        "1. sea life   score ",
        "such as",
        "margin",
        "of 4",
        "of 6",
        "level 1",
        "level 2",
        "margin = words + bias",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let word = shown.lines().find(|line| line.starts_with("whale") || line.starts_with("coral"));
    assert!(word.is_some_and(|line| line.contains('+')), "{shown}");
    assert!(shown.contains(" more)"), "{shown}");
    assert!(!shown.contains("embedding"), "{shown}");
}

#[test]
fn a_text_of_unknown_words_still_has_a_path() {
    let world = World::with_model();
    let shown = stdout(&mut world.xmc(&["explain", "model", "zzz", "-k", "1"]));
    assert!(shown.contains("no word of the text is known to the rankers"), "{shown}");
    assert!(shown.contains("+0.000") && !shown.contains("-0.000"), "{shown}");
    let step = &explained(&world, "zzz", &["-k", "1"])["labels"][0]["path"][0];
    assert_eq!(step["words"].to_string(), "0.0");
    sums_hold(&explained(&world, "", &[]));
}

#[test]
fn word_pairs_and_second_vectorizers_are_named_and_hashes_numbered() {
    let world = World::new();
    let sets =
        ["vectorizer.ngram_range=[2,2]", "vectorizer.1.analyzer=char_wb", "vectorizer.1.ngram_range=[3,3]"];
    let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    world.train(&more).assert().success();
    let found = explained(&world, "whale coral tide", &["-k", "1", "--terms", "1000"]);
    sums_hold(&found);
    let steps = found["labels"][0]["path"].as_array().unwrap();
    let names: Vec<&str> = steps
        .iter()
        .flat_map(|step| step["terms"].as_array().unwrap())
        .map(|term| term["term"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"whale coral") || names.contains(&"coral tide"), "{names:?}");
    assert!(names.iter().any(|name| name.chars().count() == 3), "{names:?}");

    world
        .train(&["--set", "vectorizer.kind=hashing", "--set", "vectorizer.n_features=64"])
        .assert()
        .success();
    let found = explained(&world, "whale", &["-k", "1"]);
    let name = &found["labels"][0]["path"][1]["terms"][0]["term"];
    assert!(name.as_str().unwrap().starts_with("feature "), "{name}");
}

#[test]
fn of_several_trees_the_first_is_explained_and_it_is_said() {
    let world = World::new();
    world.train(&["--set", "trees=3"]).assert().success();
    let shown = stdout(&mut world.xmc(&["explain", "model", "violin chord"]));
    assert!(shown.contains("3 trees together; the paths are those of the first"), "{shown}");
    let found = explained(&world, "violin chord", &["--terms", "1000"]);
    sums_hold(&found);
    assert_eq!(found["trees"], 3);
}

#[test]
fn models_that_cannot_be_explained_say_why() {
    let world = world_with_dexml();
    let shown = stderr(&mut world.xmc(&["explain", "model", "whale"]), 2);
    assert!(shown.contains("model: only models with label trees can be explained"), "{shown}");
    let shown = stderr(&mut world.xmc(&["explain", "nowhere", "whale"]), 2);
    assert!(shown.contains("nowhere: no such model folder"), "{shown}");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../xmc-linear/tests/golden/pecos/default");
    let shown = stderr(&mut world.xmc(&["explain", golden, "whale"]), 2);
    assert!(shown.contains("trained on given features: it knows no words"), "{shown}");
    assert!(!shown.contains("npz"), "{shown}");
    let shown = stderr(&mut world.xmc(&["explain", "model"]), 2);
    assert!(shown.contains("<TEXT>"), "{shown}");
}

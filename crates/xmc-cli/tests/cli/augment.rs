//! `xmc augment` as the README tells it, and what it says where something is wrong.

use std::fs;

use assert_cmd::assert::Assert;
use serde_json::{Value, json};

use crate::decoder;
use crate::tiny_encoder::write_tiny_encoder;
use crate::toy;
use crate::world::World;

/// Success and standard output.
fn output(assert: Assert) -> String {
    String::from_utf8(assert.success().get_output().stdout.clone()).unwrap()
}

/// Success and one JSON object.
fn printed(assert: Assert) -> Value {
    serde_json::from_str(&output(assert)).unwrap()
}

/// What is on standard error of a call that fails with `code`.
fn problem(assert: Assert, code: i32) -> String {
    String::from_utf8(assert.code(code).get_output().stderr.clone()).unwrap()
}

/// A biased log `log`, and a run `run` of the rows of it.
fn begun() -> World {
    let world = World::new();
    let bias = ["--encoder", "encoder", "--topk", "3", "--test-topk", "3", "--json"];
    write_tiny_encoder(&world.path("encoder"));
    let hide = ["augment", "simulate-bias", "--data", "data", "--out", "log"];
    let report = printed(world.xmc(&[&hide[..], &bias].concat()).assert());
    assert!(report["kept"].as_u64() < report["pairs"].as_u64(), "{report}");
    // What somebody knows of each row: what it is about.
    let names = String::from_utf8(world.read("data/raw/Y.txt")).unwrap();
    let names: Vec<&str> = names.lines().collect();
    let labels = String::from_utf8(world.read("data/Y.trn.txt")).unwrap();
    let page = |(row, line): (usize, &str)| {
        let ids = line.split(' ').map(|entry| entry.split(':').next().unwrap().parse::<usize>().unwrap());
        let body = ids.map(|id| names[id]).collect::<Vec<_>>().join(". ");
        format!("{}\n", json!({ "id": row, "title": "a page", "body": body }))
    };
    let pages: String = labels.lines().skip(1).enumerate().map(page).collect();
    world.write("pages.jsonl", pages.as_bytes());
    let init = ["augment", "init", "--direction", "instance", "--data", "log", "--out", "run"];
    let sets = ["--meta", "pages.jsonl", "--set", "build.tau=0.6", "--set", "exclude_test=true"];
    world.xmc(&[&init[..], &sets].concat()).assert().success();
    world
}

#[test]
fn a_log_is_filled_as_the_readme_tells_it() {
    let world = begun();
    let whole =
        ["augment", "run", "--run", "run", "--hidden", "log/hidden.trn.npz", "--out", "filled", "--json"];
    let text = output(world.xmc(&whole).assert());
    let report: Value = serde_json::from_str(&text).unwrap();
    // Stages stand in their order, and numbers as they were given.
    let places = ["\"generate\"", "\"parse\"", "\"embed\"", "\"map\"", "\"build\"", "\"validate\""];
    assert!(places.map(|name| text.find(name).unwrap()).is_sorted());
    assert!(text.contains("\"tau\": 0.6,"), "{text}");
    assert!(report["build"]["new"].as_u64().unwrap() > 0);
    // S-21: the complete test beside the biased one.
    world.xmc(&["train", "xr-linear", "--data", "filled", "--out", "filled.xmc"]).assert().success();
    let both = ["evaluate", "filled.xmc", "--data", "filled", "--biased", "log/biased.tst.npz"];
    let shown = output(world.xmc(&both).assert());
    assert!(shown.contains("biased") && shown.contains("R@10"), "{shown}");
    let measured = printed(world.xmc(&[&both[..], &["--json"]].concat()).assert());
    assert!(measured["unbiased"]["P@1"].is_f64() && measured["biased"]["P@1"].is_f64(), "{measured}");
}

#[test]
fn every_stage_can_be_done_alone_and_shows_a_table() {
    let world = begun();
    let stage = |name: &str, more: &[&str]| {
        output(world.xmc(&[&["augment", name, "--run", "run"], more].concat()).assert())
    };
    assert!(stage("generate", &["--dry-run"]).contains("prompts"));
    for (name, line) in [
        ("generate", "answers"),
        ("parse", "texts"),
        ("embed", "distinct"),
        ("map", "recall"),
        ("build", "new"),
    ] {
        let shown = stage(name, &[]);
        assert!(shown.contains(line), "{name}: {shown}");
    }
    // The answer stands before the table of all thresholds.
    let shown = stage("calibrate", &[]);
    assert!(shown.find("tau").unwrap() < shown.find("thresholds").unwrap(), "{shown}");
    let calibrated: Value = serde_json::from_str(&stage("calibrate", &["--json"])).unwrap();
    let taus = calibrated["thresholds"].as_array().unwrap();
    assert!(taus.len() == 51 && taus.iter().any(|threshold| threshold["tau"] == calibrated["tau"]));
    let swept = stage("sweep", &["--tau", "0.5,0.6,0.9", "--hidden", "log/hidden.trn.npz"]);
    assert!(swept.contains("recall"), "{swept}");
    let pair = fs::read_to_string(world.path("run/provenance.jsonl")).unwrap();
    let pair: Value = serde_json::from_str(pair.lines().next().unwrap()).unwrap();
    let [row, label] = ["row", "label"].map(|side| pair[side].to_string());
    let explained = stage("explain", &["--row", &row, "--col", &label]);
    assert!(
        explained.contains("new") && explained.contains(pair["synthetic"].as_str().unwrap()),
        "{explained}"
    );
    let gate = ["augment", "validate", "--run", "run", "--fail-under", "recovery.uniform.recall=1.01"];
    let said = problem(world.xmc(&gate).assert(), 1);
    assert!(said.contains("recovery.uniform.recall is") && said.contains("below 1.01"), "{said}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let world = begun();
    let say = |args: &[&str], code| problem(world.xmc(&[&["augment"], args].concat()).assert(), code);
    for (args, expected) in [
        (&["run", "--run", "elsewhere"][..], "`xmc augment init` begins a run"),
        (&["parse", "--run", "run"], "keys.txt: is not there: `xmc augment generate --run run`"),
        (&["build", "--run", "run"], "start_indices.npy: is not there: `xmc augment parse --run run`"),
        (&["generate", "--run", "run", "--set", "generator.kind=decoder"], "generator.path"),
        (&["generate", "--run", "run", "--set", "generator.knd=decoder"], "generator.kind"),
        (&["validate", "--run", "run", "--fail-under", "recall"], "expected name=number"),
        (&["init", "--direction", "instance", "--data", "log", "--out", "run"], "is there already"),
        (&["finetune", "--decoder", "nowhere.gguf", "--examples", "x.jsonl", "--out", "o"], "nowhere.gguf"),
    ] {
        let said = say(args, 2);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    world.xmc(&["augment", "run", "--run", "run"]).assert().success();
    let said = say(&["validate", "--run", "run", "--fail-under", "recall=1"], 2);
    assert!(said.contains("no `recall`; it has violations, new,"), "{said}");
}

/// A run that a decoder answers, its teacher's examples, a decoder that learned from them, and what that one writes.
#[test]
fn a_small_decoder_learns_from_the_answers_of_another() {
    let world = World::new();
    let dir = world.path("toy");
    fs::create_dir_all(&dir).unwrap();
    toy::data().save(&dir.join("data")).unwrap();
    decoder::decoder(&dir);
    let init = ["augment", "init", "--direction", "label", "--data", "toy/data", "--out", "taught"];
    world.xmc(&init).assert().success();
    let teach = ["augment", "teach", "--run", "taught", "--count", "12", "--out", "examples", "--json"];
    assert_eq!(printed(world.xmc(&teach).assert())["examples"], 12);
    let learn = ["augment", "finetune", "--decoder", "toy/decoder", "--examples", "examples/train.jsonl"];
    let sets = ["--out", "tuned", "--set", "epochs=2", "--set", "batch_size=4", "--json"];
    let report = printed(world.xmc(&[&learn[..], &sets].concat()).assert());
    assert_eq!(report["examples"], 12);
    let answer = [
        "augment",
        "generate",
        "--run",
        "taught",
        "--set",
        "generator.kind=decoder",
        "--set",
        "generator.path=tuned",
        "--set",
        "generator.template=fields",
        "--set",
        "generator.max_new_tokens=4",
        "--json",
    ];
    let estimate = printed(world.xmc(&[&answer[..], &["--dry-run"]].concat()).assert());
    let answered = printed(world.xmc(&answer).assert());
    assert_eq!(answered["answers"], estimate["prompts"]);
    assert_eq!(answered["prompt_tokens"], estimate["prompt_tokens"]);
    assert!(estimate["hours"].as_f64().unwrap() > 0.0);
}

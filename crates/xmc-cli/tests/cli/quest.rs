//! Training with a decoder, and the verbs that answer, on a model of quest.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use serde_json::{Value, json};

use crate::decoder::decoder;
use crate::encoders::tree;
use crate::world::{World, stderr, stdout};

const TRAIN: [&str; 6] = ["train", "quest", "--data", "data", "--decoder", "decoder"];

/// 12 rows with words of the toy's decoder, 6 labels, and the decoder.
fn world() -> World {
    let world = World::new();
    let rows = |from: usize, to: usize| {
        let texts: Vec<String> =
            (from..to).map(|i| format!("a{} b{} noise{}", i % 6, i % 3, i % 10)).collect();
        let labels: Vec<String> = (from..to).map(|i| format!("{}:1", i % 6)).collect();
        (texts.join("\n"), format!("{} 6\n{}\n", to - from, labels.join("\n")))
    };
    world.write("data/raw/Y.txt", b"c0 d0\nc1 d1\nc2 d2\nc3 d0\nc4 d1\nc5 d2\n");
    for (side, from, to) in [("trn", 0, 24), ("tst", 24, 30)] {
        let (texts, labels) = rows(from, to);
        world.write(&format!("data/raw/{side}_X.txt"), texts.as_bytes());
        world.write(&format!("data/Y.{side}.txt"), labels.as_bytes());
    }
    decoder(&world.path(""));
    world
}

fn world_with_model() -> World {
    let world = world();
    let more =
        ["--out", "model", "--set", "epochs=1", "--set", "batch_size=8", "--set", "sampling.ratio=0.5"];
    world.xmc(&TRAIN).args(more).assert().success();
    world
}

#[test]
fn a_training_says_what_it_samples_and_learns() {
    let world = world();
    let shown = stderr(world.xmc(&TRAIN).args(["--out", "model", "--set", "epochs=1"]), 0);
    for expected in [
        "settings    ",
        "text_template \"{text}\\nIn",
        "sampled labels, 160 parameters",
        "labels",
        "test    P@1",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!world.path("model.run").exists());
}

/// The files of a model but its curves, which hold times, and the file with their checksum.
fn learned(world: &World, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = tree(&world.path(name));
    files.retain(|name, _| name != "curves.jsonl" && name != "model.json");
    files
}

#[test]
fn a_training_killed_at_any_of_five_moments_resumes_to_the_same_prompt() {
    let world = world();
    let train = |out: &str| {
        let mut xmc = Command::new(assert_cmd::cargo::cargo_bin("xmc"));
        let sets = "epochs=40 batch_size=4 checkpoint_minutes=0 sampling.resample=true lr=0.01";
        xmc.current_dir(world.path(".")).args(TRAIN).args(["--out", out, "--resume"]);
        xmc.args(sets.split(' ').flat_map(|set| ["--set", set])).stdout(Stdio::null());
        xmc
    };
    let start = Instant::now();
    assert!(train("whole").status().unwrap().success());
    let took = start.elapsed();
    let whole = learned(&world, "whole");
    let mut killed = 0;
    for moment in 1..=5 {
        let out = format!("killed-{moment}");
        let mut child = train(&out).spawn().unwrap();
        sleep(took * moment / 6);
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        assert!(train(&out).status().unwrap().success());
        let again = learned(&world, &out);
        let other: Vec<&String> = whole.keys().filter(|&name| again.get(name) != whole.get(name)).collect();
        assert!(other.is_empty() && again.len() == whole.len(), "killed at moment {moment}: {other:?}");
    }
    assert!(killed > 0, "every training was done before it was killed");
}

#[test]
fn verbs_answer_on_a_model_of_quest() {
    let world = world_with_model();
    let answers = stdout(world.xmc(&["predict", "model", "-k", "2"]).write_stdin("a1 b1\na2 b2\n"));
    assert_eq!(answers.lines().count(), 2);
    let report = stdout(&mut world.xmc(&["evaluate", "model", "--data", "data", "--drop-self", "--json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["P@1"].is_number() && report["unseen"]["labels"] == 3, "{report}");
    let table = stdout(&mut world.xmc(&["evaluate", "model", "--data", "data"]));
    assert!(table.contains("3 labels never seen in training"), "{table}");
    let shown = stdout(&mut world.xmc(&["inspect", "model"]));
    for expected in ["quest", "5 vectors", "learned from  3 of 6 labels", "fingerprint"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let near = stdout(&mut world.xmc(&["similar", "model", "c1 d1", "-k", "1"]));
    assert!(near.contains("c1 d1") && near.contains("1.000"), "{near}");
    let rows = stdout(world.xmc(&["embed", "--encoder", "model"]).write_stdin("a1\n"));
    let row: Value = serde_json::from_str(rows.trim()).unwrap();
    assert_eq!(row["embedding"].as_array().unwrap().len(), 32);
    world.write("new.txt", b"c7 d7\nc1 d1\n");
    world.xmc(&["add-labels", "model", "new.txt"]).assert().success();
    let answers = stdout(world.xmc(&["predict", "model", "-k", "1"]).write_stdin("c7 d7\n"));
    assert!(answers.contains("c7 d7"), "{answers}");
}

#[test]
fn what_a_model_of_quest_cannot_do_is_refused() {
    let world = world_with_model();
    let shown = stderr(&mut world.xmc(&["explain", "model", "a1"]), 2);
    assert!(shown.contains("only models with label trees can be explained"), "{shown}");
    let shown = stderr(world.xmc(&["predict", "model", "--beam", "3"]).write_stdin("a1\n"), 2);
    assert!(shown.contains("leave --beam out"), "{shown}");
    fs::rename(world.path("decoder"), world.path("moved")).unwrap();
    let shown = stderr(world.xmc(&["predict", "model"]).write_stdin("a1\n"), 2);
    assert!(shown.contains("--decoder PATH"), "{shown}");
    world.xmc(&["predict", "model", "--decoder", "moved"]).write_stdin("a1\n").assert().success();
}

#[test]
fn a_start_that_does_not_fit_is_refused() {
    let world = world();
    for (args, expected) in [
        (
            &["train", "quest", "--data", "data", "--out", "m"][..],
            "name its .gguf file or folder with --decoder PATH",
        ),
        (
            &["train", "quest", "--data", "data", "--out", "m", "--decoder", "none"],
            "none: no such file or folder",
        ),
        (
            &["train", "quest", "--data", "data", "--out", "m", "--encoder", "e"],
            "quest begins with a decoder",
        ),
        (
            &["train", "dexml", "--data", "data", "--out", "m", "--decoder", "d"],
            "only quest begins with a decoder",
        ),
        (
            &["train", "quest", "--data", "data", "--out", "m", "--preset", "pc"],
            "laptop, paper, release, recommended",
        ),
    ] {
        let shown = stderr(&mut world.xmc(args), 2);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn what_needs_more_memory_than_allowed_does_not_begin() {
    let world = world();
    for end in [&["--out", "model"][..], &["--dry-run"]] {
        let args = [&TRAIN, end, &["--set", "epochs=1", "--max-memory"]].concat();
        let refused = world.xmc(&args).arg("1KiB").assert().code(2).get_output().clone();
        let shown = String::from_utf8(refused.stderr).unwrap();
        assert!(shown.contains("more than --max-memory 1.0 KiB"), "{shown}");
        // What it would take is shown even if that is too much.
        assert_eq!(refused.stdout.is_empty(), end.len() == 2);
        assert!(!world.path("model.run").exists());
        world.xmc(&args).arg("8GiB").assert().success();
    }
}

#[test]
fn a_dry_run_counts_a_decoder_on_paper() {
    let world = world();
    // LLaMA-7B.
    let sizes = json!({
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "vocab_size": 32000, "hidden_act": "silu",
    });
    world.write("llama/config.json", sizes.to_string().as_bytes());
    let args = [
        "train",
        "quest",
        "--data",
        "data",
        "--preset",
        "paper",
        "--decoder",
        "llama/config.json",
        "--dry-run",
    ];
    let costs: Value = serde_json::from_str(&stdout(world.xmc(&args).arg("--json"))).unwrap();
    assert_eq!(costs["work"]["weights"], 6_476_005_376.0);
    assert_eq!(costs["work"]["parameters"], 20_480.0);
    let weights = costs["memory"][0][1].as_f64().unwrap();
    assert!((weights - 3.34e9).abs() < 0.01e9, "{weights}");
    assert!(costs["hours"].as_f64().unwrap() > 0.0);
    let parts = costs["memory"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| part[1].as_u64().unwrap()).sum::<u64>(), costs["bytes"]);
    let shown = stdout(&mut world.xmc(&args));
    assert!(shown.contains("6.48 G weights of layers, 20.48 k that learn"), "{shown}");
    assert!(shown.contains("weights of the layers") && shown.contains("operations"), "{shown}");
}

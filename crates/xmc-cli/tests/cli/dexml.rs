//! Verbs that answer, on a model of dexml.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Instant;

use serde_json::Value;
use xmc::methods::dexml::{DexmlConfig, Head};

use crate::encoders::{tree, world_with_dexml, world_with_dexml_of, write_encoder};
use crate::world::{World, stderr, stdout};

fn best(line: &str) -> (String, f64) {
    let answer: Value = serde_json::from_str(line).unwrap();
    let first = &answer["labels"][0];
    (first["label"].as_str().unwrap().to_owned(), first["score"].as_f64().unwrap())
}

#[test]
fn a_text_that_is_the_name_of_a_label_gets_that_label() {
    let world = world_with_dexml();
    // Few texts go through a session, many through batches.
    for copies in [1, 40] {
        let texts = "sea life\nmusic\nSoftware\n".repeat(copies);
        let answers = stdout(world.xmc(&["predict", "model", "-k", "3"]).write_stdin(texts));
        for (line, label) in answers.lines().zip(["sea life", "music", "software"].iter().cycle()) {
            let (found, score) = best(line);
            assert!(found == *label && (score - 1.0).abs() < 0.01, "{line}");
        }
        assert_eq!(answers.lines().count(), 3 * copies);
    }
}

#[test]
fn batches_and_single_texts_are_answered_alike() {
    let world = world_with_dexml();
    let text = "butter and chord\n";
    let ask = |texts: String| {
        let mut xmc = world.xmc(&["predict", "model", "--format", "tsv", "--precision", "f32"]);
        stdout(xmc.write_stdin(texts))
    };
    let single = ask(text.to_owned());
    let many = ask(text.repeat(50));
    assert!(many.starts_with(&single), "{single}\n{many}");
}

#[test]
fn options_that_need_a_tree_or_features_are_refused() {
    let world = world_with_dexml();
    let shown = stderr(world.xmc(&["predict", "model", "--beam", "3"]).write_stdin("whale\n"), 2);
    assert!(shown.contains("leave --beam out"), "{shown}");
    let shown = stderr(&mut world.xmc(&["evaluate", "model", "--data", "data", "--beam", "3"]), 2);
    assert!(shown.contains("leave --beam out"), "{shown}");
    world.xmc(&["predict", "model", "--exact"]).write_stdin("whale\n").assert().success();
    let x = xmc_data::Csr::new(1, 3, vec![0, 1], vec![2], vec![1.0]).unwrap();
    xmc_data::formats::npz::write(&world.path("x.npz"), &x).unwrap();
    let shown = stderr(&mut world.xmc(&["predict", "model", "--input", "x.npz"]), 2);
    assert!(shown.contains("reads texts, not features"), "{shown}");
}

fn report(world: &World, more: &[&str]) -> Value {
    let args = ["evaluate", "model", "--data", "data", "--json"];
    serde_json::from_str(&stdout(world.xmc(&args).args(more))).unwrap()
}

#[test]
fn evaluation_reports_all_metrics_and_filters_inside_the_search() {
    let world = world_with_dexml();
    world.write("data/raw/tst_X.txt", b"sea life\nmusic\n");
    world.write("data/Y.tst.txt", b"2 6\n0:1 1:1\n3:1\n");
    let before = report(&world, &[]);
    for key in ["P@1", "nDCG@5", "PSP@3", "R@100", "seconds", "docs_per_second"] {
        assert!(before[key].is_number(), "{key} is missing in {before}");
    }
    assert_eq!(before["P@1"], 100.0);
    assert_eq!(before["R@100"], 100.0);
    // The first answer of the first row does not count: another label takes its place, and all are still found.
    world.write("data/filter_labels_test.txt", b"0 0\n");
    let after = report(&world, &[]);
    assert_eq!(after["R@100"], 100.0);
    assert!(after["P@5"].as_f64() < before["P@5"].as_f64(), "{after}");
}

#[test]
fn inspect_says_what_the_encoder_and_the_label_matrix_are() {
    let world = world_with_dexml();
    let table = stdout(&mut world.xmc(&["inspect", "model"]));
    for part in ["dexml", "encoder", "bert", "mean", "parameters", "6 x 16 f32", "normalized"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let json: Value = serde_json::from_str(&stdout(&mut world.xmc(&["inspect", "model", "--json"]))).unwrap();
    assert_eq!((&json["encoder"]["layers"], &json["label_embeddings"]["rows"]), (&2.into(), &6.into()));
}

#[test]
fn similar_labels_come_with_their_cosines() {
    let world = world_with_dexml();
    let table = stdout(&mut world.xmc(&["similar", "model", "sea life", "-k", "2"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[2].starts_with("sea life") && lines[2].ends_with("1.000"), "{table}");
    let args = ["similar", "model", "sea life", "--label", "--json", "-k", "70000"];
    let json: Value = serde_json::from_str(&stdout(&mut world.xmc(&args))).unwrap();
    let labels: Vec<&str> =
        json["labels"].as_array().unwrap().iter().map(|l| l["label"].as_str().unwrap()).collect();
    assert!(labels.len() == 5 && !labels.contains(&"sea life"), "{json}");
    let shown = stderr(&mut world.xmc(&["similar", "model", "opera", "--label"]), 2);
    assert!(shown.contains("no label is named `opera`"), "{shown}");
}

#[test]
fn added_labels_are_found_and_the_others_stay() {
    let world = world_with_dexml();
    let before = stdout(world.xmc(&["predict", "model", "--format", "tsv", "-k", "9"]).write_stdin("tide\n"));
    world.write("new.txt", b"coral tide\nsea life\nviolin chord\ncoral tide\n");
    let added = world.xmc(&["add-labels", "model", "new.txt", "--out", "larger"]).assert().success();
    let said = String::from_utf8(added.get_output().stderr.clone()).unwrap();
    assert_eq!(said, "larger: 2 labels added, 2 left out that it has already; 8 in all\n");
    assert_eq!(before.lines().count(), 6);
    let after = stdout(world.xmc(&["predict", "larger", "--format", "tsv", "-k", "9"]).write_stdin("tide\n"));
    assert_eq!(after.lines().count(), 8);
    assert!(before.lines().all(|line| after.contains(line)), "{before}\n{after}");
    let answer = stdout(world.xmc(&["predict", "larger", "-k", "1"]).write_stdin("violin chord\n"));
    assert_eq!(best(&answer).0, "violin chord");
    assert!(stdout(&mut world.xmc(&["inspect", "larger"])).contains("8 (2 added after training)"));

    // In place, the old model is exchanged; again, there is nothing to add.
    world.xmc(&["add-labels", "model", "new.txt"]).assert().success();
    assert_eq!(tree(&world.path("model")), tree(&world.path("larger")));
    world.xmc(&["add-labels", "model", "new.txt"]).assert().success();
    assert_eq!(tree(&world.path("model")), tree(&world.path("larger")));
}

#[test]
fn a_killed_addition_leaves_the_old_model_or_the_new_one() {
    let world = world_with_dexml();
    let names: Vec<String> = (0..3000).map(|i| format!("coral {i} tide")).collect();
    world.write("new.txt", names.join("\n").as_bytes());
    let old = tree(&world.path("model"));
    let add = |out: &[&str]| {
        let mut xmc = Command::new(assert_cmd::cargo::cargo_bin("xmc"));
        xmc.current_dir(world.path(".")).args(["add-labels", "model", "new.txt", "--quiet"]).args(out);
        xmc
    };
    let start = Instant::now();
    assert!(add(&["--out", "larger"]).status().unwrap().success());
    let took = start.elapsed();
    let new = tree(&world.path("larger"));
    for moment in 0..10 {
        let mut child = add(&[]).spawn().unwrap();
        sleep(took * moment / 9);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = tree(&world.path("model"));
        assert!(found == old || found == new, "moment {moment}: neither the old model nor the new one");
        world.xmc(&["inspect", "model"]).assert().success();
    }
    fs::remove_dir_all(world.path("model")).unwrap();
    fs::rename(world.path("larger"), world.path("model")).unwrap();
    world.write("more.txt", b"opera\n");
    world.xmc(&["add-labels", "model", "more.txt"]).assert().success();
    let left: Vec<String> = fs::read_dir(world.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn labels_that_cannot_be_added_are_refused_and_the_model_stays() {
    let world = world_with_dexml();
    let before = tree(&world.path("model"));
    world.write("empty.txt", b"");
    world.write("blank.txt", b"opera\n\nsea\n");
    world.write("latin.txt", b"op\xe9ra\n");
    world.write("good.txt", b"opera\n");
    world.write("thesis/chapter", b"1");
    let cases: [(&[&str], &str); 7] = [
        (&["model", "empty.txt"], "empty.txt: no new labels were given"),
        (&["model", "blank.txt"], "blank.txt: name 2 of the new labels is empty"),
        (&["model", "latin.txt"], "latin.txt:1"),
        (&["model", "nowhere.txt"], "nowhere.txt: No such file"),
        (&["model", "good.txt", "--out", "thesis"], "error: thesis: exists and is not a model"),
        (&["blank.txt", "good.txt"], "error: blank.txt: not a model folder"),
        (&["nowhere/model", "good.txt"], "error: nowhere/model: no such model folder"),
    ];
    for (args, message) in cases {
        let shown = stderr(world.xmc(&["add-labels"]).args(args), 2);
        assert!(shown.contains(message), "{args:?}: {shown}");
    }
    assert_eq!(tree(&world.path("model")), before);
    assert!(!world.path("nowhere").exists());

    fs::create_dir(world.path("model.run")).unwrap();
    let lock = fs::File::create(world.path("model.run/lock")).unwrap();
    lock.lock().unwrap();
    let shown = stderr(&mut world.xmc(&["add-labels", "model", "good.txt"]), 2);
    assert!(shown.contains("another process is working on this"), "{shown}");
    drop(lock);
    world.xmc(&["add-labels", "model", "good.txt"]).assert().success();
    assert!(!world.path("model.run").exists());

    let world = World::with_model();
    world.write("good.txt", b"opera\n");
    let shown = stderr(&mut world.xmc(&["add-labels", "model", "good.txt"]), 2);
    assert!(
        shown.contains("cannot take new labels without training: only models of dexml and quest do"),
        "{shown}"
    );
}

#[cfg(unix)]
#[test]
fn a_link_to_a_model_still_is_one_after_an_addition() {
    let world = world_with_dexml();
    fs::create_dir(world.path("store")).unwrap();
    fs::rename(world.path("model"), world.path("store/1")).unwrap();
    std::os::unix::fs::symlink("store/1", world.path("model")).unwrap();
    world.write("new.txt", b"opera\n");
    world.xmc(&["add-labels", "model", "new.txt"]).assert().success();
    assert!(fs::symlink_metadata(world.path("model")).unwrap().is_symlink());
    world.xmc(&["add-labels", "model", "new.txt", "--out", "other"]).assert().success();
    let of = |model: &str| tree(&world.path(model));
    assert_eq!(of("store/1"), of("other"));
    // Files of two models have nothing to do with each other.
    world.write("other/encoder/config.json", b"{}");
    assert_ne!(of("store/1"), of("other"));
    let mut here = world.xmc(&["add-labels", ".", "../../new.txt"]);
    let shown = here.current_dir(world.path("store/1")).assert().success().get_output().stderr.clone();
    assert!(String::from_utf8(shown).unwrap().contains("1 left out"));
}

#[test]
fn damage_anywhere_in_the_encoder_is_found() {
    let world = world_with_dexml();
    for (name, bytes) in tree(&world.path("model")) {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            world.write(&format!("model/{name}"), &bad);
            let shown = stderr(world.xmc(&["predict", "model"]).write_stdin("whale\n"), 2);
            assert!(shown.contains(&name), "{name} at {at}: {shown}");
        }
        world.write(&format!("model/{name}"), &bytes);
    }
    world.xmc(&["predict", "model"]).write_stdin("whale\n").assert().success();
}

#[test]
fn a_head_that_does_not_fit_the_label_vectors_is_refused() {
    let world = world_with_dexml_of(&DexmlConfig { head: Head::Classifier, ..DexmlConfig::default() });
    let shown = stderr(world.xmc(&["predict", "model"]).write_stdin("whale\n"), 2);
    assert!(shown.contains("label vectors of 16 values, but the encoder needs 17"), "{shown}");
}

#[test]
fn a_trained_model_answers_and_tells_its_curves() {
    let world = World::new();
    write_encoder(&world, "encoder");
    let args =
        ["train", "dexml", "--data", "data", "--encoder", "encoder", "--out", "model", "--set", "lr=0.003"];
    let trained = world.xmc(&args).assert().success().get_output().clone();
    assert!(trained.stdout.is_empty());
    let said = String::from_utf8(trained.stderr).unwrap();
    for part in ["settings", "encoder encoder", "lr 0.003", "of memory", "train", "P@1 ", "12 rows"] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    assert!(!world.path("model.run").exists());
    let report = report(&world, &[]);
    assert_eq!(report["R@100"], 100.0);
    let table = stdout(&mut world.xmc(&["inspect", "model"]));
    for part in ["loss", " at last", "nDCG@5", "6 x 16 bf16"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let before = tree(&world.path("model"));
    world.write("new.txt", b"opera\n");
    world.xmc(&["add-labels", "model", "new.txt"]).assert().success();
    let after = tree(&world.path("model"));
    assert_eq!(before["encoder/model.safetensors"], after["encoder/model.safetensors"]);
    world.xmc(&[&args[..], &["--threads", "1"]].concat()).assert().success();
    let again = tree(&world.path("model"));
    // The curves say how long steps took, and the manifest sums them up.
    for (name, bytes) in before.iter().filter(|(name, _)| !["curves.jsonl", "model.json"].contains(&&***name))
    {
        assert!(again[name] == *bytes, "{name} differs with one thread");
    }
}

#[test]
fn a_training_without_an_encoder_says_how_to_get_one() {
    let world = World::new();
    write_encoder(&world, "encoder");
    let train = |more: &[&str]| {
        let mut xmc = world.xmc(&["train", "dexml", "--data", "data", "--out", "m"]);
        xmc.args(more);
        stderr(&mut xmc, 2)
    };
    let cases: [(&[&str], &str); 5] = [
        (&[], "--encoder DIR"),
        (&["--encoder", "microsoft/nothing"], "--features hub"),
        (&["--encoder", "encoder", "--set", "epocs=3"], "did you mean `epochs`?"),
        (
            &["--encoder", "encoder", "--preset", "desktop"],
            "`preset` = desktop: expected laptop, server or paper",
        ),
        (&["--encoder", "encoder", "--device", "cuda:7"], "no GPU back end"),
    ];
    for (args, message) in cases {
        let shown = train(args);
        assert!(shown.contains(message), "{args:?}: {shown}");
    }
    assert!(!world.path("m").exists());
    let args = ["train", "xr-linear", "--data", "data", "--out", "m", "--encoder", "encoder"];
    let shown = stderr(&mut world.xmc(&args), 2);
    assert!(shown.contains("--encoder: xr-linear has no encoder"), "{shown}");
    let args = ["train", "xr-linear", "--data", "data", "--out", "x", "--preset", "laptop"];
    let shown = stderr(&mut world.xmc(&args), 2);
    assert!(shown.contains("--preset: xr-linear has no presets"), "{shown}");
}

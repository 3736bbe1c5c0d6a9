//! `xmc predict`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::{World, stderr, stdout};

/// Names of the labels of one answer, best first.
fn names(line: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(line).unwrap();
    let labels = answer["labels"].as_array().unwrap().iter();
    labels.map(|label| label["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_line_gets_the_names_of_its_labels() {
    let world = World::with_model();
    let texts = "whale and tide\nbutter in the oven\nviolin\n";
    let answers = stdout(world.xmc(&["predict", "model", "-k", "2"]).write_stdin(texts));
    let best: Vec<String> = answers.lines().map(|line| names(line)[0].clone()).collect();
    assert_eq!(best, ["sea life", "cooking", "music"]);
    let rows: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[2]["row"], 2);
    assert_eq!(rows[0]["labels"].as_array().unwrap().len(), 2);
}

#[test]
fn tables_and_objects_are_read_and_answered_alike() {
    let world = World::with_model();
    let text = "summit and glacier, \"ridge\"";
    let quoted = serde_json::to_string(text).unwrap();
    world.write("a.txt", format!("{text}\n").as_bytes());
    world.write("a.jsonl", format!("{{\"id\": 7, \"text\": {quoted}}}\n").as_bytes());
    world.write("a.csv", b"id,text\n7,\"summit and glacier, \"\"ridge\"\"\"\n");
    world.write("a2.csv", b"id;text\n7;\"summit and glacier, \"\"ridge\"\"\"\n");
    world.write("b.tsv", b"id\ttitle\n7\tsummit and glacier, \"ridge\"\n");
    let plain = stdout(&mut world.xmc(&["predict", "model", "--input", "a.txt"]));
    assert_eq!(names(&plain)[0], "mountains");
    for input in ["a.jsonl", "a.csv", "a2.csv"] {
        assert_eq!(stdout(&mut world.xmc(&["predict", "model", "--input", input])), plain, "{input}");
    }
    let named = ["predict", "model", "--input", "b.tsv", "--text-column", "title"];
    assert_eq!(names(&stdout(&mut world.xmc(&named))), names(&plain));
}

#[test]
fn rows_are_those_that_import_would_read() {
    let world = World::with_model();
    world.write("a.tsv", b"text\tid\n\"whale\t1\nviolin\t2\ntariff\t3\n");
    world
        .write("a.jsonl", b"{\"text\": \"whale\"}\n\n{\"text\": \"violin\"}\n  \n{\"text\": \"tariff\"}\n\n");
    for input in ["a.tsv", "a.jsonl"] {
        let answers = stdout(&mut world.xmc(&["predict", "model", "--input", input]));
        let best: Vec<String> = answers.lines().map(|line| names(line)[0].clone()).collect();
        assert_eq!(best, ["sea life", "music", "trade"], "{input}");
    }
}

#[test]
fn rows_before_an_unreadable_one_are_answered() {
    let world = World::with_model();
    for rows in [1, 3, 200] {
        world.write("a.txt", &[&b"whale\n".repeat(rows)[..], b"\xff\nwhale\n"].concat());
        let mut xmc = world.xmc(&["predict", "model", "--input", "a.txt"]);
        let output = xmc.assert().code(2).get_output().clone();
        assert_eq!(output.stdout.split(|&byte| byte == b'\n').count(), rows + 1);
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("a.txt:{}", rows + 1)));
    }
}

#[test]
fn input_without_the_text_is_refused_with_its_line() {
    let world = World::with_model();
    world.write("a.jsonl", b"{\"text\": \"whale\"}\n{\"txt\": \"whale\"}\n");
    world.write("b.csv", b"id,title\n1,whale\n");
    world.write("c.txt", b"whale\n\xff\xfe\n");
    world.write("d.npz", b"PK");
    let cases = [
        ("a.jsonl", "a.jsonl:2: found `{\"txt\": \"whale\"}`, expected an object with a string `text`"),
        ("b.csv", "b.csv:1: found `id, title`, expected a column `text`"),
        ("c.txt", "c.txt:2"),
        ("d.npz", "d.npz"),
        ("e.txt", "e.txt: No such file"),
    ];
    for (input, message) in cases {
        let mut xmc = world.xmc(&["predict", "model", "--input", input]);
        let shown = String::from_utf8(xmc.assert().code(2).get_output().stderr.clone()).unwrap();
        assert!(shown.contains(message), "{input}: {shown}");
    }
}

#[test]
fn tsv_holds_row_id_score_and_name() {
    let world = World::with_model();
    let answers =
        stdout(world.xmc(&["predict", "model", "-k", "1", "--format", "tsv"]).write_stdin("tariff\n\n"));
    let cells: Vec<&str> = answers.lines().next().unwrap().split('\t').collect();
    assert_eq!((cells[0], cells[1], cells[3]), ("0", "5", "trade"));
    assert!(cells[2].parse::<f32>().unwrap() > 0.1);
    assert!(answers.lines().nth(1).unwrap().starts_with("1\t"));
}

#[test]
fn npz_holds_the_same_scores() {
    let world = World::with_model();
    world.write("a.txt", b"whale\nviolin\n");
    let args = ["predict", "model", "--input", "a.txt", "--format", "npz"];
    assert!(stderr(&mut world.xmc(&args), 2).contains("--output FILE.npz"));
    world.xmc(&args).args(["--output", "s.npz"]).assert().success().stdout("");
    let scores = xmc_data::formats::npz::read(&world.path("s.npz")).unwrap();
    assert_eq!((scores.rows(), scores.cols()), (2, 6));
    let best = scores.row(1).iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let answers = stdout(&mut world.xmc(&["predict", "model", "--input", "a.txt", "--format", "tsv"]));
    let line = format!("1\t{}\t{}\tmusic", best.0, best.1);
    assert!(answers.lines().any(|l| l == line), "{line} in\n{answers}");
}

#[test]
fn a_file_of_answers_appears_complete_or_not_at_all() {
    let world = World::with_model();
    world.write("good.txt", b"whale\n");
    world.write("bad.txt", b"whale\n\xff\n");
    let to = |input| world.xmc(&["predict", "model", "--input", input, "--output", "answers.jsonl"]);
    to("bad.txt").assert().code(2);
    assert!(!world.path("answers.jsonl").exists());
    to("good.txt").assert().success().stdout("");
    assert_eq!(names(std::str::from_utf8(&world.read("answers.jsonl")).unwrap())[0], "sea life");
}

#[test]
fn exact_and_wide_search_agree() {
    let world = World::with_model();
    world.write("a.txt", b"whale in the oven\ncompiler of music\n");
    let ask = |more: &[&str]| stdout(world.xmc(&["predict", "model", "--input", "a.txt"]).args(more));
    assert_eq!(ask(&["--exact"]), ask(&["--beam", "100"]));
}

#[test]
fn a_typed_line_is_answered_before_the_next_one() {
    let world = World::with_model();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("xmc"))
        .current_dir(world.path("."))
        .args(["predict", "model", "-k", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (text, label) in [("coral", "sea life"), ("chord", "music")] {
        writeln!(questions, "{text}").unwrap();
        assert_eq!(names(&answers.next().unwrap().unwrap()), [label]);
    }
    drop(questions);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let world = World::with_model();
    let texts = "whale\n".repeat(50_000);
    world.write("many.txt", texts.as_bytes());
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("xmc"))
        .current_dir(world.path("."))
        .args(["predict", "model", "--input", "many.txt"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn a_model_of_texts_refuses_features_of_another_width() {
    let world = World::with_model();
    let x = xmc_data::Csr::new(1, 3, vec![0, 1], vec![2], vec![1.0]).unwrap();
    xmc_data::formats::npz::write(&world.path("x.npz"), &x).unwrap();
    let shown = stderr(&mut world.xmc(&["predict", "model", "--input", "x.npz"]), 2);
    assert!(shown.contains("rows with 3 features, but the model was trained on"), "{shown}");
}

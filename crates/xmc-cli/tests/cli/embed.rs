//! `xmc embed`.

use serde_json::Value;
use xmc_data::formats::npy;

use crate::encoders::world_with_dexml;
use crate::tiny_encoder::DIM;
use crate::world::{World, stderr, stdout};

fn rows(json: &str) -> Vec<Vec<f64>> {
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    json.lines().map(row).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn texts_become_rows_of_length_one_in_their_order() {
    let world = world_with_dexml();
    let texts = "whale\nthe summit of a glacier\nwhale\n\n";
    let json = stdout(world.xmc(&["embed", "--encoder", "encoder"]).write_stdin(texts));
    let rows = rows(&json);
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [DIM; 4]);
    assert_eq!(rows[0], rows[2]);
    assert!(dot(&rows[0], &rows[1]) < 0.99);
    assert!(rows.iter().all(|row| (dot(row, row) - 1.0).abs() < 1e-5));
    let last: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["row"], 3);
}

#[test]
fn numpy_and_json_lines_hold_the_same_numbers() {
    let world = world_with_dexml();
    let texts: Vec<String> = (0..5000).map(|i| format!("whale {i} tide")).collect();
    world.write("t.txt", texts.join("\n").as_bytes());
    let to = |out| {
        let args =
            ["embed", "--encoder", "encoder", "--input", "t.txt", "--precision", "f32", "--output", out];
        world.xmc(&args).assert().success().stdout("")
    };
    let said = String::from_utf8(to("e.npy").get_output().stderr.clone()).unwrap();
    assert!(said.contains("5000 texts, 16 values each"), "{said}");
    to("e.jsonl");
    let array = npy::read_dense(&world.path("e.npy")).unwrap();
    assert_eq!((array.rows(), array.cols()), (5000, DIM));
    let json = rows(std::str::from_utf8(&world.read("e.jsonl")).unwrap());
    for (i, row) in json.iter().enumerate() {
        assert!(row.iter().zip(array.row(i)).all(|(a, b)| *a as f32 == *b), "row {i}");
    }
}

#[test]
fn options_of_an_encoder_change_what_comes_out() {
    let world = world_with_dexml();
    let embed = |more: &[&str]| {
        let args = ["embed", "--encoder", "encoder"];
        rows(&stdout(world.xmc(&args).args(more).write_stdin("whale and coral and tide\n"))).remove(0)
    };
    let exact = ["--precision", "f32"];
    let exactly = |more: &[&str]| embed(&[&exact[..], more].concat());
    let usual = exactly(&[]);
    assert_eq!(usual, exactly(&["--pooling", "mean"]));
    assert_ne!(usual, exactly(&["--pooling", "cls"]));
    assert_ne!(usual, exactly(&["--max-len", "4"]));
    let long = exactly(&["--no-normalize"]);
    let length = dot(&long, &long).sqrt();
    assert!((length - 1.0).abs() > 1e-3);
    assert!(usual.iter().zip(&long).all(|(u, l)| (u - l / length).abs() < 1e-5));
    let rounded = embed(&["--precision", "bf16"]);
    assert!(dot(&usual, &rounded) > 0.99 && usual != rounded);
}

#[test]
fn a_model_embeds_as_it_was_trained() {
    let world = world_with_dexml();
    let embed = |encoder: &str| stdout(world.xmc(&["embed", "--encoder", encoder]).write_stdin("whale\n"));
    assert_eq!(embed("model"), embed("encoder"));
    let shown = stderr(&mut world.xmc(&["embed", "--encoder", "model", "--pooling", "cls"]), 2);
    assert!(shown.contains("leave --pooling and --no-normalize out"), "{shown}");
}

#[test]
fn a_pooler_that_is_not_there_is_refused() {
    let world = world_with_dexml();
    let args = ["embed", "--encoder", "encoder", "--pooling", "pooler"];
    let shown = stderr(world.xmc(&args).write_stdin("whale\n"), 2);
    assert!(shown.contains("encoder: has no pooler; choose mean or cls"), "{shown}");
}

#[test]
fn as_many_tokens_are_read_as_sentence_transformers_reads() {
    let world = world_with_dexml();
    let embed = |more: &[&str]| {
        let mut xmc = world.xmc(&["embed", "--encoder", "encoder"]);
        stdout(xmc.args(more).write_stdin("whale and coral\n"))
    };
    let (whole, short) = (embed(&[]), embed(&["--max-len", "4"]));
    world.write("encoder/sentence_bert_config.json", br#"{"max_seq_length": 4}"#);
    assert_eq!(embed(&[]), short);
    assert_eq!(embed(&["--max-len", "60"]), whole);
}

#[test]
fn what_cannot_be_embedded_says_why() {
    let world = world_with_dexml();
    world.write("t.txt", b"whale\n");
    world.write("empty/readme", b"");
    for (folder, missing) in
        [("no-config", "config.json"), ("no-weights", "model.safetensors"), ("no-words", "vocab.txt")]
    {
        crate::encoders::write_encoder(&world, folder);
        std::fs::remove_file(world.path(folder).join(missing)).unwrap();
    }
    crate::encoders::write_encoder(&world, "cut");
    let weights = world.read("cut/model.safetensors");
    world.write("cut/model.safetensors", &weights[..weights.len() / 2]);
    let cases: [(&[&str], &str); 11] = [
        (&["--encoder", "nowhere/encoder"], "scripts/fetch-encoder"),
        (&["--encoder", "./nowhere"], "./nowhere: no such folder; expected one with config.json"),
        (&["--encoder", "t.txt"], "t.txt: not a folder"),
        (&["--encoder", "empty"], "empty"),
        (&["--encoder", "no-config"], "no-config: no config.json in it"),
        (&["--encoder", "no-weights"], "no-weights"),
        (&["--encoder", "no-words"], "no-words"),
        (&["--encoder", "cut"], "cut/model.safetensors"),
        (&["--encoder", "encoder", "--output", "nowhere/e.npy"], "nowhere/e.npy"),
        (&["--encoder", "encoder", "--output", "e.bin"], "expected FILE.npy or FILE.jsonl"),
        (&["--encoder", "encoder", "--device", "cuda:0"], "no GPU back end"),
    ];
    for (args, message) in cases {
        let shown = stderr(world.xmc(&["embed", "--input", "t.txt"]).args(args), 2);
        assert!(shown.contains(message), "{args:?}: {shown}");
        assert!(!world.path("e.bin").exists());
    }
}

#[test]
fn an_unreadable_row_leaves_no_file() {
    let world = world_with_dexml();
    world.write("t.txt", b"whale\n\xff\n");
    let args = ["embed", "--encoder", "encoder", "--input", "t.txt", "--output", "e.npy"];
    let shown = stderr(&mut world.xmc(&args), 2);
    assert!(shown.contains("t.txt:2"), "{shown}");
    assert!(!world.path("e.npy").exists());
}

#[test]
fn a_model_of_another_method_has_no_embeddings() {
    let world = World::with_model();
    for verb in [&["embed", "--encoder", "model"][..], &["similar", "model", "whale"]] {
        let shown = stderr(&mut world.xmc(verb), 2);
        assert!(shown.contains("model") && shown.contains("embeddings"), "{shown}");
    }
}

#[test]
fn what_sentence_transformers_says_of_pooling_is_the_default() {
    let world = world_with_dexml();
    let embed = |more: &[&str]| {
        let mut xmc = world.xmc(&["embed", "--encoder", "encoder"]);
        xmc.args(more).write_stdin("whale and coral\n");
        xmc
    };
    let [mean, cls] = ["mean", "cls"].map(|pooling| stdout(&mut embed(&["--pooling", pooling])));
    let flags = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    for (config, expected) in [(flags, &cls), (r#"{"pooling_mode": "mean"}"#, &mean)] {
        world.write("encoder/1_Pooling/config.json", config.as_bytes());
        assert_eq!(stdout(&mut embed(&[])), *expected);
    }
    world.write("encoder/1_Pooling/config.json", br#"{"pooling_mode_max_tokens": true}"#);
    let shown = stderr(&mut embed(&[]), 2);
    assert!(shown.contains("pools by `pooling_mode_max_tokens`"), "{shown}");
    assert_eq!(stdout(&mut embed(&["--pooling", "cls"])), cls);
}

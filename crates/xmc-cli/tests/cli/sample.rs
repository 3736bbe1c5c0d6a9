//! `xmc sample`.

use serde_json::Value;

use crate::world::{World, stderr, stdout};

/// Three labels of six are half of the pairs or so.
const HALF: [&str; 9] =
    ["sample", "--data", "data", "--out", "half", "--ratio", "0.5", "--ratio-of", "labels"];

#[test]
fn a_sample_is_a_dataset_that_trains() {
    let world = World::new();
    world.write("data/filter_labels_train.txt", b"0 0\n1 1\n7 1\n");
    let done = world.xmc(&HALF).assert().success();
    let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(said.contains("12 test rows, all 6 labels"), "{said}");
    let table = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    assert!(table.contains("labels") && table.contains("50.00 %") && table.contains("buckets"), "{table}");

    let saved: Value = serde_json::from_slice(&world.read("half/sample.json")).unwrap();
    let labels: Vec<u64> = saved["labels"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
    assert_eq!(labels.len(), 3);
    // The rows that have one of these labels, in their order, with these labels alone.
    let whole = String::from_utf8(world.read("data/Y.trn.txt")).unwrap();
    let texts = String::from_utf8(world.read("data/raw/trn_X.txt")).unwrap();
    let kept = |row: &&str| row.split(' ').any(|pair| labels.iter().any(|l| pair == format!("{l}:1")));
    let expected: Vec<&str> =
        whole.lines().skip(1).zip(texts.lines()).filter(|(row, _)| kept(row)).map(|(_, text)| text).collect();
    let written = String::from_utf8(world.read("half/raw/trn_X.txt")).unwrap();
    assert_eq!(written.lines().collect::<Vec<_>>(), expected);
    assert_eq!(world.read("half/raw/tst_X.txt"), world.read("data/raw/tst_X.txt"));
    assert_eq!(world.read("half/raw/Y.txt").trim_ascii(), world.read("data/raw/Y.txt").trim_ascii());

    let shown: Value = serde_json::from_str(&stdout(&mut world.xmc(&["inspect", "half", "--json"]))).unwrap();
    assert_eq!(shown["train"]["rows"].as_u64(), saved["report"]["trained_documents"].as_u64());
    assert_eq!(shown["train"]["positives"].as_u64(), saved["report"]["trained_pairs"].as_u64());
    assert_eq!(shown["train"]["labels"].as_u64(), Some(3));
    world.xmc(&["train", "xr-linear", "--data", "half", "--out", "m"]).assert().success();
}

#[test]
fn the_same_seed_gives_the_same_files_at_any_number_of_threads() {
    let world = World::new();
    world.xmc(&HALF).args(["--threads", "1"]).assert().success();
    let again: Vec<&str> = HALF.iter().map(|&arg| if arg == "half" { "again" } else { arg }).collect();
    world.xmc(&again).args(["--threads", "3"]).assert().success();
    for file in ["raw/trn_X.txt", "raw/tst_X.txt", "raw/Y.txt", "Y.trn.npz", "Y.tst.npz", "sample.json"] {
        assert!(world.read(&format!("half/{file}")) == world.read(&format!("again/{file}")), "{file}");
    }
}

#[test]
fn without_a_folder_only_volumes_are_printed() {
    let world = World::new();
    let mut dry = world.xmc(&["sample", "--data", "data", "--sampler", "race", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&mut dry)).unwrap();
    assert_eq!(report["labels"]["of"], 6);
    assert!(report["hashing"].is_null() && report["pairs"]["kept"].as_u64() > Some(0), "{report}");
    assert!(!world.path("half").exists());
}

#[test]
fn wrong_options_and_folders_are_called_as_they_are_typed() {
    let world = World::new();
    let cases: [(&[&str], &str); 8] = [
        (&["--ratio", "2"], "--ratio 2: expected a number above 0, at most 1"),
        (&["--sampler", "lsh"], "unknown variant `lsh`, expected one of `simhash`"),
        (&["--bits", "40"], "--bits 40: expected a whole number from 1 to 30"),
        (&["--sampler", "random", "--within", "tail"], "--within tail: expected random"),
        (&["--hash-features", "file"], "--hash-features file: expected a file of label features"),
        (
            &["--hash-features", "tfidf", "--hash-features-file", "a.npy"],
            "--hash-features-file a.npy: expected the features `file`",
        ),
        (&["--hash-features-file", "a.npy"], "a.npy"),
        (&["--out", "data"], "data: exists and is not an empty folder"),
    ];
    for (options, message) in cases {
        let shown = stderr(world.xmc(&["sample", "--data", "data"]).args(options), 2);
        assert!(shown.contains(message), "{options:?}: {shown}");
    }
}

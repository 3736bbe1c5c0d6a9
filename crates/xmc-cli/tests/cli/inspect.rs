//! `xmc inspect`.

use serde_json::Value;

use crate::world::{World, stderr, stdout};

#[test]
fn data_are_described_as_tables_and_as_json() {
    let world = World::new();
    let tables = stdout(&mut world.xmc(&["inspect", "data"]));
    for part in [
        "data: 6 labels",
        "train",
        "test",
        "rows of a label, train",
        "median",
        "head",
        "words in a training text",
    ] {
        assert!(tables.contains(part), "{part} is missing in\n{tables}");
    }
    let report: Value =
        serde_json::from_str(&stdout(&mut world.xmc(&["inspect", "data", "--json"]))).unwrap();
    assert_eq!((&report["labels"], &report["train"]["rows"]), (&Value::from(6), &Value::from(60)));
}

#[test]
fn a_model_is_described_as_a_table_and_as_json() {
    let world = World::with_model();
    let table = stdout(&mut world.xmc(&["inspect", "model"]));
    for part in ["xr-linear", "data (60 rows)", "P@1", "tree 0"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let report: Value =
        serde_json::from_str(&stdout(&mut world.xmc(&["inspect", "model", "--json"]))).unwrap();
    assert_eq!(report["manifest"]["config"]["cluster"]["max_leaf_size"], 2);
    assert_eq!(report["labels"], 6);
}

#[test]
fn what_is_neither_is_refused_by_name() {
    let world = World::new();
    world.write("empty/readme", b"");
    for path in ["empty", "nowhere"] {
        let shown = stderr(&mut world.xmc(&["inspect", path]), 2);
        assert!(shown.contains(path), "{shown}");
    }
}

#[test]
fn labels_without_training_rows_are_one_note() {
    let world = World::new();
    world.write("data/raw/Y.txt", b"a\nb\nc\nd\ne\nf\nnever\nonly in test\n");
    let training = String::from_utf8(world.read("data/Y.trn.txt")).unwrap();
    world.write("data/Y.trn.txt", training.replacen("60 6", "60 8", 1).as_bytes());
    world.write("data/Y.tst.txt", format!("12 8\n{}", "0:1 7:1\n".repeat(12)).as_bytes());
    let tables = stdout(&mut world.xmc(&["inspect", "data"]));
    let notes: Vec<&str> = tables.lines().filter(|line| line.contains("no training row")).collect();
    let expected =
        "note: 2 labels have no training row and cannot be learnt; test rows have 1 of them, 12 times";
    assert_eq!(notes, [expected]);
}

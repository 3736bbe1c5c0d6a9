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

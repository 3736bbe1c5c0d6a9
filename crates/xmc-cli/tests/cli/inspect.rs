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
fn a_tree_is_drawn_with_the_labels_below_its_nodes() {
    let world = World::with_model();
    let shown = stdout(&mut world.xmc(&["inspect", "model"]));
    let (_, drawing) = shown.split_once("\n6 labels ").unwrap_or_else(|| panic!("no drawing in\n{shown}"));
    for part in ["├── ", "└── ", "│   ├── "] {
        assert!(drawing.contains(part), "{part} is missing in\n{drawing}");
    }
    // Two levels: groups, and below them every label, once.
    let drawn = |line: &&str| line.starts_with("│   ") || line.starts_with("    ");
    let mut leaves: Vec<&str> = drawing
        .lines()
        .filter(drawn)
        .map(|line| line.trim_start_matches(['│', '├', '└', '─', ' ']))
        .collect();
    leaves.sort_unstable();
    assert_eq!(leaves, ["cooking", "mountains", "music", "sea life", "software", "trade"]);
    for header in ["root", "level 1", "labels", "most children", "weights", "size"] {
        assert!(shown.contains(header), "{header} is missing in\n{shown}");
    }

    let narrow = stdout(&mut world.xmc(&["inspect", "model", "--depth", "1", "--width", "1"]));
    assert!(narrow.contains("└── 3 more nodes\n"), "{narrow}");
    let none = stdout(&mut world.xmc(&["inspect", "model", "--depth", "0"]));
    assert!(none.contains("level 1") && !none.contains("├── "), "{none}");
}

#[test]
fn a_tree_is_the_same_for_programs() {
    let world = World::with_model();
    let json: Value = serde_json::from_str(&stdout(&mut world.xmc(&["inspect", "model", "--json"]))).unwrap();
    let tree = &json["trees"][0];
    let nodes: Vec<u64> =
        tree["levels"].as_array().unwrap().iter().map(|l| l["nodes"].as_u64().unwrap()).collect();
    assert_eq!(nodes, [1, 4, 6]);
    assert_eq!((&tree["levels"][0]["children"]["most"], &tree["pruned_labels"]), (&4.into(), &0.into()));
    assert!(tree["levels"][2]["weights"].as_u64() > Some(0) && tree["levels"][2]["bytes"].as_u64() > Some(0));
    let children = tree["root"]["children"].as_array().unwrap();
    let below: u64 = children.iter().map(|child| child["labels"].as_u64().unwrap()).sum();
    assert_eq!((children.len(), below), (4, 6));
    assert!(children.iter().all(|child| child["children"].is_array() && child["such_as"][0].is_string()));
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

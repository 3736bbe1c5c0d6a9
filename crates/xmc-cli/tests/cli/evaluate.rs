//! `xmc evaluate`.

use serde_json::Value;

use crate::world::{World, stderr, stdout};

#[test]
fn json_holds_all_metrics_in_one_object() {
    let world = World::with_model();
    let report = stdout(&mut world.xmc(&["evaluate", "model", "--data", "data", "--json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    for key in
        ["P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSnDCG@3", "R@10", "R@100", "seconds", "docs_per_second"]
    {
        assert!(report[key].is_number(), "{key} is missing in {report}");
    }
    assert_eq!((&report["rows"], &report["labels"]), (&Value::from(12), &Value::from(6)));
    assert!(report["bands"]["tail"].is_object());
    assert!(report["P@1"].as_f64().unwrap() > 90.0, "{report}");
}

#[test]
fn tables_name_metrics_cuts_and_bands() {
    let world = World::with_model();
    let tables = stdout(&mut world.xmc(&["evaluate", "model", "--data", "data", "--split", "train"]));
    for part in ["@1 ", "@100", "PSnDCG", "head", "tail", "60 rows", "6 labels", "95% intervals"] {
        assert!(tables.contains(part), "{part} is missing in\n{tables}");
    }
}

#[test]
fn exact_search_and_a_wide_beam_measure_the_same_and_a_narrow_one_less() {
    let world = World::with_model();
    let recall = |search: &[&str]| {
        let mut xmc = world.xmc(&["evaluate", "model", "--data", "data", "--json"]);
        let report: Value = serde_json::from_str(&stdout(xmc.args(search))).unwrap();
        report["R@5"].as_f64().unwrap()
    };
    let exact = recall(&["--exact"]);
    assert_eq!(exact, recall(&["--beam", "100"]));
    assert!(recall(&["--beam", "1"]) < exact);
}

#[test]
fn a_metric_below_its_threshold_ends_with_1() {
    let world = World::with_model();
    let evaluate = |threshold| world.xmc(&["evaluate", "model", "--data", "data", "--fail-under", threshold]);
    evaluate("P@1=50").assert().code(0);
    // 6 labels, at most 2 of them true: no model reaches 90 here.
    let shown = stderr(&mut evaluate("P@5=90"), 1);
    assert!(shown.contains("P@5 is ") && shown.contains("below 90"), "{shown}");
    let shown = stderr(&mut evaluate("Q@5=90"), 2);
    assert!(shown.contains("no such metric; there are P@1 "), "{shown}");
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let world = World::with_model();
    world.write("other/raw/trn_X.txt", b"a\nb\n");
    world.write("other/Y.trn.txt", b"2 2\n0:1\n1:1\n");
    let shown = stderr(&mut world.xmc(&["evaluate", "model", "--data", "other"]), 2);
    assert!(shown.contains("no test rows"), "{shown}");
    let train = ["evaluate", "model", "--data", "other", "--split", "train"];
    let shown = stderr(&mut world.xmc(&train), 2);
    let expected =
        "other: none of its 2 labels, such as `0`, is one of the 6 labels of model, such as `sea life`";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn a_single_file_without_test_rows_comes_with_advice() {
    let world = World::with_model();
    world.write("rows.csv", b"text,labels\nwhale and coral,sea life\nsummit,mountains\n");
    let shown = stderr(&mut world.xmc(&["evaluate", "model", "--data", "rows.csv"]), 2);
    assert!(shown.contains("--split train") && shown.contains("import --test-fraction"), "{shown}");
    world.xmc(&["evaluate", "model", "--data", "rows.csv", "--split", "train"]).assert().success();
}

/// A dataset `other` like `data`, with label names in the order `names` and label `l` under `id(l)`.
fn renamed(world: &World, names: &[&str], id: impl Fn(usize) -> usize) {
    world.write("other/raw/Y.txt", names.join("\n").as_bytes());
    for side in ["trn", "tst"] {
        world.write(&format!("other/raw/{side}_X.txt"), &world.read(&format!("data/raw/{side}_X.txt")));
        let labels = String::from_utf8(world.read(&format!("data/Y.{side}.txt"))).unwrap();
        let rows: Vec<String> = labels.lines().skip(1).map(|row| relabelled(row, &id)).collect();
        let file = format!("{} {}\n{}\n", rows.len(), names.len(), rows.join("\n"));
        world.write(&format!("other/Y.{side}.txt"), file.as_bytes());
    }
}

fn relabelled(row: &str, id: impl Fn(usize) -> usize) -> String {
    let ids = row.split(' ').map(|entry| entry.trim_end_matches(":1").parse().unwrap());
    ids.map(|l| format!("{}:1", id(l))).collect::<Vec<_>>().join(" ")
}

fn report(world: &World, data: &str) -> Value {
    let json = stdout(&mut world.xmc(&["evaluate", "model", "--data", data, "--json"]));
    let mut report: Value = serde_json::from_str(&json).unwrap();
    for measured in ["seconds", "docs_per_second"] {
        report.as_object_mut().unwrap().remove(measured);
    }
    report
}

#[test]
fn labels_are_paired_by_name_in_whatever_order_the_data_lists_them() {
    let world = World::with_model();
    renamed(&world, &["trade", "software", "music", "cooking", "mountains", "sea life"], |l| 5 - l);
    assert_eq!(report(&world, "other"), report(&world, "data"));
}

#[test]
fn labels_that_the_model_lacks_are_counted_and_missed() {
    let world = World::with_model();
    renamed(&world, &["sea life", "mountains", "opera", "cooking", "software", "trade"], |l| {
        [0, 1, 3, 2, 4, 5][l]
    });
    let found = report(&world, "other");
    assert_eq!((&found["unknown_labels"], &found["labels"]), (&Value::from(1), &Value::from(7)));
    assert!(found["R@100"].as_f64().unwrap() < report(&world, "data")["R@100"].as_f64().unwrap());
    let tables = stdout(&mut world.xmc(&["evaluate", "model", "--data", "other"]));
    assert!(tables.contains("1 label of the data is unknown to the model"), "{tables}");
}

#[test]
fn repeated_names_are_paired_only_if_the_lists_are_equal() {
    let world = World::new();
    let names = ["sea life", "sea life", "cooking", "music", "software", "trade"];
    world.write("data/raw/Y.txt", names.join("\n").as_bytes());
    world.train(&[]).assert().success();
    world.xmc(&["evaluate", "model", "--data", "data"]).assert().success();
    renamed(&world, &["trade", "software", "music", "cooking", "sea life", "sea life"], |l| 5 - l);
    let shown = stderr(&mut world.xmc(&["evaluate", "model", "--data", "other"]), 2);
    assert!(shown.contains("some names repeat"), "{shown}");
}

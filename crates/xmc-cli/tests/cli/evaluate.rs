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
    assert!(shown.contains("2 labels, but the model knows 6"), "{shown}");
}

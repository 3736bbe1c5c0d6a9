//! `xmc import`.

use std::fmt::Write as _;

use crate::world::{World, stderr, stdout};

#[test]
fn a_table_becomes_a_dataset_that_trains() {
    let world = World::new();
    let mut table = String::from("text,labels\n");
    for i in 0..40 {
        let (text, label) = [("whale and coral", "sea"), ("summit, ridge", "mountain")][i % 2];
        writeln!(table, "\"{text} {i}\",{label}").unwrap();
    }
    world.write("rows.csv", table.as_bytes());
    let imported =
        world.xmc(&["import", "rows.csv", "--out", "imported", "--test-fraction", "0.25"]).assert().success();
    let said = String::from_utf8(imported.get_output().stderr.clone()).unwrap();
    assert!(said.contains("text `text`, labels `labels`"), "{said}");
    assert!(said.contains("2 labels"), "{said}");
    assert!(stdout(&mut world.xmc(&["inspect", "imported"])).contains("imported: 2 labels"));
    world.xmc(&["train", "xr-linear", "--data", "imported", "--out", "m"]).assert().success();
    world.xmc(&["train", "xr-linear", "--data", "rows.csv", "--out", "n"]).assert().success();
    let answer = stdout(world.xmc(&["predict", "n", "-k", "1"]).write_stdin("coral\n"));
    assert!(answer.contains("\"label\":\"sea\""), "{answer}");
}

#[test]
fn an_existing_folder_is_left_alone() {
    let world = World::new();
    world.write("rows.csv", b"text,labels\na,b\n");
    let shown = stderr(&mut world.xmc(&["import", "rows.csv", "--out", "data"]), 2);
    assert!(shown.contains("data: exists and is not an empty folder"), "{shown}");
}

#[test]
fn a_file_without_labels_is_refused() {
    let world = World::new();
    world.write("rows.csv", b"a\nb\n");
    let shown = stderr(&mut world.xmc(&["import", "rows.csv", "--out", "imported"]), 2);
    assert!(shown.contains("rows.csv"), "{shown}");
    assert!(!world.path("imported").exists());
}

#[test]
fn options_that_are_wrong_are_called_as_they_are_typed() {
    let world = World::new();
    world.write("rows.csv", b"text,labels\na,b\nc,d\n");
    let cases: [(&[&str], &str); 4] = [
        (&["--labels", "nope"], "error: --labels nope: expected one of `text`, `labels` in rows.csv"),
        (&["--test-fraction", "1"], "error: --test-fraction 1: expected at least 0 and less than 1"),
        (&["--format", "xls"], "error: --format xls: expected one of csv, tsv"),
        (&["--separator", ""], "error: --separator : expected some text"),
    ];
    for (options, message) in cases {
        let shown = stderr(world.xmc(&["import", "rows.csv", "--out", "imported"]).args(options), 2);
        assert!(shown.contains(message), "{shown}");
    }
}

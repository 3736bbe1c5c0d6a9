//! A training that was interrupted.

use std::fs;

use crate::world::{World, contents};

/// Test rows without texts stop a training when all stages are done, before the model is written.
fn stop_before_the_end(world: &World) {
    let good = world.read("data/raw/tst_X.txt");
    fs::remove_file(world.path("data/raw/tst_X.txt")).unwrap();
    world.write("data/X.tst.txt", format!("12 1\n{}", "\n".repeat(12)).as_bytes());
    let stopped = world.train(&[]).assert().code(2);
    let said = String::from_utf8_lossy(&stopped.get_output().stderr).into_owned();
    assert!(said.contains("all stages are done") && said.contains("--resume --no-evaluation"), "{said}");
    fs::remove_file(world.path("data/X.tst.txt")).unwrap();
    world.write("data/raw/tst_X.txt", &good);
}

fn said(world: &World, args: &[&str]) -> String {
    let output = world.train(args).assert().success().get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn resuming_gives_the_same_bytes_as_training_in_one_go() {
    let world = World::with_model();
    let whole = contents(&world.path("model"));
    fs::remove_dir_all(world.path("model")).unwrap();
    stop_before_the_end(&world);
    // What a killed process leaves of a stage: its folder under another name, half full.
    let run = world.path("model.run");
    fs::rename(run.join("ranker.0"), run.join("ranker.0.part")).unwrap();
    fs::write(run.join("ranker.0.part/ranker"), b"half").unwrap();

    let said = said(&world, &["--resume"]);
    assert!(said.contains("tree.0 (done earlier)") && !said.contains("ranker.0 (done earlier)"), "{said}");
    assert_eq!(contents(&world.path("model")), whole);
    assert!(!run.exists());
}

#[test]
fn all_stages_are_taken_over_if_only_the_end_was_missing() {
    let world = World::with_model();
    let whole = contents(&world.path("model"));
    stop_before_the_end(&world);
    let said = said(&world, &["--resume"]);
    assert_eq!(said.matches("(done earlier)").count(), 3, "{said}");
    assert_eq!(contents(&world.path("model")), whole);
}

#[test]
fn a_model_whose_test_rows_cannot_be_measured_comes_without_evaluation() {
    let world = World::with_model();
    fs::remove_dir_all(world.path("model")).unwrap();
    stop_before_the_end(&world);
    fs::remove_file(world.path("data/raw/tst_X.txt")).unwrap();
    world.write("data/X.tst.txt", format!("12 1\n{}", "\n".repeat(12)).as_bytes());
    let said = said(&world, &["--resume", "--no-evaluation"]);
    assert!(said.contains("done earlier"), "{said}");
    assert!(world.path("model/model.json").exists());
}

#[test]
fn nothing_is_taken_over_if_something_changed_or_nobody_asked() {
    for (args, reason) in [
        (&["--resume", "--set", "trees=2"][..], "the settings changed"),
        (&["--resume", "--seed", "5"][..], "the seed changed"),
        (&[][..], "--resume was not given"),
    ] {
        let world = World::new();
        stop_before_the_end(&world);
        let said = said(&world, args);
        assert!(said.contains(reason) && !said.contains("done earlier"), "{said}");
    }
    let world = World::new();
    assert!(said(&world, &["--resume"]).contains("there is no unfinished run"));
}

#[test]
fn other_data_are_noticed() {
    let world = World::new();
    stop_before_the_end(&world);
    let mut texts = world.read("data/raw/trn_X.txt");
    texts.splice(0..5, *b"squid");
    world.write("data/raw/trn_X.txt", &texts);
    assert!(said(&world, &["--resume"]).contains("the data changed"));
}

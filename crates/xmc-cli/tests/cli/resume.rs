//! A training that was interrupted.

use std::fs;

use crate::world::{World, contents};

/// A training that died after its first stages: data whose test rows cannot be read in time never gets to the end.
fn interrupted(world: &World, stages: &[&str]) {
    // Rankers of every level need two trees' worth of stages; a killed process leaves finished folders and a half one.
    let keep = world.path("kept");
    fs::create_dir(&keep).unwrap();
    let run = world.path("model.run");
    let half = run.join("ranker.0.part");
    for stage in stages {
        assert!(run.join(stage).join("stage.json").exists(), "{stage} is not finished");
    }
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("ranker"), b"half").unwrap();
}

#[test]
fn resuming_gives_the_same_bytes_as_training_in_one_go() {
    let world = World::with_model();
    let whole = contents(&world.path("model"));
    fs::remove_dir_all(world.path("model")).unwrap();
    // Test rows with other labels stop the training after the rankers, before the model is written.
    let good = world.read("data/raw/tst_X.txt");
    fs::remove_file(world.path("data/raw/tst_X.txt")).unwrap();
    world.write("data/X.tst.txt", b"12 1\n\n\n\n\n\n\n\n\n\n\n\n\n");
    world.train(&[]).assert().code(2);
    interrupted(&world, &["vectorizer", "tree.0", "ranker.0"]);
    fs::remove_file(world.path("data/X.tst.txt")).unwrap();
    world.write("data/raw/tst_X.txt", &good);
    fs::remove_dir_all(world.path("model.run/ranker.0")).unwrap();

    let output = world.train(&["--resume"]).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("tree.0 (done earlier)") && !said.contains("ranker.0 (done earlier)"), "{said}");
    assert_eq!(contents(&world.path("model")), whole);
    assert!(!world.path("model.run").exists());
}

#[test]
fn nothing_is_reused_when_a_setting_changed_or_resume_was_not_asked_for() {
    let world = World::new();
    let good = world.read("data/raw/tst_X.txt");
    fs::remove_file(world.path("data/raw/tst_X.txt")).unwrap();
    world.write("data/X.tst.txt", b"12 1\n\n\n\n\n\n\n\n\n\n\n\n\n");
    world.train(&[]).assert().code(2);
    fs::remove_file(world.path("data/X.tst.txt")).unwrap();
    world.write("data/raw/tst_X.txt", &good);
    for (args, reason) in [
        (&["--resume", "--set", "trees=2"][..], "the settings changed"),
        (&["--resume", "--seed", "5"][..], "there is no unfinished run"),
    ] {
        let output = world.train(args).assert().success().get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason) && !said.contains("done earlier"), "{said}");
    }
}

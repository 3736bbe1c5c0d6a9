//! `xmc train`.

use crate::world::{World, contents, stderr};

#[test]
fn training_ends_with_a_summary_on_stderr_and_nothing_on_stdout() {
    let world = World::new();
    let output = world.train(&[]).assert().success().get_output().clone();
    assert!(output.stdout.is_empty());
    let summary = String::from_utf8(output.stderr).unwrap();
    for part in
        ["stage", "seconds", "peak memory", "vectorizer", "tree.0", "ranker.0", "model", "P@1 ", "12 rows"]
    {
        assert!(summary.contains(part), "{part} is missing in\n{summary}");
    }
    let (lines, _) = summary.split_once("stage ").unwrap();
    let finished: Vec<&str> = lines.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(finished, ["vectorizer", "tree.0", "ranker.0"], "a line for each stage, no bars");
    assert!(lines.lines().all(|line| line.ends_with(" s")), "{lines}");
    assert!(!world.path("model.run").exists());
}

#[test]
fn quiet_training_says_nothing() {
    let world = World::new();
    let output = world.train(&["--quiet"]).assert().success().get_output().clone();
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

#[test]
fn the_same_seed_gives_the_same_bytes_at_any_number_of_threads() {
    let world = World::with_model();
    let first = contents(&world.path("model"));
    world.train(&["--threads", "1"]).assert().success();
    assert_eq!(contents(&world.path("model")), first);
    world.train(&["--threads", "3"]).assert().success();
    assert_eq!(contents(&world.path("model")), first);
}

#[test]
fn an_ensemble_holds_its_trees_and_the_first_is_that_of_a_single_one() {
    let world = World::with_model();
    let first = world.read("model/ranker.0");
    world.train(&["--set", "trees=3"]).assert().success();
    assert_eq!(world.read("model/ranker.0"), first);
    assert!(world.path("model/ranker.2").exists() && !world.path("model/ranker.3").exists());
    world.xmc(&["evaluate", "model", "--data", "data"]).assert().success();
}

#[test]
fn settings_that_are_wrong_are_named_with_their_place() {
    let world = World::new();
    world.write("c.toml", b"trees = 2\n\n[cluster]\nmax_leaf_sise = 4\n");
    world.write("d.toml", b"[ranker]\nloss = \"huber\"\n");
    world.write("e.toml", b"[ranker\n");
    world.write("f.toml", b"trees = \xff\n");
    let cases: [(&[&str], &str); 12] = [
        (
            &["--config", "c.toml"],
            "c.toml:4: unknown setting `cluster.max_leaf_sise`; did you mean `cluster.max_leaf_size`?",
        ),
        (
            &["--config", "d.toml"],
            "d.toml:2: `ranker.loss` = \"huber\": expected \"squared-hinge\", \"hinge\" or \"logistic\"",
        ),
        (&["--config", "e.toml"], "e.toml: line 1: "),
        (&["--config", "f.toml"], "f.toml: "),
        (&["--config", "g.toml"], "g.toml: No such file"),
        (&["--set", "trees=0"], "--set trees=0: `trees` = 0: expected a whole number from 1 to 100"),
        (&["--set", "trees"], "expected key=value"),
        (&["--set", "tres=3"], "did you mean `trees`?"),
        (&["--set", "ranker.threshold=-1"], "`ranker.threshold` = -1"),
        (
            &["--set", "ranker.negatives=abc"],
            "`ranker.negatives` = \"abc\": expected \"tfn\", \"man\", \"usn\"",
        ),
        (&["--set", "vectorizer.ngram_range=[2,1]"], "`vectorizer.0.ngram_range` = [2, 1]"),
        (
            &["--set", "features=given"],
            "data: no features for the training rows, but features = \"given\" asks for them",
        ),
    ];
    for (args, message) in cases {
        let shown = stderr(&mut world.train(args), 2);
        assert!(shown.contains(message), "{args:?}: {shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }
    assert!(!world.path("model").exists());
}

#[test]
fn a_folder_that_is_no_model_is_not_overwritten() {
    let world = World::new();
    world.write("model/thesis.tex", b"chapter one");
    let shown = stderr(&mut world.train(&[]), 2);
    assert!(shown.contains("model: exists and is not a model, so it is not overwritten"), "{shown}");
    assert_eq!(world.read("model/thesis.tex"), b"chapter one");
}

#[test]
fn too_little_memory_is_refused_before_the_work() {
    let world = World::new();
    let shown = stderr(&mut world.train(&["--max-memory", "1MiB"]), 2);
    assert!(
        shown.contains("more than --max-memory 1.0 MiB; the biggest part is the program itself (16.0 MiB)"),
        "{shown}"
    );
    assert!(!world.path("model").exists());
    world.train(&["--max-memory", "8GiB"]).assert().success();
}

#[test]
fn bad_data_is_named() {
    let world = World::new();
    let shown = stderr(&mut world.xmc(&["train", "xr-linear", "--data", "nowhere", "--out", "m"]), 2);
    assert!(shown.contains("nowhere"), "{shown}");
    world.write("data/raw/trn_X.txt", b"one line\n");
    let shown = stderr(&mut world.train(&[]), 2);
    assert!(shown.contains("1 texts, but 60 rows of labels"), "{shown}");
    world.write("data/Y.trn.txt", b"1 6\n9:1\n");
    let shown = stderr(&mut world.train(&[]), 2);
    assert!(shown.contains("Y.trn.txt:2"), "{shown}");
}

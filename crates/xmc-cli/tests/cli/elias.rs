//! `xmc train elias`, and what answers, measures, describes and goes on from its models.

use assert_cmd::Command;
use serde_json::Value;

use crate::encoders::{tree, write_encoder};
use crate::world::{World, stderr, stdout};

/// Settings that make 3 clusters of 6 labels, and a training of moments that learns something.
const SMALL: [&str; 14] = [
    "cluster.max_leaf_size=2",
    "index.alpha=10",
    "stage2.loss_lambda=0.05",
    "stage2.cluster_lr=0.001",
    "index.beam=3",
    "index.kappa=4",
    "max_len=24",
    "training.batch_size=10",
    "training.embedding_dropout=0.0",
    "warmup.epochs=1",
    "stage1.epochs=12",
    "stage2.epochs=12",
    "stage1.lr=0.003",
    "stage2.lr=0.003",
];

/// `xmc train elias` with the folder `encoder` and settings over those that are small.
fn train(world: &World, out: &str, sets: &[&str], more: &[&str]) -> Command {
    let mut xmc = world.xmc(&["train", "elias", "--data", "data", "--encoder", "encoder", "--out", out]);
    xmc.args(SMALL.iter().chain(sets).flat_map(|set| ["--set", set])).args(more);
    xmc
}

fn world() -> World {
    let world = World::new();
    write_encoder(&world, "encoder");
    world
}

fn trained(sets: &[&str], more: &[&str]) -> (World, String) {
    let world = world();
    let output = train(&world, "model", sets, more).assert().success().get_output().clone();
    assert!(output.stdout.is_empty());
    (world, String::from_utf8(output.stderr).unwrap())
}

fn json(xmc: &mut Command) -> Value {
    serde_json::from_str(&stdout(xmc)).unwrap()
}

#[test]
fn a_trained_model_answers_is_measured_and_described() {
    let (world, said) = trained(&[], &["--seed", "3"]);
    for part in [
        "settings",
        "encoder encoder",
        "warmup",
        "recluster",
        "stage1",
        "adjacency",
        "stage2",
        "P@1 ",
        "12 rows",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    assert!(!world.path("model.run").exists());

    let answers =
        stdout(world.xmc(&["predict", "model", "-k", "3"]).write_stdin("whale coral tide\nsummit\n"));
    let first: Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    assert_eq!(first["labels"][0]["label"], "sea life", "{answers}");
    let report = json(&mut world.xmc(&["evaluate", "model", "--data", "data", "--json"]));
    assert!(report["P@1"].as_f64() > Some(50.0), "{report}");

    let table = stdout(&mut world.xmc(&["inspect", "model"]));
    for part in [
        "elias",
        "encoder",
        "bert",
        "clusters",
        "4 x 17",
        "edges",
        "labels with one",
        "labels with none",
        "6 x 17",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let inspected = json(&mut world.xmc(&["inspect", "model", "--json"]));
    let index = &inspected["index"];
    assert_eq!((&index["clusters"], &index["labels_without_edges"]), (&4.into(), &0.into()));
    assert!(index["of_cluster"]["most"].as_u64() <= Some(4), "{index}");
}

#[test]
fn a_search_goes_as_far_as_the_options_say() {
    let (world, _) = trained(&["index.alpha=1.0"], &[]);
    let text = "whale coral tide\n";
    let labels = |more: &[&str]| {
        let mut xmc = world.xmc(&["predict", "model", "-k", "6", "--format", "tsv", "--precision", "f32"]);
        let few = stdout(xmc.args(more).write_stdin(text));
        // A batch goes another way than single texts, with the same end.
        let mut xmc = world.xmc(&["predict", "model", "-k", "6", "--format", "tsv", "--precision", "f32"]);
        let many = stdout(xmc.args(more).write_stdin(text.repeat(50)));
        assert!(many.starts_with(&few), "{few}\n{many}");
        few
    };
    let count = |more: &[&str]| labels(more).lines().count();
    assert_eq!(labels(&[]), labels(&["--beam", "3"]), "3 is what the model learned with");
    assert_eq!(count(&["--beam", "4"]), 6);
    assert!(count(&["--beam", "1"]) <= 4, "no more than the edges of a cluster");
    assert_eq!(count(&["--beam", "1", "--edges", "1"]), 1);
    assert!(count(&["--edges", "1"]) <= 3);
    // As many labels as are shown are scored at least, unless the shortlist says otherwise.
    assert_eq!(count(&["--shortlist", "2"]), 2);
    assert_eq!(count(&["--exact"]), 6);
    assert_ne!(labels(&["--exact"]), labels(&["--beam", "4"]), "paths count in one of them");
    for option in ["--beam", "--shortlist", "--edges"] {
        let mut xmc = world.xmc(&["predict", "model", "--exact", option, "2"]);
        let shown = stderr(xmc.write_stdin(text), 2);
        assert!(shown.contains("--exact") || shown.contains("exact search"), "{shown}");
    }

    let report = |more: &[&str]| {
        json(world.xmc(&["evaluate", "model", "--data", "data", "--json"]).args(more))["R@10"].as_f64()
    };
    assert!(report(&["--beam", "1", "--edges", "1"]) < report(&[]));
    assert_eq!(report(&["--exact"]), Some(100.0));
}

#[test]
fn a_sweep_shows_what_is_found_and_what_it_takes() {
    let (world, _) = trained(&[], &[]);
    let sweep = |more: &[&str]| {
        let mut xmc = world.xmc(&["evaluate", "model", "--data", "data"]);
        xmc.args(more);
        xmc
    };
    let table = stdout(&mut sweep(&["--sweep", "beam=1,2,4"]));
    for part in ["beam", "P@1", "P@5", "R@10", "R@100", "a query", "the encoder takes"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let found = json(&mut sweep(&["--sweep", "beam=1,4", "--sweep", "edges=1,2,6", "--json"]));
    let points = found["points"].as_array().unwrap();
    let asked: Vec<_> =
        points.iter().map(|p| (p["beam"].as_u64().unwrap(), p["edges"].as_u64().unwrap())).collect();
    assert_eq!(asked, [(1, 1), (1, 2), (1, 6), (4, 1), (4, 2), (4, 6)]);
    assert!(points.iter().all(|point| point["micros"].is_number()), "{found}");
    assert_eq!(points[5]["R@10"], 100.0);
    assert!(points[0]["R@10"].as_f64() < points[5]["R@10"].as_f64(), "{found}");
    let added = json(&mut sweep(&["--sweep", "beam=1", "--sweep", "edges=6", "--sweep", "beam=4", "--json"]));
    let asked: Vec<_> =
        added["points"].as_array().unwrap().iter().map(|p| p["beam"].as_u64().unwrap()).collect();
    assert_eq!(asked, [1, 4]);
    let shown = stderr(&mut sweep(&["--sweep", "beam=1,4", "--beam", "2"]), 2);
    assert!(shown.contains("leave --beam out"), "{shown}");
    let alone = json(&mut world.xmc(&["evaluate", "model", "--data", "data", "--json"]));
    let usual = json(&mut sweep(&["--sweep", "beam=3", "--json"]));
    assert_eq!(usual["points"][0]["P@1"], alone["P@1"]);
    let shown = stderr(&mut sweep(&["--sweep", "width=3"]), 2);
    assert!(shown.contains("beam") && shown.contains("shortlist"), "{shown}");
}

#[test]
fn similar_labels_are_those_whose_classifiers_point_the_same_way() {
    let (world, _) = trained(&["label_embeddings=f32"], &[]);
    let args = ["similar", "model", "sea life", "--label", "--json"];
    let found = json(&mut world.xmc(&args));
    let labels = found["labels"].as_array().unwrap();
    assert_eq!(labels.len(), 5);
    let cosines: Vec<f64> = labels.iter().map(|label| label["cosine"].as_f64().unwrap()).collect();
    assert!(cosines.is_sorted_by(|a, b| a >= b) && cosines.iter().all(|c| c.abs() < 1.0), "{found}");
    // As the file has them: [w, bias] of 6 labels.
    let vectors = xmc::index::LabelEmbeddings::open(&world.path("model/label_embeddings")).unwrap();
    let near = vectors.nearest(&vectors.row(0)[..vectors.dim() - 1], 6);
    assert_eq!(near[0].0, 0);
    let ids: Vec<u64> = labels.iter().map(|label| label["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, near[1..].iter().map(|&(id, _)| u64::from(id)).collect::<Vec<_>>());
    let table = stdout(&mut world.xmc(&["similar", "model", "whale coral tide", "-k", "1"]));
    assert!(table.contains("sea life"), "{table}");
}

#[test]
fn costs_are_said_without_training() {
    let world = world();
    let dry = |more: &[&str]| {
        let mut xmc = world.xmc(&["train", "elias", "--data", "data", "--encoder", "encoder", "--dry-run"]);
        xmc.args(SMALL.iter().flat_map(|set| ["--set", set])).args(more);
        xmc
    };
    let table = stdout(&mut dry(&[]));
    for part in
        ["60 rows, 6 labels, 4 clusters", "together", "a step", "operations", "warmup", "stage1", "stage2"]
    {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let costs = json(&mut dry(&["--json"]));
    let sum: u64 =
        costs["memory"].as_array().unwrap().iter().map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(costs["bytes"].as_u64(), Some(sum));
    let halved =
        json(&mut dry(&["--json", "--set", "classifier.weights=bf16", "--set", "classifier.moments=row"]));
    assert!(halved["bytes"].as_u64() < costs["bytes"].as_u64(), "{halved}");
    // All labels at every step: seven times their weights.
    let classifiers = |costs: &serde_json::Value| {
        let of = |part: &&serde_json::Value| part["name"].as_str().unwrap().starts_with("classifiers");
        costs["memory"].as_array().unwrap().iter().find(of).map(|part| part["bytes"].as_u64().unwrap())
    };
    let all = json(&mut dry(&["--json", "--set", "head=one-vs-all", "--set", "stages=[\"stage1\"]"]));
    assert!(classifiers(&all) > classifiers(&costs), "{all}");
    // Rows that validate take part in no step.
    let steps = |more: &[&str]| {
        let mut xmc = dry(&["--json", "--set", "training.batch_size=10", "--set", "stage1.epochs=1.25"]);
        json(xmc.args(more))["phases"][1]["steps"].as_u64()
    };
    assert_eq!((steps(&[]), steps(&["--set", "validation_rows=20"])), (Some(8), Some(5)));
    // Stages that train nothing have no optimisers, and those that read words alone no encoder.
    let ranker = json(&mut dry(&["--json", "--set", "stages=[\"ranker\"]"]));
    assert_eq!((ranker["peak"].as_str(), classifiers(&ranker)), (Some("ranker"), None));
    assert!(ranker["phases"].as_array().unwrap().is_empty() && ranker["step"].as_array().unwrap().is_empty());
    let args = ["train", "elias", "--data", "data", "--dry-run", "--set", "stages=[\"cluster\"]"];
    let table = stdout(&mut world.xmc(&args));
    assert!(table.contains("most in cluster") && !table.contains("encoder  "), "{table}");
    // Memory is asked for whatever comes out.
    let args = [
        "train",
        "elias",
        "--data",
        "data",
        "--out",
        "c",
        "--set",
        "stages=[\"cluster\"]",
        "--max-memory",
        "1KiB",
    ];
    assert!(stderr(&mut world.xmc(&args), 2).contains("KiB"));
    // What it would take is shown even if that is too much.
    let refused = dry(&["--max-memory", "1KiB"]).assert().code(2).get_output().clone();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("KiB"));
    assert!(!refused.stdout.is_empty());
    assert!(!world.path("model").exists() && !world.path("model.run").exists());
    let shown = stderr(&mut world.xmc(&["train", "xr-linear", "--data", "data", "--dry-run"]), 2);
    assert!(shown.contains("only elias"), "{shown}");
}

#[test]
fn stages_alone_leave_matrices_that_others_begin_with() {
    let world = world();
    // Words alone group labels: no encoder is needed.
    let args = ["train", "elias", "--data", "data", "--out", "clusters", "--set", "stages=[\"cluster\"]"];
    world.xmc(&args).args(["--set", "cluster.max_leaf_size=2"]).assert().success();
    assert!(world.path("clusters/clusters.npz").exists());
    let clusters = ["files.clusters=clusters/clusters.npz", "stages=[\"stage1\"]"];
    train(&world, "first", &clusters, &[]).assert().success();
    let go_on = ["--set", "stages=[\"adjacency\",\"stage2\"]"];
    let args = ["train", "elias", "--data", "data", "--encoder", "first", "--out", "second"];
    world.xmc(&args).args(SMALL.iter().flat_map(|set| ["--set", set])).args(go_on).assert().success();
    assert!(stdout(&mut world.xmc(&["inspect", "second"])).contains("elias"));
    world.write("wrong.npz", b"no matrix");
    let wrong = ["files.clusters=wrong.npz", "stages=[\"stage1\"]"];
    let shown = stderr(&mut train(&world, "third", &wrong, &[]), 2);
    assert!(shown.contains("wrong.npz"), "{shown}");

    // Its encoder is a start for others and embeds.
    let rows = stdout(world.xmc(&["embed", "--encoder", "second"]).write_stdin("whale\n"));
    assert!(rows.contains("\"embedding\""), "{rows}");
    world.write("new.txt", b"opera\n");
    let shown = stderr(&mut world.xmc(&["add-labels", "second", "new.txt"]), 2);
    assert!(shown.contains("train elias with them"), "{shown}");
    let shown = stderr(&mut world.xmc(&["explain", "second", "whale"]), 2);
    assert!(shown.contains("second"), "{shown}");
    world.xmc(&["ensemble", "first", "second", "--out", "both"]).assert().success();
    assert_eq!(stdout(world.xmc(&["predict", "both"]).write_stdin("whale\n")).lines().count(), 1);
}

#[test]
fn the_same_seed_gives_the_same_folder_at_any_number_of_threads_and_another_seed_another() {
    let (world, _) = trained(&[], &["--threads", "2"]);
    let first = tree(&world.path("model"));
    train(&world, "again", &[], &["--threads", "1"]).assert().success();
    train(&world, "other", &[], &["--seed", "1"]).assert().success();
    let (again, other) = (tree(&world.path("again")), tree(&world.path("other")));
    for (name, bytes) in &first {
        assert!(again[name] == *bytes, "{name} differs with one thread");
    }
    for part in ["encoder/model.safetensors", "label_embeddings", "clusters", "edges"] {
        assert!(first[part] != other[part], "the seed does not change {part}");
    }
}

#[test]
fn wrong_commands_say_what_to_do() {
    let world = world();
    let refused = |more: &[&str]| {
        let mut xmc = world.xmc(&["train", "elias", "--data", "data", "--out", "m"]);
        stderr(xmc.args(more), 2)
    };
    let with = |more: &[&'static str]| [&["--encoder", "encoder"][..], more].concat();
    let cases = [
        (vec![], "elias begins with an encoder: name its folder with --encoder DIR"),
        (with(&["--preset", "desktop"]), "expected one of laptop, amazon-670k"),
        (with(&["--set", "stages=[\"stage2\"]"]), "adjacency before stage2"),
        (with(&["--set", "index.beem=3"]), "did you mean `index.beam`?"),
        (with(&["--set", "head=all"]), "one-vs-all"),
        (with(&["--max-memory", "1KiB"]), "KiB"),
    ];
    for (more, message) in cases {
        let shown = refused(&more);
        assert!(shown.contains(message), "{more:?}: {shown}");
        assert!(!world.path("m").exists());
    }
}

#[test]
fn the_printed_configuration_is_complete_and_valid() {
    let world = world();
    let toml = stdout(&mut world.xmc(&["help-config", "elias"]));
    world.write("all.toml", toml.as_bytes());
    let args = ["train", "elias", "--data", "data", "--encoder", "encoder", "--dry-run", "--json"];
    let printed = json(world.xmc(&args).args(["--config", "all.toml"]));
    let usual = json(&mut world.xmc(&args));
    assert!(
        printed["bytes"].as_u64() > usual["bytes"].as_u64(),
        "defaults are larger than a laptop's preset"
    );
}

//! `xmc train xr-transformer`, and what answers, explains and combines its models.

use assert_cmd::Command;
use serde_json::Value;

use crate::encoders::{tree, world_with_dexml, write_encoder};
use crate::explain::sums_hold;
use crate::world::{World, stderr, stdout};

/// Settings that make trees of 6 labels, and a training of moments.
const SMALL: [&str; 12] = [
    "--set",
    "preliminary.max_leaf_size=2",
    "--set",
    "cluster.max_leaf_size=2",
    "--set",
    "training.max_steps=4",
    "--set",
    "training.batch_size=8",
    "--set",
    "training.warmup_steps=1",
    "--set",
    "max_len=24",
];

/// `xmc train xr-transformer` with the folder `encoder`.
fn train(world: &World, out: &str, more: &[&str]) -> Command {
    let args = ["train", "xr-transformer", "--data", "data", "--encoder", "encoder", "--out", out];
    let mut xmc = world.xmc(&args);
    xmc.args(SMALL).args(more);
    xmc
}

fn world() -> World {
    let world = World::new();
    write_encoder(&world, "encoder");
    world
}

fn trained(more: &[&str]) -> (World, String) {
    let world = world();
    let output = train(&world, "model", more).assert().success().get_output().clone();
    assert!(output.stdout.is_empty());
    (world, String::from_utf8(output.stderr).unwrap())
}

fn json(xmc: &mut Command) -> Value {
    serde_json::from_str(&stdout(xmc)).unwrap()
}

#[test]
fn a_trained_model_answers_is_measured_described_and_explained() {
    let (world, said) = trained(&["--seed", "3"]);
    for part in
        ["settings", "encoder encoder", "training.max_steps 4", "max_len 24", "level.1", "P@1 ", "12 rows"]
    {
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
    for part in
        ["xr-transformer", "encoder", "bert", "24 of a text", "16 values", "level 1", "├── ", "sea life"]
    {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let inspected = json(&mut world.xmc(&["inspect", "model", "--json"]));
    assert_eq!(
        (&inspected["encoder"]["dim"], &inspected["trees"][0]["levels"][0]["nodes"]),
        (&16.into(), &1.into())
    );

    let args = ["explain", "model", "whale coral tide", "--precision", "f32"];
    let explained = json(world.xmc(&args).args(["--json", "--terms", "1000"]));
    sums_hold(&explained);
    assert!(explained["labels"][0]["path"][0]["embedding"].is_number(), "{explained}");
    let shown = stdout(&mut world.xmc(&args));
    for part in ["sea life", "embedding", "margin = words + embedding + bias"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
}

#[test]
fn the_same_seed_gives_the_same_folder_at_any_number_of_threads_and_another_seed_another() {
    let (world, _) = trained(&["--threads", "2"]);
    let first = tree(&world.path("model"));
    train(&world, "again", &["--threads", "1"]).assert().success();
    train(&world, "other", &["--seed", "1"]).assert().success();
    let (again, other) = (tree(&world.path("again")), tree(&world.path("other")));
    for (name, bytes) in &first {
        assert!(again[name] == *bytes, "{name} differs with one thread");
    }
    let weights = "encoder/model.safetensors";
    assert!(first[weights] != other[weights], "the seed changes nothing");
}

#[test]
fn an_encoder_can_stay_as_it_is_or_be_all_that_is_trained() {
    let (world, said) = trained(&["--set", "do_fine_tune=false"]);
    assert!(!said.contains("level.1"), "{said}");
    let weights = "encoder/model.safetensors";
    let before = world.read(&format!("model/{weights}"));

    train(&world, "tuned", &["--set", "only_encoder=true"]).assert().success();
    assert!(!world.path("tuned/model.json").exists());
    assert!(world.read("tuned/model.safetensors") != before, "nothing was learned");
    let rows = stdout(world.xmc(&["embed", "--encoder", "tuned"]).write_stdin("whale\n"));
    assert!(rows.contains("\"embedding\""), "{rows}");

    // What was tuned serves as a start, and so does a whole model.
    for start in ["tuned", "model"] {
        let args = ["train", "xr-transformer", "--data", "data", "--encoder", start, "--out", "next"];
        world.xmc(&args).args(SMALL).args(["--set", "do_fine_tune=false"]).assert().success();
    }
}

#[test]
fn an_encoder_alone_embeds_as_it_was_trained() {
    // One with a projection, as a model of dexml has it.
    let world = world();
    let args = ["train", "dexml", "--data", "data", "--encoder", "encoder", "--out", "dual", "--quiet"];
    let sets = ["--set", "epochs=1", "--set", "projection=5", "--set", "batch_size=16"];
    world.xmc(&args).args(sets).assert().success();
    let sets = ["only_encoder=true", "max_len=6"].map(|set| ["--set", set]);
    let alone = ["--encoder", "dual", "--out", "alone"];
    let args = [&["train", "xr-transformer", "--data", "data"][..], &alone].concat();
    world.xmc(&args).args(SMALL).args(sets.as_flattened()).assert().success();

    let embed = |more: &[&str]| {
        let mut xmc = world.xmc(&["embed", "--encoder", "alone", "--precision", "f32"]);
        json(xmc.args(more).write_stdin("whale and coral and tide\n"))["embedding"].clone()
    };
    let usual = embed(&[]);
    assert_eq!(usual.as_array().unwrap().len(), 5);
    for verb in [&["inspect", "alone"][..], &["predict", "alone"], &["evaluate", "alone", "--data", "data"]] {
        let shown = stderr(&mut world.xmc(verb), 2);
        assert!(shown.contains("alone: an encoder, not a model: use it with --encoder"), "{shown}");
    }
    assert_eq!(usual, embed(&["--max-len", "6"]));
    assert_ne!(usual, embed(&["--max-len", "24"]));
    assert_ne!(usual, embed(&["--pooling", "cls"]));
    assert_ne!(usual, embed(&["--no-normalize"]));
}

#[test]
fn a_pooler_that_the_encoder_has_not_is_trained_or_refused() {
    let world = world();
    let pooler = ["--set", "pooling=pooler"];
    let unchanged = [&pooler[..], &["--set", "do_fine_tune=false"]].concat();
    let shown = stderr(&mut train(&world, "model", &unchanged), 2);
    assert!(shown.contains("has no pooler; choose mean or cls"), "{shown}");
    let output = train(&world, "model", &pooler).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("has no pooler: it begins with random weights"), "{said}");
    // What was trained has one.
    let args = ["train", "xr-transformer", "--data", "data", "--encoder", "model", "--out", "next"];
    world.xmc(&args).args(SMALL).args(unchanged).assert().success();
}

#[test]
fn an_encoder_of_dexml_is_a_start() {
    let world = world_with_dexml();
    let args = ["train", "xr-transformer", "--data", "data", "--encoder", "model", "--out", "ours"];
    world.xmc(&args).args(SMALL).assert().success();
    assert!(stdout(&mut world.xmc(&["inspect", "ours"])).contains("xr-transformer"));
}

#[test]
fn a_preset_lies_below_files_and_options() {
    let world = world();
    world.write("mine.toml", b"[training]\nbatch_size = 9\n");
    let lists = [
        "--set",
        "training.max_steps=2",
        "--set",
        "ranker.negatives=tfn",
        "--set",
        "ranker.post_processor=noop",
    ];
    let more =
        ["--set", "ranker.cost_positive=1.0", "--set", "ranker.cost_negative=1.0", "--set", "max_len=20"];
    let mut xmc =
        world.xmc(&["train", "xr-transformer", "--data", "data", "--encoder", "encoder", "--out", "m"]);
    xmc.args(["--preset", "eurlex-4k", "--config", "mine.toml", "--set", "training.max_active=3"]);
    let trained = xmc.args(lists).args(more).assert().success().get_output().stderr.clone();
    let said = String::from_utf8(trained).unwrap();
    for part in [
        "training.batch_size 9",
        "training.max_active 3",
        "training.lr 0.00005",
        "matcher.ensemble concat-only",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
}

#[test]
fn wrong_commands_say_what_to_do() {
    let world = world();
    let refused = |more: &[&str]| {
        let mut xmc = world.xmc(&["train", "xr-transformer", "--data", "data", "--out", "m"]);
        stderr(xmc.args(more), 2)
    };
    let cases: [(&[&str], &str); 7] = [
        (&[], "xr-transformer begins with an encoder: name its folder with --encoder DIR"),
        (&["--set", "do_fine_tune=false"], "--encoder DIR"),
        (&["--encoder", "microsoft/nothing"], "--features hub"),
        (&["--encoder", "data"], "data"),
        (&["--encoder", "encoder", "--preset", "desktop"], "expected one of laptop, eurlex-4k, wiki10-31k"),
        (&["--encoder", "encoder", "--set", "training.epocs=3"], "did you mean `training.epochs`?"),
        (
            &["--encoder", "encoder", "--set", "only_encoder=true", "--set", "do_fine_tune=false"],
            "`only_encoder` = true: expected false",
        ),
    ];
    for (more, message) in cases {
        let shown = refused(more);
        assert!(shown.contains(message), "{more:?}: {shown}");
        assert!(!world.path("m").exists());
    }
    // Lists of another tree are refused by name.
    let shown = refused(&["--encoder", "encoder", "--preset", "eurlex-4k"]);
    assert!(shown.contains("max_steps") && shown.contains("level"), "{shown}");
}

#[test]
fn the_printed_configuration_trains_like_the_defaults() {
    // What the preset of a laptop changes, set back to the defaults.
    let back = [
        "preliminary.min_codes=0",
        "training.epochs=2.0",
        "training.head_lr=0.0",
        "ranker.threshold=0.1",
        "ranker.relevance=disable",
        "ranker.relevance_norm=none",
        "ranker.cost_positive=1.0",
        "ranker.beam_size=10",
    ];
    let back: Vec<&str> = back.iter().flat_map(|set| ["--set", set]).collect();
    let (world, _) = trained(&back);
    let toml = stdout(&mut world.xmc(&["help-config", "xr-transformer"]));
    world.write("all.toml", toml.as_bytes());
    train(&world, "again", &["--config", "all.toml"]).assert().success();
    for part in ["ranker.0", "encoder/model.safetensors", "vectorizer"] {
        assert_eq!(world.read(&format!("model/{part}")), world.read(&format!("again/{part}")), "{part}");
    }
}

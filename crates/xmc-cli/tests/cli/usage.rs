//! Wrong commands, help, and the complete configuration.

use crate::world::{World, stderr, stdout};

#[test]
fn help_names_every_verb_and_stops_there() {
    let world = World::new();
    let help = stdout(&mut world.xmc(&["--help"]));
    for verb in [
        "quickstart",
        "train",
        "predict",
        "evaluate",
        "inspect",
        "explain",
        "import",
        "help-config",
        "embed",
        "sample",
        "similar",
        "add-labels",
        "ensemble",
    ] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is missing in\n{help}");
        assert!(stdout(&mut world.xmc(&[verb, "--help"])).contains("Usage: xmc"));
    }
}

#[test]
fn wrong_commands_end_with_2_and_say_what_is_wrong() {
    let world = World::new();
    let cases: [(&[&str], &str); 9] = [
        (&["predikt"], "unrecognized subcommand 'predikt'"),
        (&["predict"], "<MODEL>"),
        (&["train", "xr-linear", "--data", "data"], "--out"),
        (&["train", "forest", "--data", "data", "--out", "m"], "invalid value 'forest'"),
        (&["inspect", "data", "--colour"], "unexpected argument '--colour'"),
        (&["inspect", "data", "--threads", "0"], "invalid value '0'"),
        (&["predict", "model", "--top-k", "0"], "invalid value '0'"),
        (
            &["evaluate", "model", "--data", "data", "--fail-under", "P@1"],
            "a metric and a percentage like P@1=80",
        ),
        (
            &["train", "xr-linear", "--data", "data", "--out", "m", "--max-memory", "much"],
            "like 4GiB or 512MiB",
        ),
    ];
    for (args, message) in cases {
        let shown = stderr(&mut world.xmc(args), 2);
        assert!(shown.contains(message), "{args:?}: {shown}");
    }
}

#[test]
fn the_printed_configuration_trains_like_the_defaults() {
    let world = World::with_model();
    let toml = stdout(&mut world.xmc(&["help-config", "xr-linear"]));
    world.write("all.toml", toml.as_bytes());
    let trained = world.read("model/ranker.0");
    world.train(&["--config", "all.toml"]).assert().success();
    assert_eq!(world.read("model/ranker.0"), trained);
}

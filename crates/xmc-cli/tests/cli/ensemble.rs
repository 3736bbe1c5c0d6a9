//! `xmc ensemble`.

use serde_json::Value;

use crate::encoders::{tree, world_with_dexml};
use crate::world::{World, stderr, stdout};

/// A world with the models `a` and `b`.
fn world() -> World {
    let world = World::new();
    for (out, seed) in [("a", "1"), ("b", "2")] {
        let args = ["train", "xr-linear", "--data", "data", "--out", out, "--seed", seed, "--quiet"];
        world.xmc(&args).args(["--set", "cluster.max_leaf_size=2"]).assert().success();
    }
    world
}

fn scores(world: &World, model: &str) -> Vec<(String, f64)> {
    let mut xmc = world.xmc(&["predict", model, "-k", "6"]);
    let answer: Value = serde_json::from_str(&stdout(xmc.write_stdin("whale butter\n"))).unwrap();
    let labels = answer["labels"].as_array().unwrap();
    labels.iter().map(|l| (l["label"].as_str().unwrap().to_owned(), l["score"].as_f64().unwrap())).collect()
}

#[test]
fn the_scores_of_the_members_become_one() {
    let world = world();
    let made = world.xmc(&["ensemble", "a", "b", "--out", "both"]).assert().success().get_output().clone();
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.starts_with("both: 2 members, 6 labels, "), "{said}");
    let (a, b, both) = (scores(&world, "a"), scores(&world, "b"), scores(&world, "both"));
    let of = |scores: &[(String, f64)], label: &str| {
        scores.iter().find(|(name, _)| name == label).map_or(0.0, |&(_, score)| score)
    };
    assert_eq!(both.len(), 6);
    for (label, score) in &both {
        let mean = f64::midpoint(of(&a, label), of(&b, label));
        assert!((mean - score).abs() < 1e-6, "{label}: {score}, expected {mean}");
    }
    let made = world.xmc(&["ensemble", "a", "--out", "one"]).assert().success().get_output().clone();
    assert!(String::from_utf8(made.stderr).unwrap().starts_with("one: 1 member, 6 labels, "));
    // The members are copies.
    std::fs::remove_dir_all(world.path("a")).unwrap();
    assert_eq!(scores(&world, "both"), both);
    let report = stdout(&mut world.xmc(&["evaluate", "both", "--data", "data", "--json"]));
    assert!(serde_json::from_str::<Value>(&report).unwrap()["P@1"].is_number());
}

#[test]
fn an_ensemble_shows_its_members() {
    let world = world();
    let args = ["ensemble", "a", "b", "--out", "both", "--combine", "rank-average", "--quiet"];
    world.xmc(&args).assert().success();
    let table = stdout(&mut world.xmc(&["inspect", "both"]));
    for part in ["ensemble", "rank-average", "member", "xr-linear", "P@1"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    // Seeds are those of the members.
    assert!(!table.lines().any(|line| line.starts_with("seed")), "{table}");
    let json: Value = serde_json::from_str(&stdout(&mut world.xmc(&["inspect", "both", "--json"]))).unwrap();
    assert_eq!(json["manifest"]["seed"], 0);
    let seeds: Vec<&Value> =
        json["members"].as_array().unwrap().iter().map(|m| &m["manifest"]["seed"]).collect();
    assert_eq!((seeds, &json["combine"]), (vec![&Value::from(1), &Value::from(2)], &"rank-average".into()));
    let shown = stderr(&mut world.xmc(&["explain", "both", "whale"]), 2);
    assert!(shown.contains("explain one of its members"), "{shown}");
    stdout(&mut world.xmc(&["explain", "both/member.1", "whale"]));
}

#[test]
fn models_that_do_not_go_together_are_refused() {
    let world = world();
    world.write("data/raw/Y.txt", b"other\nmountains\ncooking\nmusic\nsoftware\ntrade\n");
    world.train(&["--quiet"]).assert().success();
    let cases: [(&[&str], &str); 5] = [
        (&["a", "model", "--out", "x"], "label 0 is `other`, but `sea life`"),
        (&["a", "nowhere", "--out", "x"], "nowhere: no such model folder"),
        (&["a", "b"], "--out"),
        (&["--out", "x"], "<MODEL>"),
        (&["a", "b", "--out", "x", "--combine", "median"], "invalid value 'median'"),
    ];
    for (args, message) in cases {
        let shown = stderr(world.xmc(&["ensemble"]).args(args), 2);
        assert!(shown.contains(message), "{args:?}: {shown}");
    }
    world.write("thesis/chapter", b"1");
    let shown = stderr(&mut world.xmc(&["ensemble", "a", "b", "--out", "thesis"]), 2);
    assert!(shown.contains("thesis"), "{shown}");
    assert!(!world.path("x").exists());
}

#[test]
fn models_of_different_methods_answer_together() {
    let world = world_with_dexml();
    let args = ["train", "xr-linear", "--data", "data", "--out", "trees", "--quiet"];
    world.xmc(&args).assert().success();
    let args = ["ensemble", "model", "trees", "--out", "both", "--combine", "rank-average"];
    world.xmc(&args).assert().success();
    assert_eq!(scores(&world, "both").len(), 6);
}

#[test]
fn an_ensemble_takes_the_place_of_no_member() {
    let world = world();
    world.xmc(&["ensemble", "a", "b", "--out", "both", "--quiet"]).assert().success();
    let before = tree(&world.path(""));
    let mut cases = vec![
        (["a", "b"], "a", "is the member a"),
        (["a", "b"], "./b/../b", "is the member b"),
        (["a", "b"], "a/both", "lies in the member a"),
        (["a", "b"], "a/new/both", "lies in the member a"),
        (["a", "both/member.1"], "both", "holds the member both/member.1"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("a", world.path("link")).unwrap();
        cases.push((["b", "link"], "a", "is the member link"));
        cases.push((["b", "a"], "link/both", "lies in the member a"));
    }
    for ([first, second], out, message) in cases {
        let shown = stderr(&mut world.xmc(&["ensemble", first, second, "--out", out]), 2);
        assert!(shown.contains(message), "{out}: {shown}");
    }
    #[cfg(unix)]
    std::fs::remove_file(world.path("link")).unwrap();
    assert!(tree(&world.path("")) == before, "a refused ensemble changed files");
    // A name that only begins alike is another place, and an ensemble that holds no member is replaced.
    for out in ["ab", "both"] {
        world.xmc(&["ensemble", "a", "b", "--out", out]).assert().success();
    }
}

#[test]
fn names_of_the_data_of_the_members_are_not_repeated() {
    let world = world();
    std::fs::rename(world.path("data"), world.path("others")).unwrap();
    let args = ["train", "xr-linear", "--data", "others", "--out", "c", "--quiet"];
    world.xmc(&args).assert().success();
    world.xmc(&["ensemble", "a", "c", "b", "--out", "all"]).assert().success();
    let table = stdout(&mut world.xmc(&["inspect", "all"]));
    assert!(table.contains("data + others (60 rows)"), "{table}");
}

#[test]
fn features_for_members_that_read_texts_are_refused_in_the_name_of_the_ensemble() {
    let world = world();
    world.xmc(&["ensemble", "a", "b", "--out", "both"]).assert().success();
    let x = xmc_data::Csr::empty(3, 5);
    xmc_data::formats::npz::write(&world.path("x.npz"), &x).unwrap();
    let shown = stderr(&mut world.xmc(&["predict", "both", "--input", "x.npz"]), 2);
    assert!(shown.contains("members of this ensemble read texts"), "{shown}");
}

#[test]
fn damage_in_a_member_is_named() {
    let world = world();
    world.xmc(&["ensemble", "a", "b", "--out", "both"]).assert().success();
    let path = "both/member.1/ranker.0";
    let mut bytes = world.read(path);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.write(path, &bytes);
    let shown = stderr(world.xmc(&["predict", "both"]).write_stdin("whale\n"), 2);
    assert!(shown.contains(path) && shown.contains("damaged"), "{shown}");
}

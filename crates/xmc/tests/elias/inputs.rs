//! Inputs that do not fit are refused before anything is computed, with the file, what it has and what it should have.

use std::path::Path;

use xmc::data::dataset::Dataset;
use xmc::data::formats::npz;
use xmc::data::{Csr, LabelSet};
use xmc::events::Silent;

use crate::toy::{LABELS, Messages, data};
use crate::world::{World, options};

const LATE: &str = "stages=[\"adjacency\",\"stage2\"]";

/// Writes clusters: label l is in cluster `of[l]`, twice if it is there twice.
fn clusters(world: &World, name: &str, of: &[(u32, u32)], rows: usize, cols: usize) -> String {
    let mut members = vec![Vec::new(); rows];
    for &(label, cluster) in of {
        members[cluster as usize].push(label);
    }
    for labels in &mut members {
        labels.sort_unstable();
    }
    let mut indptr = vec![0];
    indptr.extend(members.iter().scan(0u64, |sum, labels| {
        *sum += labels.len() as u64;
        Some(*sum)
    }));
    let ids = members.concat();
    let values = vec![1.0; ids.len()];
    npz::write(&world.out(name), &Csr::new(rows, cols, indptr, ids, values).unwrap()).unwrap();
    world.out(name).display().to_string()
}

#[test]
fn clusters_that_do_not_fit_are_refused_by_name() {
    let world = World::new();
    let good: Vec<(u32, u32)> = (0..LABELS as u32).map(|l| (l, l % 4)).collect();
    let twice = [&good[..], &[(6, 3)]].concat();
    let cases = [
        (clusters(&world, "narrow.npz", &good[..20], 4, 20), "20 columns, expected 24, one for each label"),
        (clusters(&world, "twice.npz", &twice, 4, LABELS), "label 6 is in clusters 2 and 3, expected one"),
        (clusters(&world, "lost.npz", &good[..23], 4, LABELS), "label 23 is in none of the 4 clusters"),
    ];
    for (path, message) in cases {
        let shown = world.refused(&["stages=[\"stage1\"]", &format!("files.clusters={path}")]);
        assert!(shown.contains(&path) && shown.contains(message), "{shown}");
        assert!(!world.out("refused.run").exists(), "a run began");
    }
    let shown = world.refused(&["stages=[\"stage1\"]", "files.clusters=nowhere.npz"]);
    assert!(shown.contains("nowhere.npz"), "{shown}");
    let good = clusters(&world, "good.npz", &good, 4, LABELS);
    let sets = ["stages=[\"stage1\"]", &format!("files.clusters={good}")];
    assert!(world.measured("model", &sets, "P@1") > 50.0);
}

#[test]
fn edges_that_do_not_fit_are_refused_and_lost_labels_told() {
    let world = World::new();
    let edges: Vec<(u32, u32)> =
        (0..LABELS as u32 - 2).flat_map(|l| [(l, l % 4), (l, (l + 1) % 4)]).collect();
    let narrow = clusters(&world, "narrow.npz", &edges, 4, LABELS - 1);
    let shown = world.refused(&["stages=[\"stage2\"]", &format!("files.adjacency={narrow}")]);
    assert!(shown.contains("narrow.npz") && shown.contains("23 columns, expected 24"), "{shown}");
    let (few, heard) = (clusters(&world, "few.npz", &edges, 4, LABELS), Messages::default());
    let sets = ["stages=[\"stage2\"]", &format!("files.adjacency={few}"), "stage2.epochs=1"];
    world.train("model", &sets, &options(), &heard).unwrap();
    assert!(heard.contain("few.npz: no edge leads to 2 labels"));
}

/// The toy with the same number of labels, one of which is another.
fn other(world: World) -> World {
    let Dataset { train, test, .. } = data();
    let names = (0..LABELS).map(|l| if l == 7 { "another".to_owned() } else { format!("c{l} d{}", l % 3) });
    let data = Dataset::new(Path::new("toy"), LabelSet::new(names), train, test).unwrap();
    World { data, ..world }
}

#[test]
fn a_model_of_other_labels_is_an_encoder_and_no_more() {
    let world = World::new();
    let first = ["stages=[\"cluster\",\"stage1\"]", "stage1.epochs=1"];
    world.train("first", &first, &options(), &Silent).unwrap();
    let begun = format!("encoder={}", world.out("first").display());
    world.train("same", &[&begun, LATE, "stage2.epochs=1"], &options(), &Silent).unwrap();

    let world = other(world);
    let shown = world.refused(&[&begun, LATE]);
    assert!(shown.contains("stage1 before adjacency, or a model of elias with these labels"), "{shown}");
    assert!(shown.contains("first is one with other labels"), "{shown}");
    let heard = Messages::default();
    let summary = world.train("next", &[&begun, first[0], first[1]], &options(), &heard).unwrap();
    assert!(heard.contain("first: a model of elias with other labels: only its encoder goes on"));
    assert!(summary.stages.iter().all(|stage| stage.name != "begin"));
}

#[test]
fn edges_of_another_number_of_clusters_are_refused_before_anything_is_computed() {
    let world = World::new();
    let edges: Vec<(u32, u32)> = (0..LABELS as u32).map(|l| (l, l % 4)).collect();
    let path = clusters(&world, "four.npz", &edges, 4, LABELS);
    let file = format!("files.adjacency={path}");
    let message = "four.npz: 4 rows, expected 8, one for each cluster that stage 2 begins with";
    let shown = world.refused(&["stages=[\"cluster\",\"stage1\",\"stage2\"]", &file]);
    assert!(shown.contains(message), "{shown}");
    let first = ["stages=[\"cluster\",\"stage1\"]", "stage1.epochs=1", "train_encoder=false"];
    world.train("first", &first, &options(), &Silent).unwrap();
    let begun = format!("encoder={}", world.out("first").display());
    let shown = world.refused(&[&begun, "stages=[\"stage2\"]", &file]);
    assert!(shown.contains(message), "{shown}");
    assert!(!world.out("refused.run").exists(), "a run began");
    // Other clusters take the place of those of the model: adjacency has nothing to begin with.
    let given = format!("files.clusters={path}");
    let shown = world.refused(&[&begun, LATE, &given]);
    assert!(shown.contains("stage1 before adjacency"), "{shown}");
    // The stage 1 of that model did not learn edges.
    let shown = world.refused(&[&begun, "stages=[\"stage2\"]"]);
    assert!(shown.contains("adjacency before stage2"), "{shown}");
}

#[test]
fn settings_without_what_they_need_say_what_to_add() {
    let world = World::new();
    for (sets, message) in [
        (&["stages=[\"warmup\"]"][..], "cluster before warmup"),
        (&["stages=[\"stage1\"]"], "cluster or recluster before stage1"),
        (&["stages=[\"cluster\",\"stage2\"]"], "adjacency before stage2"),
        (&["stages=[\"cluster\",\"ranker\"]"], "stage1 or stage2 before ranker"),
        (&["validation_rows=160"], "less than 160, the number of training rows"),
        (&["encoder=nowhere"], "nowhere"),
    ] {
        let shown = world.refused(sets);
        assert!(shown.contains(message), "{sets:?}: {shown}");
    }
}

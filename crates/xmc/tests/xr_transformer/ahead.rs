//! What is refused and said before the encoder learns.

use std::sync::Mutex;

use xmc::data::CsrBuilder;
use xmc::data::formats::npz;
use xmc::events::{Events, Silent};
use xmc::methods::TrainOptions;

use crate::toy::{LABELS, ROWS};
use crate::world::{World, options};

#[test]
fn what_only_late_stages_read_is_refused_before_the_run_begins() {
    let world = World::new();
    let (few, others) = (world.out("few.npz"), world.out("others.npz"));
    let matrix = |rows: usize| {
        let mut entries = CsrBuilder::new();
        (0..rows).for_each(|_| entries.push([(0, 1.0)]));
        entries.finish(LABELS).unwrap()
    };
    npz::write(&few, &matrix(3)).unwrap();
    npz::write(&others, &matrix(ROWS)).unwrap();
    let [negatives, relevance, wrong] = [("negatives", &few), ("relevance", &few), ("relevance", &others)]
        .map(|(key, path)| format!("files.{key}={}", path.display()));
    for (sets, expected) in [
        (&["ranker.cost_positive=[1,2,3,4]"][..], "`ranker.cost_positive` = [4 values]: expected one value"),
        (&["do_fine_tune=false", "ranker.threshold=[0.1]"], "for each of the 3 levels"),
        (&["fix_clustering=true", "ranker.threshold=[0.1]"], "for each of the 3 levels"),
        (&["cluster.method=unbalanced", "ranker.threshold=[0.1,0.2]"], "an unbalanced tree is as deep"),
        (&["cluster.max_leaf_size=1"], "`cluster.max_leaf_size` = 1: expected larger groups"),
        (&["preliminary.max_leaf_size=1"], "`preliminary.max_leaf_size` = 1: expected larger groups"),
        (&["training.lr=[0.1]"], "`training.lr` = [1 values]: expected one value, or one for each of the 3"),
        (&["max_match_clusters=3"], "at least 4, the nodes of the first level"),
        (&["label_features.kind=given"], "`files.label_features` = nothing: expected a file"),
        (
            &["ranker.negatives=tfn+usn", &negatives],
            "few.npz: 3 rows; `files.negatives` needs 160, one for each training row",
        ),
        (&["ranker.relevance=induce", &relevance], "few.npz: 3 rows; `files.relevance` needs 160"),
        (
            &["ranker.relevance=induce", &wrong],
            "others.npz: relevance: its entries must be those of the labels",
        ),
    ] {
        let message = world.train("model", sets, &options(), &Silent).unwrap_err().to_string();
        assert!(message.contains(expected), "{sets:?}: {message}");
        assert!(!world.out("model.run").exists(), "{sets:?}");
    }
    let little = TrainOptions { max_memory: Some(1 << 20), ..options() };
    world.train("model", &[], &little, &Silent).unwrap_err();
    assert!(!world.out("model.run").exists());
}

/// The memory that is said.
#[derive(Default)]
struct Memory(Mutex<Vec<String>>);

impl Events for Memory {
    fn message(&self, text: &str) {
        if text.ends_with("of memory") {
            self.0.lock().unwrap().push(text.rsplit(", ").next().unwrap().to_owned());
        }
    }
}

#[test]
fn the_same_memory_is_said_with_and_without_a_limit() {
    let world = World::new();
    let said = |max_memory, sets: &[&str]| {
        let heard = Memory::default();
        world.train("model", sets, &TrainOptions { max_memory, ..options() }, &heard).unwrap();
        heard.0.into_inner().unwrap()
    };
    let sets = ["do_fine_tune=false"];
    let free = said(None, &sets);
    assert_eq!((free.len(), &free), (1, &said(Some(1 << 30), &sets)));
    assert!(free[0] != "0 B of memory", "{free:?}");
}

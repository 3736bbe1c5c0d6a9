use super::*;
use crate::config::{checks, load};

#[test]
fn every_setting_is_documented_and_every_documented_setting_exists() {
    checks::documentation_is_complete::<EliasConfig>();
}

#[test]
fn the_printed_file_gives_the_defaults() {
    checks::printed_file_gives_the_defaults::<EliasConfig>();
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_for_every_setting() {
    checks::wrong_kinds_are_refused::<EliasConfig>();
}

#[test]
fn a_value_out_of_range_is_named_with_its_table_and_option() {
    for (set, expected) in [
        ("max_len=2", "`max_len` = 2: expected a whole number from 3 to 8192"),
        ("index.beam=0", "`index.beam` = 0: expected a whole number, 1 or more"),
        ("index.alpha=0.0", "`index.alpha` = 0: expected a number above 0"),
        ("stage2.label_lr=-1.0", "`stage2.label_lr` = -1: expected a number above 0"),
        (
            "training.embedding_dropout=1.0",
            "`training.embedding_dropout` = 1: expected a number from 0 to less than 1",
        ),
        ("cluster.max_leaf_size=0", "`cluster.max_leaf_size` = 0: expected a whole number, 1 or more"),
        (
            "stages=[\"stage2\",\"stage1\"]",
            "`stages` = [stage2, stage1]: expected one or more of cluster, warmup, recluster, stage1, adjacency, stage2, ranker, in this order",
        ),
    ] {
        assert_eq!(checks::message::<EliasConfig>(set), format!("--set {set}: {expected}"));
    }
}

#[test]
fn settings_that_need_others_say_which() {
    for (set, expected) in [
        ("ranker.calibrate=true", "`validation_rows` = 0: expected rows to learn the calibration from"),
        (
            "warmup.swa_start=6",
            "`warmup.swa_start` = 6: expected no epoch after the last (warmup.epochs = 5)",
        ),
        (
            "head=one-vs-all",
            "expected [stage1], or [stage1, ranker], because only head = \"index\" has clusters",
        ),
    ] {
        let message = checks::message::<EliasConfig>(set);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    checks::are_refused::<EliasConfig>(&[
        "max_len=8193",
        "index.shortlist=0",
        "index.kappa=0",
        "index.frequency_power=-1.0",
        "warmup.epochs=0.0",
        "stage1.loss_lambda=nan",
        "stage1.swa_every=0",
        "training.warmup=1.5",
        "training.weight_decay=1e5",
        "training.batch_size=0",
        "classifier.weights=f16",
        "classifier.moments=none",
        "ranker.top_k=0",
        "stages=[]",
        "stages=[\"cluster\",\"recluster\"]",
        "stages=[\"stage3\"]",
    ]);
}

#[test]
fn the_baselines_have_one_stage_and_classifiers_in_memory() {
    for head in ["one-vs-all", "batch"] {
        let sets = [format!("head={head}"), "stages=[\"stage1\"]".to_owned()];
        assert!(load::<EliasConfig>(None, &sets).is_ok());
        for set in ["classifier.weights=bf16", "classifier.moments=row", "classifier.mapped=true"] {
            let sets = [sets.as_slice(), &[set.to_owned()]].concat();
            let error = load::<EliasConfig>(None, &sets).unwrap_err().to_string();
            assert!(error.contains("because only head = \"index\" has a choice"), "{error}");
        }
    }
}

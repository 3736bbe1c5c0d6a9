//! Stages one after the other: what is out of date is refused, and what is given by other programs is taken.

use std::fs;
use std::path::Path;

use xmc::augment::config::AugmentConfig;
use xmc::augment::pipeline::{Evidence, Pipeline};
use xmc::config;
use xmc::data::dataset::{Dataset, Part};
use xmc::data::{Csr, Strings};
use xmc::events::Silent;

use crate::toy;

/// A run that replays texts which are those of some rows, in the folder `dir`.
fn init(dir: &Path) -> Pipeline<'static> {
    Dataset { test: None, ..toy::data() }.save(&dir.join("data")).unwrap();
    write_texts(dir, toy::LABELS);
    Pipeline::init(&dir.join("run"), settings(dir, &["build.tau=0.6"]).unwrap(), &Silent).unwrap()
}

fn settings(dir: &Path, more: &[&str]) -> xmc::Result<config::Checked<AugmentConfig>> {
    let mut sets = vec![
        format!("data={}", dir.join("data").display()),
        "generator.kind=replay".to_owned(),
        format!("generator.path={}", dir.join("texts.jsonl").display()),
    ];
    sets.extend(more.iter().map(|&set| set.to_owned()));
    config::load(None, &sets)
}

/// For each label the texts of the rows `step`, `2 step` and so on behind its number.
fn write_texts(dir: &Path, step: usize) {
    let rows = texts(&Dataset::open(&dir.join("data")).unwrap());
    let line = |label: usize| {
        let text = |i: usize| rows.get((label + i * step) % rows.len()).to_owned();
        let texts = (1..4).map(text).filter(|text| !text.trim().is_empty());
        let line = |text| format!("{{\"source\": {label}, \"text\": \"{text}\"}}\n");
        texts.map(line).collect::<String>()
    };
    fs::write(dir.join("texts.jsonl"), (0..toy::LABELS).map(line).collect::<String>()).unwrap();
}

fn texts(data: &Dataset) -> Strings {
    data.train.texts.clone().unwrap()
}

fn open(dir: &Path, sets: &[&str]) -> Pipeline<'static> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Pipeline::open(&dir.join("run"), &sets, &Silent).unwrap()
}

#[test]
fn what_was_made_of_something_else_is_refused_by_every_stage() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let run = init(dir);
    run.parse().unwrap();
    run.map().unwrap();
    let built = run.build(None).unwrap();
    assert!(built.new > 0, "{built:?}");
    assert!(run.map().unwrap().resumed > 0);
    let all = |run: &Pipeline<'_>| {
        [
            run.build(None).err(),
            run.sweep(&[0.8], &[], None).err(),
            run.calibrate().err(),
            run.explain(0, 0).err(),
            run.validate(&Evidence::default()).err(),
        ]
    };
    let problems = all(&run).into_iter().flatten().map(|problem| problem.to_string());
    assert_eq!(problems.collect::<Vec<_>>(), [""; 0]);
    // Other texts, other settings of the search, another way to compare.
    write_texts(dir, 5);
    run.parse().unwrap();
    for (run, what) in [
        (open(dir, &[]), "the synthetic texts have changed"),
        (open(dir, &["map.k=12"]), "the synthetic texts have changed"),
    ] {
        for problem in all(&run) {
            let problem = problem.unwrap().to_string();
            assert!(problem.contains(what) && problem.contains("`xmc augment map` again"), "{problem}");
        }
    }
    run.map().unwrap();
    for (set, what) in
        [("map.k=12", "the settings of `map`"), ("encoder.dim=64", "the settings of the encoder")]
    {
        for problem in all(&open(dir, &[set])) {
            assert!(problem.unwrap().to_string().contains(what), "{what}");
        }
    }
    // The matrix is that of the neighbours before.
    for problem in [run.explain(0, 0).err(), run.validate(&Evidence::default()).err()] {
        assert!(problem.unwrap().to_string().contains("`xmc augment build` again"));
    }
    // A matrix is judged by how it was built.
    open(dir, &["build.tau=0.7"]).build(None).unwrap();
    let report = run.validate(&Evidence::default()).unwrap();
    assert_eq!((report.settings.build.tau, report.invariants.violations), (0.7, 0));
}

#[test]
fn a_process_that_dies_between_the_files_of_neighbours_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let run = init(dir.path());
    run.parse().unwrap();
    run.map().unwrap();
    for lost in ["ngbr_scores_mat.npy", "ngbr_indices_mat.npy"] {
        fs::remove_file(dir.path().join("run/map.json")).unwrap();
        fs::remove_file(dir.path().join("run").join(lost)).unwrap();
        assert!(run.build(None).unwrap_err().to_string().contains(lost));
        assert_eq!(run.map().unwrap().resumed, 0);
        run.build(None).unwrap();
    }
}

#[test]
fn texts_of_other_programs_cannot_be_asked_for_and_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = init(dir.path());
    let estimate = run.estimate(false).unwrap();
    assert_eq!((estimate.sources, estimate.prompts, estimate.hours), (toy::LABELS, 0, 0.0));
    let problem = run.teach(5, &dir.path().join("examples")).unwrap_err().to_string();
    assert!(problem.contains("a teacher that can be asked"), "{problem}");
    assert_eq!(run.parse().unwrap().texts, 3 * toy::LABELS);
}

/// S-29: a training row with the text of a test row.
#[test]
fn a_test_row_among_the_training_rows_is_refused_by_number_and_gets_no_pair_if_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = toy::data();
    let planted = format!(" {}  ", texts(&data).get(7).to_uppercase());
    let y = Csr::empty(2, toy::LABELS);
    data.test = Some(Part {
        texts: Some(Strings::new(["of its own", &planted])),
        features: None,
        y,
        filter: Vec::new(),
    });
    data.save(&dir.path().join("data")).unwrap();
    write_texts(dir.path(), 3);
    let run = Pipeline::init(&dir.path().join("run"), settings(dir.path(), &[]).unwrap(), &Silent).unwrap();
    run.parse().unwrap();
    run.map().unwrap();
    let problem = run.build(None).unwrap_err().to_string();
    assert!(problem.contains("row 7") && problem.contains("exclude_test=true"), "{problem}");
    let run = open(dir.path(), &["exclude_test=true", "build.tau=0.6"]);
    let out = dir.path().join("filled");
    assert!(run.build(Some(&out)).unwrap().new > 0);
    let before = &data.train.y;
    assert_eq!(Dataset::open(&out).unwrap().train.y.row(7).indices, before.row(7).indices);
}

#[test]
fn secrets_in_settings_are_neither_written_nor_shown() {
    let dir = tempfile::tempdir().unwrap();
    toy::data().save(&dir.path().join("data")).unwrap();
    let endpoint = "http.url=http://localhost:1/v1";
    for (url, key) in [
        ("http.url=http://user:hunter2@host/v1", "http.key_env=API_KEY"),
        ("http.url=http://host/v1?key=x@hunter2", "http.key_env=API_KEY"),
        (endpoint, "http.key_env=hunter2"),
        (endpoint, "http.key_env=skHunter2"),
    ] {
        let settings = settings(dir.path(), &["generator.kind=http", "http.model=m", url, key]).unwrap();
        let out = dir.path().join("run");
        let problem = Pipeline::init(&out, settings, &Silent).err().unwrap().to_string();
        assert!(problem.contains("http.") && !problem.to_lowercase().contains("hunter2"), "{problem}");
        assert!(!out.exists());
    }
}

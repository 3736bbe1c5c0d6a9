//! Training on the log, on the log with propensity weights, and on the augmented matrix.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use xmc::augment::config::AugmentConfig;
use xmc::augment::pipeline::{Evidence, Pipeline};
use xmc::config;
use xmc::data::Csr;
use xmc::data::dataset::{Dataset, Part};
use xmc::data::metrics::{Propensity, label_counts};
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::events::Silent;
use xmc::methods::TrainOptions;
use xmc::methods::dexml::{self, DexmlConfig};
use xmc::model::Model;

use crate::encoder::of_words;
use crate::world::World;

/// The run of an augmentation in `dir`; its folder holds the world too.
fn augment(world: &World, dir: &Path) -> Pipeline<'static> {
    world.biased.save(&dir.join("data")).unwrap();
    fs::write(dir.join("meta.jsonl"), &world.meta).unwrap();
    let sets = [
        format!("data={}", dir.join("data").display()),
        format!("meta={}", dir.join("meta.jsonl").display()),
        "parse.max_per_item=40".to_owned(),
    ];
    let config = config::load::<AugmentConfig>(None, &sets).unwrap();
    let run = Pipeline::init(&dir.join("run"), config, &Silent).unwrap();
    run.generate(false).unwrap();
    run.parse().unwrap();
    run.map().unwrap();
    run.build(Some(&dir.join("augmented"))).unwrap();
    run
}

/// [unbiased R@10, biased P@1] of the dual encoder trained on `y`, in percent.
fn measured(world: &World, y: Csr, sets: &[&str], dir: &Path) -> [f64; 2] {
    let train = Part { y, ..world.biased.train.clone() };
    let data = Dataset { train, ..world.biased.clone() };
    let encoder = format!("encoder={}", of_words(dir, &world.words).display());
    let quick = ["lr=0.01", "batch_size=64", "max_len=8", "label_max_len=4", "epochs=15", "dropout=false"];
    let more = ["validation=0", "negatives=all", encoder.as_str()];
    let sets: Vec<String> = quick.iter().chain(&more).chain(sets).map(|&set| set.to_owned()).collect();
    let config = config::load::<DexmlConfig>(None, &sets).unwrap();
    let options = TrainOptions { seed: 3, ..TrainOptions::new(dir.join("model")) };
    dexml::train(&data, &config, &options, &Silent).unwrap();
    let model = Model::open(&dir.join("model")).unwrap();
    let complete = data.test.clone().unwrap();
    let biased = Part { y: world.biased_test.clone(), ..complete.clone() };
    [(complete, "R@10"), (biased, "P@1")].map(|(part, metric)| {
        let report = evaluate(&model, &data, &part, &EvaluateOptions::at(&[1, 10])).unwrap();
        report.values.get(metric).unwrap()
    })
}

/// The labels of the log, each as much as it is unlikely to be there.
fn weighted(y: &Csr) -> Csr {
    let inverse = Propensity::default().inverse(&label_counts(y), y.rows());
    let mut weighted = y.clone();
    let labels = y.indices().to_vec();
    weighted.values_mut().iter_mut().zip(labels).for_each(|(value, l)| *value = inverse[l as usize] as f32);
    weighted
}

/// S-20 and S-21: what the log hides systematically comes back by what the pages say, and by no weighting of the log.
#[test]
fn the_augmented_matrix_teaches_what_the_log_hides() {
    let (world, dir) = (World::new(), TempDir::new().unwrap());
    let run = augment(&world, dir.path());
    let augmented = Dataset::open(&dir.path().join("augmented")).unwrap();
    let y = &world.biased.train.y;
    let [plain, plain_biased] = measured(&world, y.clone(), &[], dir.path());
    let [ips, _] = measured(&world, weighted(y), &["value=weight"], dir.path());
    let [skim, skim_biased] = measured(&world, augmented.train.y, &[], dir.path());
    let shown = format!("R@10 {plain:.1} {ips:.1} {skim:.1}, biased P@1 {plain_biased:.1} {skim_biased:.1}");
    println!("{shown}");
    assert!(skim >= plain + 20.0, "{shown}");
    assert!((ips - plain).abs() <= 3.0, "{shown}");
    assert!(plain_biased > 90.0, "{shown}");

    let report = run.validate(&Evidence::default()).unwrap();
    assert_eq!(report.invariants.violations, 0);
    // S-19, with phrases of the pages as texts.
    for hiding in ["uniform", "systematic"] {
        let value = |name: &str| report.value(&format!("recovery.{hiding}.{name}")).unwrap();
        assert!(value("recall") >= 0.8 && value("random") < 0.05, "{:?}", report.recovery);
    }
}

/// Everything that is there is used again, and a sweep embeds and searches nothing.
#[test]
fn what_is_there_is_not_done_again() {
    let (world, dir) = (World::new(), TempDir::new().unwrap());
    let run = augment(&world, dir.path());
    assert_eq!(run.embed().unwrap().computed, 0);
    let again = run.map().unwrap();
    assert_eq!(again.resumed, again.queries);
    let points = run.sweep(&[0.7, 0.8, 0.9], &[2, 10], None).unwrap();
    assert_eq!(points.len(), 6);
    assert!(points[0].report.new >= points[1].report.new && points[1].report.new >= points[2].report.new);
    let opened = Pipeline::open(&dir.path().join("run"), &["build.tau=2".to_owned()], &Silent).unwrap();
    assert_eq!(opened.build(None).unwrap().new, 0);
    let message = Pipeline::open(dir.path(), &[], &Silent).err().unwrap().to_string();
    assert!(message.contains("run.toml") && message.contains("augment init"), "{message}");
}

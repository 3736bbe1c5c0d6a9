//! Several models answer as one.

use std::fs;
use std::path::{Path, PathBuf};

use xmc::config;
use xmc::data::dataset::Dataset;
use xmc::data::topk::ensemble::{EnsembleRule, merge_ranked};
use xmc::data::{LabelSet, TopK};
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::events::Silent;
use xmc::methods::TrainOptions;
use xmc::methods::dexml::{self, DexmlConfig};
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::model::ensemble::ensemble;
use xmc::model::{Model, PredictOptions, Predictor};

use crate::toy::LABELS;
use crate::world::{World, options};

/// An encoder with trees of two seeds.
fn two_seeds(world: &World) -> [PathBuf; 2] {
    [3, 4].map(|seed| {
        let name = format!("seed{seed}");
        let options = TrainOptions { seed, ..options() };
        world.train(&name, &["do_fine_tune=false", "cluster.max_leaf_size=2"], &options, &Silent).unwrap();
        world.out(&name)
    })
}

fn trees(world: &World, data: &Dataset, name: &str) -> PathBuf {
    let config = config::load::<XrLinearConfig>(None, &[]).unwrap();
    xr_linear::train(data, &config, &TrainOptions::new(world.out(name)), &Silent).unwrap();
    world.out(name)
}

fn dual(world: &World, name: &str) -> PathBuf {
    let encoder = format!("encoder={}", world.encoder.display());
    let sets = [encoder, "epochs=1".into(), "max_len=16".into(), "negatives=all".into()];
    let config = config::load::<DexmlConfig>(None, &sets).unwrap();
    dexml::train(&world.data, &config, &TrainOptions::new(world.out(name)), &Silent).unwrap();
    world.out(name)
}

#[test]
fn an_ensemble_merges_what_its_members_propose() {
    let world = World::new();
    let [a, b] = two_seeds(&world);
    let members = [a, trees(&world, &world.data, "trees"), dual(&world, "dual"), b];
    let texts = world.data.train.texts.as_ref().unwrap();
    let answers: Vec<TopK> = members
        .iter()
        .map(|dir| Model::open(dir).unwrap().predict(texts, &PredictOptions::top(50)).unwrap())
        .collect();
    for rule in [
        EnsembleRule::Average,
        EnsembleRule::RankAverage,
        EnsembleRule::SigmoidAverage,
        EnsembleRule::SoftmaxAverage,
        EnsembleRule::RoundRobin,
    ] {
        ensemble(&members, rule, &world.out("all")).unwrap();
        let model = Model::open(&world.out("all")).unwrap();
        assert!(model.reads_texts() && model.ensemble().unwrap().members().len() == 4);
        let asked = PredictOptions { beam_size: Some(10), ..PredictOptions::top(3) };
        let found = model.predict(texts, &asked).unwrap();
        let expected = merge_ranked(&answers, rule, 50, 3).unwrap();
        let mut session = model.session(asked);
        for i in 0..texts.len() {
            assert_eq!(found.row(i), expected.row(i), "{rule:?}");
            assert_eq!(session.text(texts.get(i)).unwrap(), found.row(i), "{rule:?}");
        }
        let wanted = EvaluateOptions::at(&[1]);
        let test = world.data.test.as_ref().unwrap();
        let report = evaluate(&model, &world.data, test, &wanted).unwrap();
        assert!(report.values.get("P@1").unwrap() > 80.0, "{rule:?}");
    }
}

#[test]
fn an_ensemble_stands_alone_and_is_checked_as_a_whole() {
    let world = World::new();
    let members = two_seeds(&world);
    let manifest = ensemble(&members, EnsembleRule::Average, &world.out("both")).unwrap();
    let asked = PredictOptions::top(2);
    let first = |dir: &Path| {
        let model = Model::open(dir).unwrap();
        model.session(asked).text("a1 b5 noise3").unwrap().to_vec()
    };
    let before = first(&world.out("both"));
    for member in &members {
        fs::remove_dir_all(member).unwrap();
    }
    assert_eq!(first(&world.out("both")), before);
    for name in ["member.1/ranker.0", "member.0/model.json", "member.0/encoder/config.json", "labels"] {
        assert!(manifest.has(name), "{name}");
        let path = world.out("both").join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        let message = Model::open(&world.out("both")).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn what_does_not_fit_together_is_named() {
    let world = World::new();
    let [a, b] = two_seeds(&world);
    let message = |members: &[PathBuf], out: &str| {
        ensemble(members, EnsembleRule::Average, &world.out(out)).unwrap_err().to_string()
    };
    let mut names: Vec<String> = world.data.labels.iter().map(str::to_owned).collect();
    names[7] = "another".to_owned();
    let labels = LabelSet::new(&names);
    let other = Dataset::new(Path::new("other"), labels, world.data.train.clone(), None).unwrap();
    let other = trees(&world, &other, "other");
    let said = message(&[a.clone(), other], "bad");
    assert!(said.contains("label 7 is `another`, but `c7 d1` in") && said.contains("seed3"), "{said}");

    ensemble(&[a.clone(), b.clone()], EnsembleRule::Average, &world.out("both")).unwrap();
    let said = message(&[a.clone(), world.out("both")], "bad");
    assert!(said.contains("is an ensemble itself"), "{said}");
    fs::create_dir(world.out("mine")).unwrap();
    fs::write(world.out("mine").join("thesis"), "1").unwrap();
    assert!(message(&[a, b], "mine").contains("is not a model, so it is not overwritten"));
    assert!(message(&[], "none").contains("at least one model"));
    assert!(!world.out("bad").exists() && LABELS > 7);
    // Nobody embeds with several encoders.
    let model = Model::open(&world.out("both")).unwrap();
    assert!(model.into_encoder().unwrap_err().to_string().contains("member.0"));
}

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use xmc_data::formats::npz;
use xmc_nn::tower::Tower;
use xmc_nn::{Device, Precision};

use super::super::config::{Bootstrap, Matching};
use super::super::matcher::HEAD;
use super::super::toy::{LABELS, ROWS, World, all, config};
use super::*;
use crate::events::Silent;
use crate::methods::classifier::load_weights;

/// Every file that the run `name` left, but for the records of its stages, which hold seconds.
fn files(world: &World, name: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if !path.ends_with("stage.json") && !path.ends_with("lock") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&world.run(name), &world.run(name), &mut found);
    found
}

/// The share of rows with labels whose best leaf is one of theirs: of all leaves, or of `siblings` of theirs.
fn precision(world: &World, encoder: &Path, siblings: bool) -> f64 {
    let tower = Tower::open(encoder, world.start.tower, Device::Cpu, Precision::F32).unwrap();
    let (cols, head) = load_weights(&encoder.parent().unwrap().join(HEAD)).unwrap();
    let rows: Vec<u32> = (0..ROWS as u32).collect();
    let x = tower.embed_rows(&world.tokens, &rows, 1000, &|_, _| {}).unwrap();
    let (mut right, mut all) = (0, 0);
    let parents = &targets::levels(&world.y, &world.tree, None).unwrap()[2];
    let of_leaf = world.tree.parents(3);
    for (i, x) in x.host().chunks_exact(cols - 1).enumerate() {
        let score = |row: &[f32]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + row[cols - 1];
        let scores: Vec<f32> = head.chunks_exact(cols).map(score).collect();
        assert_eq!(scores.len(), LABELS as usize);
        let labels = world.y.row(i);
        if labels.is_empty() {
            continue;
        }
        let candidate = |leaf: &usize| !siblings || parents.row(i).get(of_leaf[*leaf]) > 0.0;
        let best =
            (0..scores.len()).filter(candidate).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        all += 1;
        right += u32::from(labels.get(world.tree.labels()[best]) > 0.0);
    }
    f64::from(right) / f64::from(all)
}

#[test]
fn an_encoder_that_knows_nothing_learns_to_tell_the_labels_apart() {
    let world = World::new();
    for (bootstrap, negatives, ensemble) in [
        (Bootstrap::WeightedLinear, "tfn", Matching::TransformerOnly),
        (Bootstrap::Linear, "tfn+man", Matching::ConcatOnly),
        (Bootstrap::Inherit, "man", Matching::Average),
        (Bootstrap::None, "tfn+man", Matching::RankAverage),
        (Bootstrap::None, "man", Matching::RoundRobin),
    ] {
        let mut config = config();
        config.training.bootstrap = bootstrap;
        config.training.negatives = all(negatives.to_owned().try_into().unwrap());
        // All nodes of a level: no leaf is left without negatives from elsewhere.
        (config.matcher.ensemble, config.matcher.top_k) = (all(ensemble), all(6));
        config.matcher.relevance = ensemble == Matching::ConcatOnly;
        config.training.epochs = all(16.0);
        let encoder = world.learn("x", &config, false, &Silent).unwrap();
        let found = precision(&world, &encoder, negatives == "tfn");
        assert!(found >= 0.9, "{bootstrap:?} {negatives}: {found}");
        for t in 1..=3 {
            assert!(!world.run("x").join(format!("level.{t}.ongoing")).exists());
        }
        let (linear, man) =
            (bootstrap != Bootstrap::Inherit && bootstrap != Bootstrap::None, negatives != "tfn");
        assert_eq!(world.run("x").join("match.2/embeddings.npy").exists(), linear);
        assert_eq!(world.run("x").join("match.1/shortlist.npz").exists(), man);
        assert!(!world.run("x").join("match.3").exists());
    }
}

#[test]
fn a_shortlist_holds_the_best_paths_of_the_tree() {
    let world = World::new();
    let mut config = config();
    config.training.negatives = all("tfn+man".to_owned().try_into().unwrap());
    config.training.epochs = all(2.0);
    config.matcher.top_k = all(2);
    world.learn("x", &config, false, &Silent).unwrap();
    let p = config.matcher.post_processor.values()[0];
    let mut above: Option<Csr> = None;
    for t in 1..=2 {
        let level = world.run("x").join(format!("level.{t}"));
        let found = npz::read(&world.run("x").join(format!("match.{t}/shortlist.npz"))).unwrap();
        let tower =
            Tower::open(&level.join(ENCODER), world.start.tower, Device::Cpu, Precision::F32).unwrap();
        let (cols, head) = load_weights(&level.join(HEAD)).unwrap();
        for i in 0..ROWS {
            let x = tower.embed(&world.tokens.batch(&[i as u32])).unwrap();
            let parents: Vec<(u32, f32)> =
                above.as_ref().map_or(vec![(0, 1.0)], |above| above.row(i).iter().collect());
            let mut scores = Vec::new();
            for (parent, score) in parents {
                for node in world.tree.children(t - 1, parent as usize) {
                    let row = &head[node * cols..(node + 1) * cols];
                    let margin = row.iter().zip(x.host()).map(|(w, x)| w * x).sum::<f32>() + row[cols - 1];
                    scores.push((node as u32, score * p.transform(margin)));
                }
            }
            scores.sort_by(|a, b| b.1.total_cmp(&a.1));
            let mut best: Vec<u32> = scores[..2].iter().map(|node| node.0).collect();
            best.sort_unstable();
            assert_eq!(found.row(i).indices, best, "level {t}, row {i}");
            for (node, score) in found.row(i).iter() {
                let want = scores.iter().find(|other| other.0 == node).unwrap().1;
                assert!((score - want).abs() < 1e-4, "{score} {want}");
            }
        }
        above = Some(found);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let world = World::new();
    let mut config = config();
    config.training.negatives = all("tfn+man".to_owned().try_into().unwrap());
    config.matcher.ensemble = all(Matching::Average);
    (config.training.epochs, config.training.dropout) = (all(2.0), true);
    (config.training.max_active, config.training.tokens_per_batch) = (4, 40);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| world.learn(&threads.to_string(), &config, false, &Silent)).unwrap();
    }
    let (one, three) = (files(&world, "1"), files(&world, "3"));
    assert!(
        one.contains_key("level.3/encoder/model.safetensors") && one.contains_key("match.2/shortlist.npz")
    );
    assert_eq!(one.keys().collect::<Vec<_>>(), three.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(bytes == &three[name], "{name}");
    }
}

/// Dies when so many steps of a stage are done, and remembers with which step of it it began.
struct Mortal {
    stage: &'static str,
    death: u64,
    first: AtomicU64,
    present: Mutex<String>,
}

impl Mortal {
    fn new(stage: &'static str, death: u64) -> Self {
        Mortal { stage, death, first: AtomicU64::new(u64::MAX), present: Mutex::default() }
    }
}

impl Events for Mortal {
    fn stage_started(&self, name: &str) {
        name.clone_into(&mut self.present.lock().unwrap());
    }

    fn progress(&self, done: u64, total: u64) {
        let here = *self.present.lock().unwrap() == self.stage;
        // Others count nodes and tokens; a level has 12 steps.
        if here && total == 12 {
            self.first.fetch_min(done, Ordering::Relaxed);
            assert!(done < self.death, "power cut");
        }
    }
}

#[test]
fn an_interrupted_level_ends_with_the_same_bits() {
    let world = World::new();
    let mut config = config();
    config.training.negatives = all("tfn+man".to_owned().try_into().unwrap());
    // Weights that decay only when touched, and rows that some steps do not touch.
    (config.training.weight_decay, config.training.max_active, config.training.dropout) = (0.5, 2, true);
    config.training.max_steps = all(12);
    world.learn("whole", &config, false, &Silent).unwrap();
    let whole = files(&world, "whole");
    for (minutes, born) in [(0.0, [1, 7, 1, 10]), (9.0, [1, 1, 1, 1])] {
        config.training.checkpoint_minutes = minutes;
        let lives = [("level.1", 6), ("level.1", 99), ("level.2", 9), ("level.2", 99)];
        for (i, (stage, death)) in lives.into_iter().enumerate() {
            // The second and fourth live until the next level.
            let life = Mortal::new(stage, death);
            let last = catch_unwind(AssertUnwindSafe(|| world.learn("cut", &config, i > 0, &life)));
            assert_eq!(last.is_err(), death < 99);
            assert_eq!(life.first.into_inner(), born[i], "{stage} {minutes}");
            if death == 99 && stage == "level.1" {
                // What came after is done again.
                for gone in ["match.1", "level.2", "match.2", "level.3"] {
                    fs::remove_dir_all(world.run("cut").join(gone)).unwrap();
                }
            }
        }
        let cut = files(&world, "cut");
        assert_eq!(whole.keys().collect::<Vec<_>>(), cut.keys().collect::<Vec<_>>());
        for (name, bytes) in &whole {
            assert!(bytes == &cut[name], "{name}");
        }
    }
}

#[test]
fn a_loss_that_is_no_number_comes_with_advice() {
    let world = World::new();
    let mut config = config();
    (config.training.lr, config.training.warmup_steps) = (all(1e30), all(0));
    let message = world.learn("x", &config, false, &Silent).unwrap_err().to_string();
    assert!(
        message.contains("level 1, step 1: the loss is") && message.contains("lower training.lr"),
        "{message}"
    );
}

#[test]
fn a_last_step_that_diverges_does_not_end_the_level() {
    let world = World::new();
    let mut config = config();
    (config.training.lr, config.training.warmup_steps) = (all(1e30), all(0));
    config.training.max_steps = all(1);
    let message = world.learn("x", &config, false, &Silent).unwrap_err().to_string();
    assert!(
        message.contains("level 1, step 1: the encoder or its head") && message.contains("lower training.lr"),
        "{message}"
    );
    assert!(!world.run("x").join("level.1").exists());
}

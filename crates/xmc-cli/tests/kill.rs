//! A process that is killed at any moment: what lies at its target is old or new, never half, and doing it again ends
//! as if nothing had happened.
//!
//! Moments are spread over the time that an uninterrupted run takes. Nothing depends on hitting a certain one: a
//! process that was done before its moment came is started again and killed earlier.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cli/tiny_encoder.rs"]
mod tiny_encoder;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tiny_encoder::write_tiny_encoder;

const LABELS: u64 = 300;

const TRAIN: [&str; 10] = [
    "train",
    "xr-linear",
    "--data",
    "data",
    "--set",
    "trees=3",
    "--set",
    "cluster.max_leaf_size=20",
    "--out",
    "model",
];

/// Files of a folder and of those in it, with their bytes.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// Numbers that look random and are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// `n` moments of a run that takes `whole`: one in each n-th part of it.
    fn moments(&mut self, whole: Duration, n: u32) -> Vec<Duration> {
        (0..n).map(|i| whole * (1000 * i + self.below(1000) as u32) / (1000 * n)).collect()
    }

    /// A text with words of its two labels among others.
    fn row(&mut self) -> (String, [u64; 2]) {
        let first = self.below(LABELS);
        let second = (first + 1 + self.below(LABELS - 1)) % LABELS;
        let mut text = String::new();
        for word in 0..12 {
            let label = if word % 2 == 0 { first } else { second };
            write!(text, "own{}x{} any{} ", label, self.below(6), self.below(3000)).unwrap();
        }
        (text, [first.min(second), first.max(second)])
    }
}

struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        World { dir: tempfile::tempdir().unwrap() }
    }

    /// A world with the folder `data`.
    fn with_data() -> Self {
        let world = World::new();
        fs::create_dir_all(world.path("data/raw")).unwrap();
        let mut dice = Dice(1);
        for (side, rows) in [("trn", 1500), ("tst", 100)] {
            let (mut texts, mut labels) = (String::new(), format!("{rows} {LABELS}\n"));
            for _ in 0..rows {
                let (text, [a, b]) = dice.row();
                writeln!(texts, "{text}").unwrap();
                writeln!(labels, "{a}:1 {b}:1").unwrap();
            }
            fs::write(world.path(&format!("data/raw/{side}_X.txt")), texts).unwrap();
            fs::write(world.path(&format!("data/Y.{side}.txt")), labels).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn xmc(&self, args: &[&str]) -> Command {
        let mut xmc = Command::new(env!("CARGO_BIN_EXE_xmc"));
        xmc.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        xmc
    }

    /// Runs to the end, which must be a good one; returns how long that took.
    fn finish(&self, args: &[&str]) -> Duration {
        let start = Instant::now();
        let output = self.xmc(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        start.elapsed()
    }

    /// Starts and kills `after` a while. If it was done by then, undoes it with `reset` and kills the next one earlier.
    fn kill(&self, args: &[&str], mut after: Duration, reset: &dyn Fn()) {
        loop {
            let mut child = self.xmc(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            sleep(after);
            child.kill().unwrap();
            // A code means that it had ended by itself.
            match child.wait().unwrap().code() {
                None => return,
                Some(code) => assert_eq!(code, 0, "{args:?}"),
            }
            reset();
            after /= 2;
        }
    }

    fn inspect(&self, name: &str) {
        self.finish(&["inspect", name]);
    }

    /// Everything in the world, hidden or not.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn contents(dir: &Path) -> Contents {
    let mut files = Contents::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

/// Makes `dir` hold `files` and nothing else.
fn restore(dir: &Path, files: &Contents) {
    fs::remove_dir_all(dir).unwrap();
    fs::create_dir(dir).unwrap();
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

fn remove_folder(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn a_training_killed_at_any_of_twenty_moments_resumes_to_the_same_bytes() {
    let world = World::with_data();
    let model = world.path("model");
    let resume = [&TRAIN[..], &["--resume"]].concat();
    let clear = || remove_folder(&model);
    let took = world.finish(&TRAIN);
    let whole = contents(&model);
    for (i, after) in Dice(2).moments(took, 20).into_iter().enumerate() {
        clear();
        world.kill(&TRAIN, after, &clear);
        if i % 3 == 0 {
            // What goes on is killed as well.
            world.kill(&resume, took / 3, &clear);
        }
        if model.exists() {
            world.inspect("model");
            assert!(contents(&model) == whole, "moment {i}: another model before resuming");
        }
        world.finish(&resume);
        assert!(contents(&model) == whole, "moment {i}: another model after resuming");
        assert_eq!(world.names(), ["data", "model"], "moment {i}");
    }
}

#[test]
fn an_old_model_stays_in_its_place_until_the_new_one_takes_it() {
    let world = World::with_data();
    let model = world.path("model");
    let train = [&TRAIN[..], &["--seed", "2"]].concat();
    let resume = [&train[..], &["--resume"]].concat();
    let took = world.finish(&train);
    let new = contents(&model);
    world.finish(&TRAIN);
    let old = contents(&model);
    let manifest = model.join("model.json");
    assert!(old[&manifest] != new[&manifest]);
    for (i, after) in Dice(3).moments(took, 8).into_iter().enumerate() {
        restore(&model, &old);
        world.kill(&train, after, &|| restore(&model, &old));
        world.inspect("model");
        let found = contents(&model);
        assert!(found == old || found == new, "moment {i}: neither the old model nor the new one");
        let mut child = world.xmc(&resume).stderr(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            let found = fs::read(&manifest).unwrap();
            assert!(found == old[&manifest] || found == new[&manifest], "moment {i}: a mixture");
        }
        assert!(child.wait().unwrap().success());
        assert!(contents(&model) == new, "moment {i}: another model after resuming");
        assert_eq!(world.names(), ["data", "model"], "moment {i}");
    }
}

#[test]
fn a_killed_import_leaves_no_folder_or_a_complete_one() {
    let world = World::new();
    let mut table = String::from("text,labels\n");
    let mut dice = Dice(4);
    for _ in 0..8000 {
        let (text, [a, b]) = dice.row();
        writeln!(table, "{text},label{a};label{b}").unwrap();
    }
    fs::write(world.path("rows.csv"), table).unwrap();
    let import = ["import", "rows.csv", "--out", "imported", "--test-fraction", "0.2", "--pack", "gz"];
    let imported = world.path("imported");
    let clear = || remove_folder(&imported);
    let took = world.finish(&import);
    let whole = contents(&imported);
    for (i, after) in dice.moments(took, 10).into_iter().enumerate() {
        clear();
        world.kill(&import, after, &clear);
        if imported.exists() {
            assert!(contents(&imported) == whole, "moment {i}: half a folder");
            clear();
        }
        world.finish(&import);
        assert!(contents(&imported) == whole, "moment {i}");
        assert_eq!(world.names(), ["imported", "rows.csv"], "moment {i}");
    }
}

#[test]
fn a_killed_prediction_leaves_the_old_file_or_a_complete_one() {
    let world = World::with_data();
    world.finish(&TRAIN);
    let mut dice = Dice(5);
    let texts: Vec<String> = (0..20_000).map(|_| dice.row().0).collect();
    fs::write(world.path("texts.txt"), texts.join("\n")).unwrap();
    let predict = ["predict", "model", "--input", "texts.txt", "--output", "answers.jsonl"];
    let answers = world.path("answers.jsonl");
    let took = world.finish(&predict);
    let whole = fs::read(&answers).unwrap();
    for (i, after) in dice.moments(took, 10).into_iter().enumerate() {
        let reset = || {
            fs::remove_file(&answers).unwrap();
            if i % 2 == 0 {
                fs::write(&answers, "old").unwrap();
            }
        };
        reset();
        world.kill(&predict, after, &reset);
        match fs::read(&answers) {
            Ok(found) => assert!(found == whole || found == b"old" && i % 2 == 0, "moment {i}: half a file"),
            Err(_) => assert!(i % 2 == 1, "moment {i}: the old file is gone"),
        }
        world.finish(&predict);
        assert!(fs::read(&answers).unwrap() == whole, "moment {i}");
        assert_eq!(world.names(), ["answers.jsonl", "data", "model", "texts.txt"], "moment {i}");
    }
}

/// Seconds of two trainings differ, and with them the curves and the manifest that knows their checksum.
fn without_times(dir: &Path) -> Contents {
    let mut files = contents(dir);
    files.retain(|path, _| !["curves.jsonl", "model.json"].iter().any(|name| path.ends_with(name)));
    files
}

/// Kills trainings that begin with an encoder, with `sets`, at ten moments, and compares what they end with.
fn tuning_killed(method: &str, sets: &[&str]) {
    let world = World::with_data();
    write_tiny_encoder(&world.path("encoder"));
    let mut train = vec!["train", method, "--data", "data", "--encoder", "encoder", "--out", "model"];
    train.extend(sets.iter().flat_map(|set| ["--set", set]));
    let resume = [&train[..], &["--resume"]].concat();
    let model = world.path("model");
    let clear = || remove_folder(&model);
    let took = world.finish(&train);
    let whole = without_times(&model);
    assert!(whole.keys().any(|path| path.ends_with("model.safetensors")));
    for (i, after) in Dice(6).moments(took, 10).into_iter().enumerate() {
        clear();
        world.kill(&train, after, &clear);
        if i % 3 == 0 {
            // What goes on is killed as well.
            world.kill(&resume, took / 3, &clear);
        }
        world.finish(&resume);
        assert!(without_times(&model) == whole, "moment {i}: another model after resuming");
        assert_eq!(world.names(), ["data", "encoder", "model"], "moment {i}");
    }
}

#[test]
fn a_tuning_killed_at_any_of_ten_moments_resumes_to_the_same_bytes() {
    let sets = [
        "max_len=16",
        "preliminary.max_leaf_size=20",
        "preliminary.branching=4",
        "cluster.max_leaf_size=20",
        "training.max_steps=12",
        "training.batch_size=16",
        "training.warmup_steps=2",
        "training.negatives=tfn+man",
        "training.checkpoint_minutes=0.0",
    ];
    tuning_killed("xr-transformer", &sets);
}

#[test]
fn an_index_killed_at_any_of_ten_moments_of_its_training_resumes_to_the_same_bytes() {
    let sets = [
        "max_len=16",
        "cluster.max_leaf_size=20",
        "index.beam=4",
        "index.kappa=40",
        "training.batch_size=16",
        "warmup.epochs=0.1",
        "stage1.epochs=0.2",
        "stage2.epochs=0.2",
        "training.checkpoint_minutes=0.0",
        "classifier.mapped=true",
        "stages=[\"cluster\",\"warmup\",\"recluster\",\"stage1\",\"adjacency\",\"stage2\",\"ranker\"]",
    ];
    tuning_killed("elias", &sets);
}

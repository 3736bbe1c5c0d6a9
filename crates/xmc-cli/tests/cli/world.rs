//! A folder of its own for every test, with a tiny dataset and, on request, a model of it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

/// Subjects and words that give them away; a text has the words of its labels and some that say nothing.
const SUBJECTS: [(&str, &str); 6] = [
    ("sea life", "whale coral tide"),
    ("mountains", "summit glacier ridge"),
    ("cooking", "oven butter recipe"),
    ("music", "violin chord rhythm"),
    ("software", "compiler thread packet"),
    ("trade", "tariff market invoice"),
];
const FILLER: [&str; 5] = ["history", "report", "about", "small", "general"];

pub(crate) struct World {
    dir: TempDir,
}

impl World {
    /// 60 training rows, 12 test rows, 6 labels.
    pub(crate) fn new() -> Self {
        let world = World { dir: tempfile::tempdir().unwrap() };
        world.write("data/raw/Y.txt", SUBJECTS.map(|(name, _)| name).join("\n").as_bytes());
        for (side, rows, seed) in [("trn", 60, 0), ("tst", 12, 7)] {
            let (mut texts, mut labels) = (String::new(), format!("{rows} {}\n", SUBJECTS.len()));
            for i in 0..rows {
                let (a, b) = ((i + seed) % SUBJECTS.len(), (i + i / SUBJECTS.len() + seed) % SUBJECTS.len());
                let (filler, word) = (FILLER[(i * 7 + seed) % FILLER.len()], FILLER[i % FILLER.len()]);
                writeln!(texts, "{} {filler} {} {word}", SUBJECTS[a].1, SUBJECTS[b].1).unwrap();
                let mut ids = vec![a, b];
                ids.sort_unstable();
                ids.dedup();
                let ids: Vec<String> = ids.iter().map(|l| format!("{l}:1")).collect();
                writeln!(labels, "{}", ids.join(" ")).unwrap();
            }
            world.write(&format!("data/raw/{side}_X.txt"), texts.as_bytes());
            world.write(&format!("data/Y.{side}.txt"), labels.as_bytes());
        }
        world
    }

    /// The same with a model `model` of two levels.
    pub(crate) fn with_model() -> Self {
        let world = World::new();
        world.train(&[]).assert().success();
        world
    }

    /// `xmc train` with small groups, so that there is a tree to search.
    pub(crate) fn train(&self, more: &[&str]) -> Command {
        let mut xmc = self.xmc(&["train", "xr-linear", "--data", "data", "--out", "model"]);
        xmc.args(["--set", "cluster.max_leaf_size=2"]).args(more);
        xmc
    }

    /// The program, started in the folder.
    pub(crate) fn xmc(&self, args: &[&str]) -> Command {
        let mut xmc = Command::cargo_bin("xmc").unwrap();
        xmc.current_dir(self.dir.path()).args(args);
        xmc
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// Names and contents of all files of a folder, sorted.
pub(crate) fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// What a finished command wrote to stdout.
pub(crate) fn stdout(xmc: &mut Command) -> String {
    String::from_utf8(xmc.assert().success().get_output().stdout.clone()).unwrap()
}

/// What a command that must end with `code` wrote to stderr.
pub(crate) fn stderr(xmc: &mut Command, code: i32) -> String {
    let output = xmc.assert().code(code).get_output().clone();
    assert!(code != 2 || output.stdout.is_empty(), "an error is no data");
    String::from_utf8(output.stderr).unwrap()
}

//! How is long work cut so that nothing finished is lost?
//!
//! A run has named stages. The result of a finished stage lies in the run directory `OUT.run/` beside the output; a
//! run that resumes loads it instead of working again. Results are written aside and renamed, so a process that dies at
//! any moment leaves a stage finished or not begun. The directory disappears when the run succeeds.
//!
//! Results are only taken from a run with the same method, configuration, seed and data, by the same version of this
//! program: all of this is the [`Identity`] in `run.json`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xmc_data::formats::atomic::write_atomically;

use crate::error::{Error, Result};
use crate::events::{Events, StageReport};
use crate::memory;

/// What a stage produces.
pub trait Artifact: Sized {
    /// Writes the result into the existing, empty folder `dir`.
    fn save(&self, dir: &Path) -> Result<()>;
    /// Reads back exactly what `save` wrote.
    fn load(dir: &Path) -> Result<Self>;
}

/// What must agree for one run to continue another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of this program.
    pub version: String,
    /// Name of the method.
    pub method: String,
    /// The full configuration.
    pub config: serde_json::Value,
    /// Seed of every random choice.
    pub seed: u64,
    /// Fingerprint of the training data.
    pub data: String,
}

impl Identity {
    /// What differs from `earlier`, in words; `None` if nothing does.
    fn difference(&self, earlier: &Identity) -> Option<&'static str> {
        [
            (self.version != earlier.version, "it was made by another version of this program"),
            (self.method != earlier.method, "it trained another method"),
            (self.data != earlier.data, "the data changed"),
            (self.config != earlier.config, "the settings changed"),
            (self.seed != earlier.seed, "the seed changed"),
        ]
        .iter()
        .find_map(|(differs, words)| differs.then_some(*words))
    }
}

/// A run in progress.
pub struct Run<'e> {
    dir: PathBuf,
    events: &'e dyn Events,
    reports: Vec<StageReport>,
    /// Held open: the lock ends with the process, however it ends.
    _lock: File,
}

impl<'e> Run<'e> {
    /// Opens the run directory of `out`. With `resume`, finished stages of an identical earlier run stay.
    pub fn start(out: &Path, identity: &Identity, resume: bool, events: &'e dyn Events) -> Result<Self> {
        let dir = directory(out)?;
        fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        let lock = lock(&dir)?;
        let record = dir.join("run.json");
        let earlier = fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // As it reads back: a number may lose its last bit on the way through a file.
        let expected = read_back(identity)?;
        let reason = match &earlier {
            None if resume => Some("there is no unfinished run"),
            Some(_) if !resume => Some("an unfinished run was found, and --resume was not given"),
            None => None,
            Some(earlier) => expected.difference(earlier),
        };
        if let Some(reason) = reason {
            events.message(&format!("{}: {reason}; starting from the beginning", dir.display()));
        }
        let run = Run { dir, events, reports: Vec::new(), _lock: lock };
        if reason.is_some() || earlier.is_none() {
            run.clear()?;
            write_json(&record, identity)?;
        }
        Ok(run)
    }

    /// Does `work` once and keeps its result, or loads the result that an earlier run kept.
    ///
    /// `name` becomes a folder name: letters, digits, `-` and `.`.
    pub fn stage<T: Artifact>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.events.stage_started(name);
        let dir = self.dir.join(name);
        let record = dir.join("stage.json");
        if let Some(report) =
            fs::read(&record).ok().and_then(|b| serde_json::from_slice::<StageReport>(&b).ok())
        {
            match T::load(&dir) {
                Ok(result) => {
                    self.finish(StageReport { resumed: true, ..report });
                    return Ok(result);
                }
                Err(problem) => self.events.message(&format!("stage {name} is done again: {problem}")),
            }
        }
        let start = Instant::now();
        let result = work()?;
        let aside = self.dir.join(format!("{name}.part"));
        remove(&aside)?;
        fs::create_dir(&aside).map_err(Error::io(&aside))?;
        result.save(&aside)?;
        let report = StageReport {
            name: name.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
            peak_memory: memory::peak(),
            resumed: false,
        };
        write_json(&aside.join("stage.json"), &report)?;
        remove(&dir)?;
        fs::rename(&aside, &dir).map_err(Error::io(&dir))?;
        self.finish(report);
        Ok(result)
    }

    fn finish(&mut self, report: StageReport) {
        self.events.stage_finished(&report);
        self.reports.push(report);
    }

    /// Whether an earlier run, or this one, has finished stage `name`. Its result may still turn out to be damaged.
    pub fn has(&self, name: &str) -> bool {
        self.dir.join(name).join("stage.json").is_file()
    }

    /// Where the results of stage `name` lie once it is finished.
    pub fn stage_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A folder in the run directory for something that is not a stage.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        remove(&dir)?;
        fs::create_dir(&dir).map_err(Error::io(&dir))?;
        Ok(dir)
    }

    /// A folder in which the unfinished stage `name` keeps what it needs to be continued. A run that resumes finds it as
    /// it was left; the stage removes it when its result is safe.
    pub fn ongoing(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(format!("{name}.ongoing"));
        create(&dir)?;
        Ok(dir)
    }

    /// Ends a successful run: its directory is removed. Returns what every stage took.
    pub fn succeed(self) -> Result<Vec<StageReport>> {
        remove(&self.dir)?;
        Ok(self.reports)
    }

    /// Removes everything in the run directory but the lock.
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(Error::io(&self.dir))? {
            let path = entry.map_err(Error::io(&self.dir))?.path();
            if !path.ends_with("lock") {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// The sole right to change an output without a run of stages, until it is dropped. It is the lock of a run, so a
/// training for the same output waits for it too.
pub(crate) struct Claim {
    dir: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims `out`; an error if another process works on it.
    pub(crate) fn new(out: &Path) -> Result<Self> {
        let dir = directory(out)?;
        create(&dir)?;
        let lock = lock(&dir)?;
        Ok(Claim { dir, _lock: lock })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // An unfinished training may lie there: only an empty folder goes.
        let _ = fs::remove_file(self.dir.join("lock"));
        let _ = fs::remove_dir(&self.dir);
    }
}

/// `models/tags` to `models/tags.run`.
fn directory(out: &Path) -> Result<PathBuf> {
    let Some(name) = out.file_name() else {
        return Err(Error::file(out, "expected the name of a new folder for --out"));
    };
    let mut name = name.to_owned();
    name.push(".run");
    Ok(out.with_file_name(name))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::file(dir, "another process is working on this; wait for it or choose another --out"))
        }
        Err(TryLockError::Error(problem)) => Err(Error::io(&path)(problem)),
    }
}

/// Makes a folder if it is not there.
pub(crate) fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io(dir))
}

/// Removes a file or a folder if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(problem)),
        _ => Ok(()),
    }
}

fn read_back(identity: &Identity) -> Result<Identity> {
    let mismatch = |e: serde_json::Error| Error::Mismatch(e.to_string());
    serde_json::from_slice(&serde_json::to_vec(identity).map_err(mismatch)?).map_err(mismatch)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|e| Error::Mismatch(e.to_string()))?;
    Ok(write_atomically(path, |file| file.write_all(&json).map_err(xmc_data::Error::io(path)))?)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;

    use super::*;
    use crate::events::Silent;

    struct Number(u32);

    impl Artifact for Number {
        fn save(&self, dir: &Path) -> Result<()> {
            let path = dir.join("number");
            fs::write(&path, self.0.to_string()).map_err(Error::io(&path))
        }

        fn load(dir: &Path) -> Result<Self> {
            let path = dir.join("number");
            let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
            text.parse().map(Number).map_err(|_| Error::file(&path, "not a number"))
        }
    }

    #[derive(Default)]
    struct Messages(Mutex<Vec<String>>);

    impl Events for Messages {
        fn message(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    fn identity(seed: u64) -> Identity {
        let (version, method, data) = ("1".into(), "m".into(), "d".into());
        Identity { version, method, config: serde_json::json!({ "a": 1 }), seed, data }
    }

    #[test]
    fn a_finished_stage_is_not_done_again_and_an_unfinished_one_is() {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("model");
        let worked = Cell::new(0);
        let attempt = |fail: bool| -> Result<u32> {
            let mut run = Run::start(&out, &identity(1), true, &Silent)?;
            let first = run.stage("first", || {
                worked.set(worked.get() + 1);
                Ok(Number(7))
            })?;
            let second = run.stage("second", || {
                if fail { Err(Error::Mismatch("power cut".into())) } else { Ok(Number(first.0 + 1)) }
            })?;
            let reports = run.succeed()?;
            assert_eq!(reports.iter().map(|r| r.resumed).collect::<Vec<_>>(), [true, false]);
            Ok(second.0)
        };
        assert!(attempt(true).is_err());
        assert_eq!(attempt(false).unwrap(), 8);
        assert_eq!(worked.get(), 1);
        assert!(!tmp.path().join("model.run").exists());
    }

    #[test]
    fn another_seed_does_not_reuse_results_and_says_why() {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("model");
        let mut run = Run::start(&out, &identity(1), false, &Silent).unwrap();
        run.stage("first", || Ok(Number(1))).unwrap();
        drop(run);
        let messages = Messages::default();
        let mut run = Run::start(&out, &identity(2), true, &messages).unwrap();
        assert_eq!(run.stage("first", || Ok(Number(2))).unwrap().0, 2);
        assert!(messages.0.lock().unwrap()[0].contains("the seed changed"));
    }

    #[test]
    fn settings_with_long_fractions_are_recognised() {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("model");
        for numerator in 0..100 {
            let config = serde_json::json!({ "lr": numerator as f32 / 100.0 });
            let identity = Identity { config, ..identity(1) };
            drop(Run::start(&out, &identity, false, &Silent).unwrap());
            let messages = Messages::default();
            drop(Run::start(&out, &identity, true, &messages).unwrap());
            assert_eq!(messages.0.into_inner().unwrap(), [""; 0]);
        }
    }

    #[test]
    fn a_damaged_result_is_made_again() {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("model");
        let mut run = Run::start(&out, &identity(1), false, &Silent).unwrap();
        run.stage("first", || Ok(Number(1))).unwrap();
        fs::write(run.stage_dir("first").join("number"), "junk").unwrap();
        drop(run);
        let mut run = Run::start(&out, &identity(1), true, &Silent).unwrap();
        assert_eq!(run.stage("first", || Ok(Number(3))).unwrap().0, 3);
    }

    #[test]
    fn two_processes_cannot_share_a_run() {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("model");
        let _held = Run::start(&out, &identity(1), false, &Silent).unwrap();
        let message = Run::start(&out, &identity(1), false, &Silent).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
    }
}

//! Which answers are there already? All that a generator ever wrote for a run, in files that only grow.
//!
//! ```text
//! generated/shard-00000.jsonl    {"check", "key", "source", "text", "finish", "prompt_tokens", "new_tokens"} a line
//! ```
//!
//! A key is a hash of all that an answer depends on, so a changed template or temperature asks again, and a second run asks
//! nothing. The files are synchronised every few answers: a crash loses those at most, and half a line at the end is cut
//! off. A line with a wrong checksum counts as missing. Of several lines with one key the last counts. One process at a time
//! has the folder.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Answer, Finish};
use crate::error::{Error, Result};
use crate::run::create;

/// Bytes of a file at most.
const SHARD: u64 = 64 << 20;

/// Answers between two synchronisations.
const AT_ONCE: usize = 64;

/// A line.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Hash of the answer as JSON.
    check: String,
    #[serde(flatten)]
    answer: Answer,
}

impl Line {
    fn new(answer: &Answer) -> Result<Self> {
        let json = serde_json::to_vec(answer).map_err(|e| Error::Mismatch(e.to_string()))?;
        Ok(Line { check: format!("{:016x}", xxh3_64(&json)), answer: answer.clone() })
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        let line: Line = serde_json::from_slice(bytes).ok()?;
        (Line::new(&line.answer).ok()?.check == line.check).then_some(line.answer)
    }
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
struct Place {
    shard: u32,
    at: u64,
    length: u64,
    failed: bool,
}

/// The answers of a run.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    places: HashMap<String, Place>,
    /// The file that grows, its number and length.
    last: (File, u32, u64),
    /// The file that was read last, and its number.
    reader: Option<(u32, File)>,
    /// Held open: the lock ends with the process, however it ends.
    lock: File,
    /// Bytes of a file, about.
    most: u64,
    /// Answers since the last synchronisation.
    fresh: usize,
    damaged: usize,
}

impl Cache {
    /// Opens the answers in the folder `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder or a file cannot be read or written, or another process has it.
    pub fn open(dir: &Path) -> Result<Self> {
        create(dir)?;
        let lock = lock(dir)?;
        let (mut places, mut damaged, mut shard) = (HashMap::new(), 0, 0);
        while path(dir, shard + 1).exists() {
            damaged += read_shard(dir, shard, &mut places)?.1;
            shard += 1;
        }
        let (last, file) = (path(dir, shard), shard_file(dir, shard)?);
        let (length, wrong) = read_shard(dir, shard, &mut places)?;
        file.set_len(length).map_err(Error::io(&last))?;
        Ok(Cache {
            dir: dir.to_owned(),
            places,
            last: (file, shard, length),
            reader: None,
            lock,
            most: SHARD,
            fresh: 0,
            damaged: damaged + wrong,
        })
    }

    /// Lines that are not what was written: their answers are missing.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Whether there is an answer for `key`; with `retry` one that did not fail.
    pub fn has(&self, key: &str, retry: bool) -> bool {
        self.places.get(key).is_some_and(|place| !(retry && place.failed))
    }

    /// The answer for `key`.
    pub fn get(&mut self, key: &str) -> Result<Option<Answer>> {
        let Some(&place) = self.places.get(key) else { return Ok(None) };
        let path = path(&self.dir, place.shard);
        let file = match self.reader.take() {
            Some((shard, file)) if shard == place.shard => file,
            _ => File::open(&path).map_err(Error::io(&path))?,
        };
        let (_, file) = self.reader.insert((place.shard, file));
        file.seek(SeekFrom::Start(place.at)).map_err(Error::io(&path))?;
        let mut line = vec![0; place.length as usize];
        file.read_exact(&mut line).map_err(Error::io(&path))?;
        match Line::read(&line) {
            Some(answer) => Ok(Some(answer)),
            None => Err(Error::file(
                &path,
                format!("the answer at byte {} was changed: generate again", place.at),
            )),
        }
    }

    /// Keeps an answer.
    pub fn push(&mut self, answer: &Answer) -> Result<()> {
        if self.last.2 >= self.most {
            self.sync()?;
            let number = self.last.1 + 1;
            self.last = (shard_file(&self.dir, number)?, number, 0);
        }
        let (file, shard, length) = &mut self.last;
        let mut bytes =
            serde_json::to_vec(&Line::new(answer)?).map_err(|e| Error::Mismatch(e.to_string()))?;
        bytes.push(b'\n');
        let io = path(&self.dir, *shard);
        if let Err(problem) = file.write_all(&bytes) {
            // On a full disk: half a line must not run into what comes behind.
            let _ = file.set_len(*length);
            return Err(Error::io(&io)(problem));
        }
        let (at, failed) = (*length, answer.finish == Finish::Failed);
        let place = Place { shard: *shard, at, length: bytes.len() as u64, failed };
        self.places.insert(answer.key.clone(), place);
        *length += place.length;
        self.fresh += 1;
        if self.fresh >= AT_ONCE { self.sync() } else { Ok(()) }
    }

    /// Makes what was kept safe from a loss of power.
    pub fn sync(&mut self) -> Result<()> {
        self.fresh = 0;
        self.last.0.sync_data().map_err(Error::io(&path(&self.dir, self.last.1)))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // A process that was started meanwhile may hold a copy of the file for a moment; closing ours would not be enough.
        let _ = self.lock.unlock();
    }
}

fn path(dir: &Path, shard: u32) -> PathBuf {
    dir.join(format!("shard-{shard:05}.jsonl"))
}

/// One process at a time: a file of its own, as shards change while one works.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let busy = "another process writes answers here: wait for it, or choose another folder";
            Err(Error::file(dir, busy))
        }
        Err(TryLockError::Error(problem)) => Err(Error::io(&path)(problem)),
    }
}

/// A shard to write to, whose name is safe from a loss of power as well.
fn shard_file(dir: &Path, shard: u32) -> Result<File> {
    let path = path(dir, shard);
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
    // Some systems do not open folders.
    if let Ok(folder) = File::open(dir) {
        let _ = folder.sync_all();
    }
    Ok(file)
}

/// Notes where the answers of a file are; its length up to the last whole line, and how many lines are damaged.
fn read_shard(dir: &Path, shard: u32, places: &mut HashMap<String, Place>) -> Result<(u64, usize)> {
    let path = path(dir, shard);
    if !path.exists() {
        return Ok((0, 0));
    }
    let mut file = BufReader::new(File::open(&path).map_err(Error::io(&path))?);
    let (mut at, mut damaged, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        let length = file.by_ref().read_until(b'\n', &mut line).map_err(Error::io(&path))? as u64;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok((at, damaged));
        }
        match Line::read(&line) {
            Some(answer) => {
                let failed = answer.finish == Finish::Failed;
                places.insert(answer.key, Place { shard, at, length, failed });
            }
            None => damaged += 1,
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn answer(key: &str, text: &str) -> Answer {
        let finish = if text == "failed" { Finish::Failed } else { Finish::Stop };
        Answer {
            key: key.to_owned(),
            source: 1,
            text: text.to_owned(),
            finish,
            prompt_tokens: 2,
            new_tokens: 3,
        }
    }

    #[test]
    fn answers_stay_and_the_last_of_a_key_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(dir.path()).unwrap();
        for (key, text) in [("a", "one"), ("b", "failed"), ("c", "\"three\"\n\u{1}"), ("a", "four")] {
            cache.push(&answer(key, text)).unwrap();
        }
        assert!(Cache::open(dir.path()).unwrap_err().to_string().contains("another process"));
        drop(cache);
        let mut cache = Cache::open(dir.path()).unwrap();
        assert_eq!((cache.places.len(), cache.damaged()), (3, 0));
        assert_eq!(cache.get("a").unwrap(), Some(answer("a", "four")));
        assert_eq!(cache.get("c").unwrap(), Some(answer("c", "\"three\"\n\u{1}")));
        assert_eq!(cache.get("d").unwrap(), None);
        assert!(cache.has("b", false) && !cache.has("b", true));
        cache.push(&answer("b", "two")).unwrap();
        assert!(cache.has("b", true));
    }

    #[test]
    fn answers_go_on_in_the_next_file_and_no_other_process_writes_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(dir.path()).unwrap();
        cache.most = 300;
        for key in 0..9 {
            cache.push(&answer(&key.to_string(), "whale")).unwrap();
        }
        assert!(path(dir.path(), 2).exists());
        assert!(Cache::open(dir.path()).unwrap_err().to_string().contains("another process"));
        drop(cache);
        let mut cache = Cache::open(dir.path()).unwrap();
        for key in (0..9).map(|key| key.to_string()) {
            assert_eq!(cache.get(&key).unwrap(), Some(answer(&key, "whale")));
        }
    }

    #[test]
    fn half_a_line_is_cut_off_and_a_changed_one_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(dir.path()).unwrap();
        for key in ["a", "b", "c"] {
            cache.push(&answer(key, "whale")).unwrap();
        }
        drop(cache);
        let path = path(dir.path(), 0);
        let whole = fs::read(&path).unwrap();
        for end in whole.len() * 2 / 3 + 1..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let mut cache = Cache::open(dir.path()).unwrap();
            assert_eq!((cache.places.len(), cache.has("c", false)), (2, false));
            cache.push(&answer("c", "whale")).unwrap();
            drop(cache);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        let changed = String::from_utf8(whole).unwrap().replacen("whale", "shark", 1);
        fs::write(&path, changed).unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        assert_eq!((cache.places.len(), cache.damaged(), cache.has("a", false)), (2, 1, false));
    }
}

//! How is a file written so that a crash leaves the old one or none, never half?
//!
//! Into a temporary sibling, flushed to the disk, then renamed over the target: on one file system a rename is
//! atomic, and a map that is still open keeps the old content. What a killed writer leaves beside a target is removed by
//! the next one that succeeds.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Large enough that a system call costs nothing beside the copy.
const BUFFER: usize = 1 << 18;

/// Calls `write` with a buffered temporary file and renames it to `path` if all went well.
///
/// If anything fails the temporary file is removed and whatever was at `path` stays. A target that exists and is no
/// regular file (a pipe, a terminal, `/dev/null`) cannot be replaced and is written to directly.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let special = fs::metadata(path).is_ok_and(|m| !m.is_file());
    if special {
        let file = File::options().write(true).open(path).map_err(Error::io(path))?;
        let mut writer = BufWriter::with_capacity(BUFFER, file);
        write(&mut writer)?;
        return writer.flush().map_err(Error::io(path));
    }
    let (temporary, file) = claim(path, |name| File::create(name), |file| Some(file))?;
    let written = write_and_sync(path, file, write)
        .and_then(|_locked| fs::rename(&temporary, path).map_err(Error::io(path)));
    if written.is_err() {
        // The first error is the one to report; a left-over sibling is harmless.
        let _ = fs::remove_file(&temporary);
    }
    remove_abandoned(path);
    written
}

/// Gives back the file, which is still locked.
fn write_and_sync(
    path: &Path,
    file: File,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<File> {
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    write(&mut writer)?;
    let file =
        writer.into_inner().map_err(|e| Error::Io { path: path.to_owned(), source: e.into_error() })?;
    file.sync_all().map_err(Error::io(path))?;
    Ok(file)
}

/// A hidden, empty folder beside `target`, to put its next content together in. Dropping it removes it with what is still
/// inside, and what writers that were killed left beside the target.
#[derive(Debug)]
pub struct FolderAside {
    target: PathBuf,
    dir: PathBuf,
    /// Some systems do not open folders; there is no lock then.
    _lock: Option<File>,
}

impl FolderAside {
    /// Makes the folder, and those above it.
    pub fn new(target: &Path) -> Result<Self> {
        let create = |name: &Path| {
            fs::create_dir_all(name)?;
            Ok(File::open(name).ok())
        };
        let (dir, lock) = claim(target, create, Option::as_ref)?;
        Ok(FolderAside { target: target.to_owned(), dir, _lock: lock })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for FolderAside {
    fn drop(&mut self) {
        // It may have been renamed; what is left harms nobody.
        let _ = fs::remove_dir_all(&self.dir);
        remove_abandoned(&self.target);
    }
}

/// A sibling of `path` that `create` made, and what it returned: the handle in it, if any, is locked until it is closed.
///
/// The lock tells others that somebody still works here; it ends with the process, however that ends.
fn claim<T>(
    path: &Path,
    create: impl Fn(&Path) -> io::Result<T>,
    handle: impl Fn(&T) -> Option<&File>,
) -> Result<(PathBuf, T)> {
    loop {
        let temporary = sibling(path)?;
        let made = create(&temporary).map_err(Error::io(path))?;
        let taken = handle(&made).is_some_and(|f| matches!(f.try_lock(), Err(TryLockError::WouldBlock)));
        // Before it was locked it may have looked abandoned to somebody.
        if !taken && temporary.exists() {
            return Ok((temporary, made));
        }
    }
}

/// Removes the siblings of `path` whose writers are gone. Without complaint: they harm nobody.
fn remove_abandoned(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    for found in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_sibling = found.file_name().to_str().is_some_and(|found| is_sibling(found, name));
        let Some(file) = is_sibling.then(|| File::open(found.path()).ok()).flatten() else { continue };
        if file.try_lock().is_ok() {
            let is_dir = file.metadata().is_ok_and(|m| m.is_dir());
            let _ = if is_dir { fs::remove_dir_all(found.path()) } else { fs::remove_file(found.path()) };
        }
    }
}

/// A name beside `path` that no other writer of this machine uses.
fn sibling(path: &Path) -> Result<PathBuf> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let name =
        path.file_name().ok_or_else(|| Error::file(path, "not the name of a file that can be written"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{}.tmp", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(hidden))
}

/// Whether `found` is what [`sibling`] makes of `name`.
fn is_sibling(found: &str, name: &str) -> bool {
    let ours = found.strip_prefix('.').and_then(|f| f.strip_prefix(name)).and_then(|f| f.strip_prefix('.'));
    let numbers = ours.and_then(|f| f.strip_suffix(".tmp")).and_then(|f| f.split_once('-'));
    numbers.is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_written_file_stands_alone_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write_atomically(&path, |w| w.write_all(b"new").map_err(Error::io(&path))).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        fs::write(&path, "old").unwrap();
        let failed = write_atomically(&path, |w| {
            w.write_all(b"half").map_err(Error::io(&path))?;
            Err(Error::file(&path, "the power went"))
        });
        assert!(failed.unwrap_err().to_string().ends_with("the power went"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.bin"]);
    }

    #[test]
    fn what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        for other in [".a.bin.7-0.tmp", ".a.bin.backup.tmp", ".b.bin.7-0.tmp"] {
            fs::write(dir.path().join(other), "half").unwrap();
        }
        fs::create_dir_all(dir.path().join(".a.bin.8-0.tmp/raw")).unwrap();
        let (living, _lock) = claim(&path, |name| File::create(name), |file| Some(file)).unwrap();
        write_atomically(&path, |w| w.write_all(b"new").map_err(Error::io(&path))).unwrap();
        let living = living.file_name().unwrap().to_str().unwrap();
        let mut expected = [living, ".a.bin.backup.tmp", ".b.bin.7-0.tmp", "a.bin"];
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_folder_aside_disappears_with_its_content_and_the_rests_of_dead_writers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::create_dir_all(dir.path().join(".model.8-0.tmp/raw")).unwrap();
        let aside = FolderAside::new(&path).unwrap();
        fs::write(aside.path().join("half"), "1").unwrap();
        let kept = FolderAside::new(&path).unwrap();
        fs::rename(kept.path(), &path).unwrap();
        drop(kept);
        assert!(aside.path().join("half").exists() && path.exists());
        drop(aside);
        assert_eq!(names(dir.path()), ["model"]);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nowhere/a.bin");
        let message = write_atomically(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("nowhere/a.bin"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let path = Path::new("/dev/null");
        write_atomically(path, |w| w.write_all(b"gone").map_err(Error::io(path))).unwrap();
        assert!(fs::metadata(path).unwrap().file_type().is_char_device());
    }
}

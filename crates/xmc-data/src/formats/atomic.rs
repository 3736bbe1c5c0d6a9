//! How is a file written so that a crash leaves the old one or none, never half?
//!
//! Into a temporary sibling, flushed to the disk, then renamed over the target: on one file system a rename is
//! atomic, and a map that is still open keeps the old content.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
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
    let temporary = sibling(path)?;
    let written = write_and_sync(path, &temporary, write)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io(path)));
    if written.is_err() {
        // The first error is the one to report; a left-over sibling is harmless.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_sync(
    path: &Path,
    temporary: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let file = File::create(temporary).map_err(Error::io(path))?;
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    write(&mut writer)?;
    let file =
        writer.into_inner().map_err(|e| Error::Io { path: path.to_owned(), source: e.into_error() })?;
    file.sync_all().map_err(Error::io(path))
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

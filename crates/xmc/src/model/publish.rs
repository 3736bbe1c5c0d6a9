//! How does a finished model take its place?
//!
//! It is complete in a folder beside its target before anything is renamed. With an old model it changes places in one
//! step, so a crash leaves the one or the other; the old one is deleted afterwards. Systems other than Linux need two
//! steps: for an instant there is none at the target, and the old one in the run directory; never a mixture.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::manifest;
use crate::run::remove;

/// Refuses a target that exists and is no model: nobody's files are overwritten by a wrong `--out`.
pub fn refuse_foreign(out: &Path) -> Result<()> {
    if fs::symlink_metadata(out).is_err() || out.join(manifest::NAME).is_file() || is_empty(out)? {
        return Ok(());
    }
    Err(Error::file(out, "exists and is not a model, so it is not overwritten: choose another --out"))
}

/// Whether `path` is a folder with nothing in it.
pub(crate) fn is_empty(path: &Path) -> Result<bool> {
    let found = fs::symlink_metadata(path).map_err(Error::io(path))?;
    Ok(found.is_dir() && fs::read_dir(path).map_err(Error::io(path))?.next().is_none())
}

/// Puts `complete` at `out` and removes what was there; `old` is where that waits if one step is not enough.
pub fn publish(complete: &Path, out: &Path, old: &Path) -> Result<()> {
    refuse_foreign(out)?;
    replace(complete, out, old)
}

/// The same, whatever was there.
pub(crate) fn replace(complete: &Path, out: &Path, old: &Path) -> Result<()> {
    remove(old)?;
    if out.exists() {
        if exchange(complete, out) {
            return remove(complete);
        }
        fs::rename(out, old).map_err(Error::io(out))?;
    }
    fs::rename(complete, out).map_err(Error::io(out))?;
    remove(old)
}

/// Lets two folders change places; false if the file system cannot do that.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_model_replaces_an_old_one_and_nothing_else() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        for (dir, content) in [("new", "2"), ("model", "1")] {
            fs::create_dir(at(dir)).unwrap();
            fs::write(at(dir).join(manifest::NAME), content).unwrap();
        }
        publish(&at("new"), &at("model"), &at("old")).unwrap();
        assert_eq!(fs::read_to_string(at("model").join(manifest::NAME)).unwrap(), "2");
        assert!(!at("new").exists() && !at("old").exists());

        fs::create_dir(at("thesis")).unwrap();
        fs::write(at("thesis").join("chapter"), "1").unwrap();
        let message = publish(&at("model"), &at("thesis"), &at("old")).unwrap_err().to_string();
        assert!(message.contains("not a model"), "{message}");
        assert!(at("thesis").join("chapter").exists());
    }
}

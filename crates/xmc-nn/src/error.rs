//! Errors of loading, checking and running encoders. Every message says where, what was found and what was expected.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with everything a user needs to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing data failed.
    #[error(transparent)]
    Data(#[from] xmc_data::Error),
    /// A file of an encoder or a checkpoint is damaged, incomplete or of another kind.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Parts that must fit together do not.
    #[error("{0}")]
    Shape(String),
    /// The device that was asked for is not there.
    #[error("device `{asked}`: {problem}")]
    Device {
        /// What was asked for.
        asked: String,
        /// Why it cannot be used and what to do.
        problem: String,
    },
}

impl Error {
    /// Attaches `path` to an I/O error; for use with `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Data(xmc_data::Error::io(path)(source))
    }

    /// A file-level problem.
    pub fn file(path: &Path, problem: impl Into<String>) -> Error {
        Error::File { path: path.to_owned(), problem: problem.into() }
    }
}

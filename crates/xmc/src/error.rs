//! Errors of the product: settings, runs and models. What is wrong with data or an encoder comes from `xmc-data` or
//! `xmc-nn` as it is.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with everything a user needs to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Data, features, trees or rankers: the message says where.
    #[error(transparent)]
    Data(#[from] xmc_data::Error),
    /// Encoders and tokenizers: the message says where.
    #[error(transparent)]
    Nn(xmc_nn::Error),
    /// A setting that no method has.
    #[error("{place}: unknown setting `{key}`{hint}")]
    UnknownSetting {
        /// File and line, or the option that gave it.
        place: String,
        /// The key as written.
        key: String,
        /// What to do about it.
        hint: String,
    },
    /// A setting with a value of the wrong kind or outside its range.
    #[error("{place}: `{key}` = {value}: expected {expected}")]
    Setting {
        /// File and line, or the option that gave it.
        place: String,
        /// The full key.
        key: String,
        /// The value given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// Training would need more memory than allowed.
    #[error(
        "training needs about {}, more than --max-memory {}; the biggest part is {part} ({}): {advice}",
        crate::memory::show(*.needed), crate::memory::show(*.allowed), crate::memory::show(*.part_bytes)
    )]
    Memory {
        /// Estimate in bytes.
        needed: u64,
        /// The limit in bytes.
        allowed: u64,
        /// What takes most of it.
        part: &'static str,
        /// How much that is, in bytes.
        part_bytes: u64,
        /// What to change.
        advice: &'static str,
    },
    /// Something asked for does not fit what is there; the message says both.
    #[error("{0}")]
    Mismatch(String),
}

impl Error {
    /// Attaches `path` to an I/O error; for use with `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Data(xmc_data::Error::Io { path: path.to_owned(), source })
    }

    /// A problem with a file or folder as a whole.
    pub fn file(path: &Path, problem: impl Into<String>) -> Error {
        Error::Data(xmc_data::Error::file(path, problem))
    }

    /// The file that an error is about, if it is about one.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Error::Data(
                xmc_data::Error::Io { path, .. }
                | xmc_data::Error::Parse { path, .. }
                | xmc_data::Error::File { path, .. },
            )
            | Error::Nn(xmc_nn::Error::File { path, .. }) => Some(path),
            _ => None,
        }
    }
}

impl From<xmc_nn::Error> for Error {
    fn from(problem: xmc_nn::Error) -> Self {
        match problem {
            xmc_nn::Error::Data(problem) => Error::Data(problem),
            other => Error::Nn(other),
        }
    }
}

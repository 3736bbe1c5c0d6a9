//! Errors of reading, checking and describing data. Every message says where, what was found and what was expected.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with everything a user needs to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open, read, write or rename a file.
    #[error("{}: {source}", shown(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A value in a text file is not what the format asks for.
    #[error("{}:{line}: found `{value}`, expected {expected}", shown(path))]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// What stands there (shortened).
        value: String,
        /// What should stand there.
        expected: String,
    },
    /// A file as a whole is damaged, truncated or of another format.
    #[error("{}: {problem}", shown(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Parts that must fit together do not: rows, columns, lengths, order.
    #[error("{0}")]
    Shape(String),
    /// A setting has a value outside its range, or is not known.
    #[error("`{key}` = {value}: expected {expected}")]
    Config {
        /// Name of the setting as the user writes it.
        key: String,
        /// The value given.
        value: String,
        /// What is allowed.
        expected: String,
    },
}

/// The name of a file, where `-` is what it stands for.
fn shown(path: &Path) -> impl std::fmt::Display + '_ {
    if path.as_os_str() == "-" { Path::new("stdin").display() } else { path.display() }
}

impl Error {
    /// Attaches `path` to an I/O error; for use with `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io { path: path.to_owned(), source }
    }

    /// A text-format error at `line` (from 1); long values are shortened to 60 characters.
    pub fn parse(path: &Path, line: u64, value: &str, expected: impl Into<String>) -> Error {
        let mut shown: String = value.chars().take(60).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Error::Parse { path: path.to_owned(), line, value: shown, expected: expected.into() }
    }

    /// A file-level problem.
    pub fn file(path: &Path, problem: impl Into<String>) -> Error {
        Error::File { path: path.to_owned(), problem: problem.into() }
    }

    /// A setting outside its range.
    pub fn config(key: &str, value: impl std::fmt::Display, expected: impl Into<String>) -> Error {
        Error::Config { key: key.to_owned(), value: value.to_string(), expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_called_by_its_name() {
        let message = Error::parse(Path::new("-"), 1, "x", "a number").to_string();
        assert_eq!(message, "stdin:1: found `x`, expected a number");
        assert_eq!(Error::file(Path::new("a-b"), "empty").to_string(), "a-b: empty");
    }
}

//! What does one folder of extreme multi-label data hold?
//!
//! The layout of the field; every text file may also be `.gz` or `.zst`, of several spellings the first found counts:
//!
//! | file | content |
//! |---|---|
//! | `raw/trn_X.txt`, `raw/tst_X.txt` | texts, one a line |
//! | `X.{trn,tst}.npz`, `X.{trn,tst}.txt`, `{trn,tst}_X_Xf.txt` | features `[n, d]`: scipy, or XMC sparse text |
//! | `Y.{trn,tst}.npz`, `Y.{trn,tst}.txt`, `{trn,tst}_X_Y.txt` | labels `[n, L]` |
//! | `raw/Y.txt` | label names, one a line; without it labels are named by their numbers |
//! | `filter_labels_{train,test}.txt` | pairs that do not count in evaluation |
//!
//! A data set needs labels for training rows, and texts or features for them. The test part may be missing.

mod folder;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::formats::import::{self, ImportOptions};
use crate::formats::source::Packing;
use crate::labels::LabelSet;
use crate::strings::Strings;

/// Rows and labels of one task.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Where it came from.
    pub path: PathBuf,
    /// Last part of the path, for tables.
    pub name: String,
    /// Names of all L labels.
    pub labels: LabelSet,
    /// Rows to learn from.
    pub train: Part,
    /// Rows to judge with.
    pub test: Option<Part>,
}

/// The rows of one side of the split.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Text of each row.
    pub texts: Option<Strings>,
    /// Given features `[n, d]`.
    pub features: Option<Csr>,
    /// Labels `[n, L]`; every stored value is a weight above 0.
    pub y: Csr,
    /// `(row, label)` pairs that do not count in evaluation, sorted.
    pub filter: Vec<(u32, u32)>,
}

impl Dataset {
    /// Opens a folder of the layout above, or any single file that [`import`] understands.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return folder::open(path);
        }
        import::load(&[path.to_owned()], &ImportOptions::default()).map(|(data, _summary)| data)
    }

    /// Writes a folder of the layout above with plain text files; see [`Dataset::save_packed`].
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.save_packed(dir, Packing::Plain)
    }

    /// Writes a folder with text files packed as asked. The folder appears complete or not at all; one that exists
    /// must be empty.
    pub fn save_packed(&self, dir: &Path, packing: Packing) -> Result<()> {
        folder::save(self, dir, packing, |_| Ok(()))
    }

    /// [`Dataset::save`], with files of the caller: `beside` writes them into the folder that it is given, before that
    /// appears.
    pub fn save_with<E: From<Error>>(
        &self,
        dir: &Path,
        beside: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        folder::save(self, dir, Packing::Plain, beside)
    }

    /// The test part, or an error that says how to get one.
    pub fn test_part(&self) -> Result<&Part> {
        self.test.as_ref().ok_or_else(|| {
            let problem = if self.path.is_file() {
                "no test rows, one file is all training rows: measure those with `--split train`, \
                 or set some aside with `xmc import --test-fraction 0.1`"
            } else {
                "no test rows: `Y.tst.npz` and `raw/tst_X.txt` or `X.tst.npz` are missing"
            };
            Error::file(&self.path, problem)
        })
    }

    /// Puts parts together after checking that they fit; `path` is for messages.
    pub fn new(path: &Path, labels: LabelSet, train: Part, test: Option<Part>) -> Result<Self> {
        let fail = |problem: String| Error::file(path, problem);
        if labels.is_empty() {
            return Err(fail("no labels: there is nothing to learn".into()));
        }
        if train.rows() == 0 {
            return Err(fail("no training rows".into()));
        }
        for (side, part) in std::iter::once(("train", &train)).chain(test.as_ref().map(|part| ("test", part)))
        {
            part.check(labels.len()).map_err(|problem| fail(format!("{side} part: {problem}")))?;
        }
        let test_features = test.as_ref().and_then(|test| test.features.as_ref());
        if let (Some(a), Some(b)) = (&train.features, test_features)
            && a.cols() != b.cols()
        {
            let (a, b) = (a.cols(), b.cols());
            return Err(fail(format!("{a} features in the train part, {b} in the test part")));
        }
        let name = path.file_name().map_or_else(|| "data".into(), |n| n.to_string_lossy().into_owned());
        Ok(Dataset { path: path.to_owned(), name, labels, train, test })
    }
}

impl Part {
    /// Number of rows n.
    pub fn rows(&self) -> usize {
        self.y.rows()
    }

    /// The given rows in the given order, each once.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn select(&self, rows: &[u32]) -> Part {
        let new_ids: HashMap<u32, u32> = rows.iter().zip(0..).map(|(&old, new)| (old, new)).collect();
        let mut filter: Vec<(u32, u32)> =
            self.filter.iter().filter_map(|(row, label)| Some((*new_ids.get(row)?, *label))).collect();
        filter.sort_unstable();
        Part {
            texts: self.texts.as_ref().map(|texts| texts.select(rows)),
            features: self.features.as_ref().map(|x| x.select_rows(rows)),
            y: self.y.select_rows(rows),
            filter,
        }
    }

    /// What does not fit together, in words.
    fn check(&self, num_labels: usize) -> std::result::Result<(), String> {
        let n = self.y.rows();
        if self.y.cols() != num_labels {
            return Err(format!(
                "labels have {} columns, but there are {num_labels} label names",
                self.y.cols()
            ));
        }
        if self.texts.is_none() && self.features.is_none() {
            return Err("neither texts nor features".into());
        }
        if let Some(texts) = self.texts.as_ref().filter(|texts| texts.len() != n) {
            return Err(format!("{} texts, but labels for {n} rows", texts.len()));
        }
        if let Some(x) = self.features.as_ref().filter(|x| x.rows() != n) {
            return Err(format!("features of {} rows, but labels for {n} rows", x.rows()));
        }
        match self.y.iter().position(|row| row.values.iter().any(|&v| v <= 0.0)) {
            Some(row) => Err(format!("labels of row {row}: a weight of 0 or less, expected more than 0")),
            None => Ok(()),
        }
    }
}

/// More labels than this without names are a damaged count: names alone would take gigabytes.
const MAX_NUMBERED: usize = 100_000_000;

/// Names for labels that have none.
pub(crate) fn numbered_labels(path: &Path, num_labels: usize) -> Result<LabelSet> {
    if num_labels > MAX_NUMBERED {
        return Err(Error::file(
            path,
            format!("{num_labels} labels without names: damaged, or give their names"),
        ));
    }
    Ok(LabelSet::numbered(num_labels))
}

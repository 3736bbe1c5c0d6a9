//! Which file of a dataset folder is read into what, and how is a folder written?

use std::fs;
use std::path::{Path, PathBuf};

use super::{Dataset, Part, numbered_labels};
use crate::csr::{Csr, Row};
use crate::error::{Error, Result};
use crate::filter;
use crate::formats::atomic::FolderAside;
use crate::formats::source::Packing;
use crate::formats::{lines, npz, xmc_text};
use crate::labels::LabelSet;
use crate::strings::Strings;

/// File names of one side of the split, most usual first.
struct Side {
    texts: &'static [&'static str],
    features: &'static [&'static str],
    y: &'static [&'static str],
    filter: &'static [&'static str],
}

const TRAIN: Side = Side {
    texts: &["raw/trn_X.txt"],
    features: &["X.trn.npz", "X.trn.txt", "trn_X_Xf.txt"],
    y: &["Y.trn.npz", "Y.trn.txt", "trn_X_Y.txt"],
    filter: &["filter_labels_train.txt"],
};

const TEST: Side = Side {
    texts: &["raw/tst_X.txt"],
    features: &["X.tst.npz", "X.tst.txt", "tst_X_Xf.txt"],
    y: &["Y.tst.npz", "Y.tst.txt", "tst_X_Y.txt"],
    filter: &["filter_labels_test.txt"],
};

const LABELS: &[&str] = &["raw/Y.txt"];

/// Reads a folder, both sides at once.
pub(super) fn open(dir: &Path) -> Result<Dataset> {
    let (train, test) = rayon::join(|| read_side(dir, &TRAIN), || read_side(dir, &TEST));
    let Some(train) = train? else {
        return Err(Error::file(dir, format!("no training labels: looked for {}", spellings(TRAIN.y))));
    };
    let test = test?;
    let labels = match find(dir, LABELS) {
        Some(path) => {
            let names = lines::read(&path)?;
            for part in std::iter::once(&train).chain(&test) {
                expect_equal(&path, "names", names.len(), part.y.cols(), "label columns in the Y files")?;
            }
            LabelSet::from(names)
        }
        None => numbered_labels(dir, train.y.cols())?,
    };
    Dataset::new(dir, labels, train, test)
}

/// The rows of one side, or `None` if it has no label file.
fn read_side(dir: &Path, side: &Side) -> Result<Option<Part>> {
    let Some(y_path) = find(dir, side.y) else {
        return Ok(None);
    };
    let y = without_zeros(read_matrix(&y_path)?);
    check_weights(&y_path, &y)?;
    let found = (find(dir, side.texts), find(dir, side.features));
    if let (None, None) = found {
        let (texts, features) = (spellings(side.texts), spellings(side.features));
        return Err(Error::file(dir, format!("neither texts nor features: looked for {texts}, {features}")));
    }
    let texts = found.0.map(|path| read_texts(&path, y.rows())).transpose()?;
    let features = found.1.map(|path| read_features(&path, y.rows())).transpose()?;
    let filter = match find(dir, side.filter) {
        Some(path) => filter::read(&path, y.rows(), y.cols())?,
        None => Vec::new(),
    };
    Ok(Some(Part { texts, features, y, filter }))
}

fn read_texts(path: &Path, rows: usize) -> Result<Strings> {
    let texts = lines::read(path)?;
    expect_equal(path, "texts", texts.len(), rows, "rows of labels")?;
    Ok(texts)
}

fn read_features(path: &Path, rows: usize) -> Result<Csr> {
    let features = read_matrix(path)?;
    npz::believe(path, features.cols(), "columns", features.nnz())?;
    expect_equal(path, "rows", features.rows(), rows, "rows of labels")?;
    Ok(features)
}

fn expect_equal(path: &Path, what: &str, found: usize, expected: usize, of: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::file(path, format!("{found} {what}, but {expected} {of}: the files must match line by line")))
}

/// A label with a weight below 0 says nothing that could be learnt.
fn check_weights(path: &Path, y: &Csr) -> Result<()> {
    let negative = |row: Row| row.iter().find(|&(_, weight)| weight < 0.0);
    let Some((row, (label, weight))) = y.iter().enumerate().find_map(|(i, row)| Some((i, negative(row)?)))
    else {
        return Ok(());
    };
    let (entry, expected) = (format!("{label}:{weight}"), "a weight above 0");
    Err(if path.extension().is_some_and(|e| e == "npz") {
        Error::file(path, format!("row {row} holds `{entry}`, expected {expected}"))
    } else {
        // A row is a line, after the first with the numbers of rows and columns.
        Error::parse(path, row as u64 + 2, &entry, expected)
    })
}

fn read_matrix(path: &Path) -> Result<Csr> {
    if path.extension().is_some_and(|e| e == "npz") { npz::read(path) } else { xmc_text::read_sparse(path) }
}

/// A stored zero says that a label is absent, which needs no saying.
fn without_zeros(y: Csr) -> Csr {
    if y.values().contains(&0.0) { y.filter(|_, _, v| v != 0.0) } else { y }
}

/// The first of the names that exists in `dir`, plain or packed.
fn find(dir: &Path, names: &[&str]) -> Option<PathBuf> {
    let packings = [Packing::Plain, Packing::Gzip, Packing::Zstd];
    names
        .iter()
        .flat_map(|name| packings.map(|packing| dir.join(format!("{name}{}", packing.suffix()))))
        .find(|path| path.is_file())
}

fn spellings(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Writes into a hidden sibling folder, has `beside` add files to it, then renames it.
pub(super) fn save<E: From<Error>>(
    data: &Dataset,
    dir: &Path,
    packing: Packing,
    beside: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::file(dir, "exists and is not empty: remove it or choose another folder").into());
    }
    let hidden = FolderAside::new(dir)?;
    write_files(data, hidden.path(), packing)?;
    beside(hidden.path())?;
    Ok(fs::rename(hidden.path(), dir).map_err(Error::io(dir))?)
}

fn write_files(data: &Dataset, dir: &Path, packing: Packing) -> Result<()> {
    fs::create_dir_all(dir.join("raw")).map_err(Error::io(dir))?;
    let text_file = |name: &str| dir.join(format!("{name}{}", packing.suffix()));
    for &name in LABELS {
        lines::write(&text_file(name), data.labels.names())?;
    }
    for (side, part) in
        std::iter::once((&TRAIN, &data.train)).chain(data.test.as_ref().map(|part| (&TEST, part)))
    {
        // Each list of names begins with the one to write.
        if let (Some(name), Some(texts)) = (side.texts.first(), &part.texts) {
            lines::write(&text_file(name), texts)?;
        }
        if let (Some(name), Some(features)) = (side.features.first(), &part.features) {
            npz::write(&dir.join(name), features)?;
        }
        if let Some(name) = side.y.first() {
            npz::write(&dir.join(name), &part.y)?;
        }
        if let (Some(name), false) = (side.filter.first(), part.filter.is_empty()) {
            filter::write(&text_file(name), &part.filter)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(rows: usize) -> Part {
        let indptr: Vec<u64> = (0..=rows as u64).collect();
        let y = Csr::new(rows, 3, indptr, vec![1; rows], vec![1.0; rows]).unwrap();
        let features = Csr::new(rows, 4, vec![0; rows + 1], vec![], vec![]).unwrap();
        let texts = Strings::new((0..rows).map(|i| format!("text {i}")));
        Part { texts: Some(texts), features: Some(features), y, filter: vec![(0, 1)] }
    }

    fn tiny() -> Dataset {
        Dataset::new(Path::new("tiny"), LabelSet::new(["a", "b", "c"]), part(2), Some(part(1))).unwrap()
    }

    fn saved(packing: Packing) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("tiny");
        tiny().save_packed(&dir, packing).unwrap();
        (parent, dir)
    }

    #[test]
    fn a_saved_folder_opens_as_the_same_data_in_every_packing() {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let (parent, dir) = saved(packing);
            let back = Dataset::open(&dir).unwrap();
            let data = tiny();
            assert_eq!(back.name, "tiny");
            assert_eq!((&back.labels, &back.train, &back.test), (&data.labels, &data.train, &data.test));
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left beside the folder");
        }
    }

    #[test]
    fn a_folder_that_holds_something_is_not_written_over() {
        let (_parent, dir) = saved(Packing::Plain);
        let message = tiny().save(&dir).unwrap_err().to_string();
        assert!(message.contains("is not empty"), "{message}");
    }

    #[test]
    fn a_number_of_features_that_no_entry_backs_is_refused() {
        let (_parent, dir) = saved(Packing::Plain);
        let wide = Csr::new(2, 4_000_000_000, vec![0, 1, 1], vec![7], vec![1.0]).unwrap();
        npz::write(&dir.join("X.trn.npz"), &wide).unwrap();
        let message = Dataset::open(&dir).unwrap_err().to_string();
        let expected = "X.trn.npz: damaged: a shape of 4000000000 columns for 1 entries";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn names_and_test_rows_may_be_missing() {
        let (_parent, dir) = saved(Packing::Plain);
        fs::remove_file(dir.join("raw/Y.txt")).unwrap();
        fs::remove_file(dir.join("Y.tst.npz")).unwrap();
        let data = Dataset::open(&dir).unwrap();
        assert_eq!(data.labels, LabelSet::numbered(3));
        assert!(data.test_part().unwrap_err().to_string().contains("Y.tst.npz"));
    }

    #[test]
    fn labels_and_features_may_be_sparse_text() {
        let (_parent, dir) = saved(Packing::Plain);
        let data = Dataset::open(&dir).unwrap();
        fs::remove_file(dir.join("Y.trn.npz")).unwrap();
        fs::remove_file(dir.join("X.trn.npz")).unwrap();
        fs::write(dir.join("trn_X_Y.txt"), "2 3\n1:1 0:0\n1:1.0\n").unwrap();
        xmc_text::write_sparse(&dir.join("X.trn.txt.gz"), data.train.features.as_ref().unwrap()).unwrap();
        assert_eq!(Dataset::open(&dir).unwrap().train, data.train, "the stored zero is dropped");
    }

    #[test]
    fn a_negative_weight_is_named_with_its_line() {
        let (_parent, dir) = saved(Packing::Plain);
        fs::remove_file(dir.join("Y.trn.npz")).unwrap();
        fs::write(dir.join("Y.trn.txt"), "2 3\n1:1 0:0\n0:-1\n").unwrap();
        let message = Dataset::open(&dir).unwrap_err().to_string();
        assert!(message.ends_with("Y.trn.txt:3: found `0:-1`, expected a weight above 0"), "{message}");
    }

    #[test]
    fn files_that_do_not_fit_together_are_named_with_both_counts() {
        for (file, content, expected) in [
            ("raw/trn_X.txt", "one\n", "trn_X.txt: 1 texts, but 2 rows of labels"),
            ("raw/Y.txt", "a\nb\n", "Y.txt: 2 names, but 3 label columns"),
            (
                "filter_labels_test.txt",
                "1 0\n",
                "filter_labels_test.txt:1: found `1 0`, expected a row below 1",
            ),
        ] {
            let (_parent, dir) = saved(Packing::Plain);
            fs::write(dir.join(file), content).unwrap();
            let message = Dataset::open(&dir).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_was_looked_for_is_said() {
        let (_parent, dir) = saved(Packing::Plain);
        fs::remove_file(dir.join("raw/trn_X.txt")).unwrap();
        fs::remove_file(dir.join("X.trn.npz")).unwrap();
        let message = Dataset::open(&dir).unwrap_err().to_string();
        assert!(message.contains("neither texts nor features: looked for `raw/trn_X.txt`"), "{message}");
        fs::remove_file(dir.join("Y.trn.npz")).unwrap();
        let message = Dataset::open(&dir).unwrap_err().to_string();
        assert!(message.contains("looked for `Y.trn.npz`, `Y.trn.txt`"), "{message}");
    }
}

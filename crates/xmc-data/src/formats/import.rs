//! How do files of rows with labels become a dataset?
//!
//! Each file is training data, test data or the list of label names, told by its name (`test.csv`, `tst.json.gz`,
//! `lbl.json.gz`) or by the options. Label names are gathered from all files and sorted, so that the same rows in any
//! order give the same ids. Rows without labels are kept and counted.

mod collect;

use std::path::{Path, PathBuf};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::collect::{Collector, label_names};
pub use super::fields::{FieldOptions, Guess};
pub use super::sniff::Format;
use super::source::Packing;
use crate::csr::{Csr, Row};
use crate::dataset::{Dataset, Part};
use crate::error::{Error, Result};

/// What the user says about the files; everything left out is guessed.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Format of all files.
    pub format: Option<Format>,
    /// Columns or keys.
    pub fields: FieldOptions,
    /// File with one label name a line, or one JSON object with a `title`. Labels in the rows are then such names, or
    /// line numbers from 0.
    pub label_names: Option<PathBuf>,
    /// Files of test rows, besides those whose name says so.
    pub test_files: Vec<PathBuf>,
    /// Share of the training rows to set aside as test rows, at least 0 and less than 1.
    pub test_fraction: f64,
    /// Chooses which rows those are. Rows of the same text always go to the same side.
    pub seed: u64,
    /// How the text files of the folder are packed.
    pub packing: Packing,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions {
            format: None,
            fields: FieldOptions::default(),
            label_names: None,
            test_files: Vec::new(),
            test_fraction: 0.0,
            seed: 0,
            packing: Packing::Plain,
        }
    }
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImportSummary {
    /// Rows to learn from.
    pub train_rows: usize,
    /// Rows to judge with.
    pub test_rows: usize,
    /// Labels L.
    pub labels: usize,
    /// Features d, if the files hold features.
    pub features: Option<usize>,
    /// Rows of both parts that have no label.
    pub rows_without_labels: usize,
    /// Rows of both parts whose text or feature row is empty.
    pub empty_rows: usize,
    /// How each file was understood.
    pub guesses: Vec<Guess>,
}

/// Reads `files` and writes a dataset folder.
pub fn import(files: &[PathBuf], options: &ImportOptions, out: &Path) -> Result<ImportSummary> {
    let (data, summary) = load(files, options)?;
    data.save_packed(out, options.packing)?;
    Ok(summary)
}

/// Reads `files` into memory. One folder in place of files is opened as a dataset.
pub fn load(files: &[PathBuf], options: &ImportOptions) -> Result<(Dataset, ImportSummary)> {
    if !(0.0..1.0).contains(&options.test_fraction) {
        return Err(Error::config("test_fraction", options.test_fraction, "at least 0 and less than 1"));
    }
    let first = files.first().ok_or_else(|| Error::config("files", "none", "one file or more"))?;
    let (mut data, guesses) = match files {
        [folder] if folder.is_dir() => (Dataset::open(folder)?, Vec::new()),
        _ => read_files(first, files, options)?,
    };
    if options.test_fraction > 0.0 {
        split(&mut data, options)?;
    }
    let summary = summary(&data, guesses);
    Ok((data, summary))
}

fn read_files(first: &Path, files: &[PathBuf], options: &ImportOptions) -> Result<(Dataset, Vec<Guess>)> {
    let mut names_file = options.label_names.as_ref();
    let (mut train, mut test) = (Collector::default(), Collector::default());
    let mut names = collect::Names::default();
    let mut guesses = Vec::new();
    let roles = files.iter().map(|file| match files {
        // A single file is what there is to learn from, whatever its name.
        [_] if !options.test_files.contains(file) => (file, Role::Train),
        _ => (file, role(file, options)),
    });
    let given = options.test_files.iter().filter(|file| !files.contains(file)).map(|file| (file, Role::Test));
    for (file, role) in roles.chain(given) {
        match role {
            Role::Train => guesses.push(train.read(file, options, &mut names)?),
            Role::Test => guesses.push(test.read(file, options, &mut names)?),
            Role::LabelNames => names_file = Some(file),
        }
    }
    train.reconcile(&mut test, first)?;
    let given_names = names_file.map(|path| Ok((path.as_path(), label_names(path)?))).transpose()?;
    let (labels, ids) = names.settle(first, given_names, [&train, &test])?;
    let d = train.width().max(test.width());
    let test = if test.is_empty() { None } else { Some(test.finish(first, &ids, labels.len(), d)?) };
    let train = train.finish(first, &ids, labels.len(), d)?;
    Ok((Dataset::new(first, labels, train, test)?, guesses))
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Train,
    Test,
    LabelNames,
}

fn role(path: &Path, options: &ImportOptions) -> Role {
    if options.test_files.iter().any(|file| file == path) {
        return Role::Test;
    }
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    if matches!(stem, "lbl" | "label" | "labels" | "y") {
        return Role::LabelNames;
    }
    // `test.csv`, `tst_X_Y.txt`, `eurlex_test.txt`, but not `ab-test-results.csv`.
    let mut words = stem.split(|c: char| !c.is_alphabetic());
    let is_test = |word: Option<&str>| matches!(word, Some("test" | "tst"));
    if is_test(words.next()) || is_test(words.next_back()) { Role::Test } else { Role::Train }
}

/// Sets rows aside as test rows by a hash of their content, so that neither order nor number of rows matters.
fn split(data: &mut Dataset, options: &ImportOptions) -> Result<()> {
    if data.test.is_some() {
        let expected = "0, because the files bring test rows of their own";
        return Err(Error::config("test_fraction", options.test_fraction, expected));
    }
    let (mut test, mut train) = (Vec::new(), Vec::new());
    for i in 0..data.train.rows() {
        let hash = match (&data.train.texts, &data.train.features) {
            (Some(texts), _) => xxh3_64_with_seed(texts.get(i).as_bytes(), options.seed),
            (None, Some(x)) => hash_row(x, i, options.seed),
            (None, None) => 0,
        };
        let chosen = (hash as f64) < options.test_fraction * 2f64.powi(64);
        if chosen { test.push(i as u32) } else { train.push(i as u32) }
    }
    if train.is_empty() || test.is_empty() {
        let rows = train.len() + test.len();
        let expected = format!("a share that leaves rows on both sides of {rows}");
        return Err(Error::config("test_fraction", options.test_fraction, expected));
    }
    data.test = Some(data.train.select(&test));
    data.train = data.train.select(&train);
    Ok(())
}

fn hash_row(x: &Csr, i: usize, seed: u64) -> u64 {
    let row = x.row(i);
    let ids = xxh3_64_with_seed(bytemuck::cast_slice(row.indices), seed);
    xxh3_64_with_seed(bytemuck::cast_slice(row.values), ids)
}

fn summary(data: &Dataset, guesses: Vec<Guess>) -> ImportSummary {
    let parts = || std::iter::once(&data.train).chain(&data.test);
    let empty = |part: &Part| match (&part.texts, &part.features) {
        (Some(texts), _) => texts.iter().filter(|text| text.trim().is_empty()).count(),
        (None, Some(x)) => x.iter().filter(Row::is_empty).count(),
        (None, None) => 0,
    };
    ImportSummary {
        train_rows: data.train.rows(),
        test_rows: data.test.as_ref().map_or(0, Part::rows),
        labels: data.labels.len(),
        features: data.train.features.as_ref().map(Csr::cols),
        rows_without_labels: parts().map(|part| part.y.iter().filter(Row::is_empty).count()).sum(),
        empty_rows: parts().map(empty).sum(),
        guesses,
    }
}

#[cfg(test)]
mod tests;

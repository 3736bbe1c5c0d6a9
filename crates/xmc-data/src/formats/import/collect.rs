//! How are the rows of several files gathered before their labels have ids?

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::{Format, ImportOptions};
use crate::csr::{Csr, CsrBuilder};
use crate::dataset::{Part, numbered_labels};
use crate::error::{Error, Result};
use crate::formats::fields::{Guess, Record};
use crate::formats::jsonl::Jsonl;
use crate::formats::source::{open_bytes, open_lines};
use crate::formats::table::Table;
use crate::formats::{sniff, svmlight, xmc_text};
use crate::labels::LabelSet;
use crate::strings::Strings;

/// Label names in the order they were met.
#[derive(Default)]
pub(super) struct Names {
    ids: HashMap<String, u32>,
}

impl Names {
    fn id(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.ids.len() as u32;
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// The final labels, and for each id given so far its final one.
    pub(super) fn settle(
        self,
        path: &Path,
        given: Option<(&Path, LabelSet)>,
        parts: [&Collector; 2],
    ) -> Result<(LabelSet, Vec<u32>)> {
        let numbered = parts.iter().map(|part| part.num_labels).max().unwrap_or(0);
        if numbered > 0 {
            // Files of features hold final ids.
            let labels = given.map_or_else(|| numbered_labels(path, numbered), |(_, labels)| Ok(labels))?;
            return Ok((labels, (0..numbered as u32).collect()));
        }
        let mut names: Vec<(String, u32)> = self.ids.into_iter().collect();
        names.sort_unstable();
        let mut ids = vec![0; names.len()];
        let Some((names_path, labels)) = given else {
            if names.iter().all(|(name, _)| name.parse::<u64>().is_ok()) {
                names.sort_by_key(|(name, _)| name.parse::<u64>().unwrap_or(u64::MAX));
            }
            for (l, (_, id)) in names.iter().enumerate() {
                ids[*id as usize] = l as u32;
            }
            return Ok((LabelSet::new(names.iter().map(|(name, _)| name)), ids));
        };
        let index = labels.index();
        let by_name = |name: &str| index.get(name).map(|l| l.0);
        let by_number = |name: &str| name.parse::<u32>().ok().filter(|&l| (l as usize) < labels.len());
        let numbers = names.iter().any(|(name, _)| by_name(name).is_none());
        for (name, id) in &names {
            let label = if numbers { by_number(name) } else { by_name(name) };
            ids[*id as usize] = label.ok_or_else(|| {
                let known = labels.len();
                Error::file(
                    names_path,
                    format!(
                        "label `{name}` of the rows is none of the {known} names, nor a line number from 0"
                    ),
                )
            })?;
        }
        drop(index);
        Ok((labels, ids))
    }
}

/// Names of labels from a file of plain lines, or of JSON objects with a `title`.
pub(super) fn label_names(path: &Path) -> Result<LabelSet> {
    let mut lines = open_lines(path)?;
    let mut labels = LabelSet::default();
    while lines.advance()? {
        let line = lines.line();
        if !line.starts_with('{') {
            labels.push(line.trim());
            continue;
        }
        let object: Value =
            serde_json::from_str(line).map_err(|e| lines.error(line, format!("a JSON object: {e}")))?;
        let name = ["title", "name", "label", "text"].iter().find_map(|&key| object.get(key)?.as_str());
        labels.push(
            name.ok_or_else(|| lines.error(line, "a text under `title`, `name`, `label` or `text`"))?.trim(),
        );
    }
    if labels.is_empty() {
        return Err(Error::file(path, "empty, expected label names"));
    }
    Ok(labels)
}

/// Rows of one part, whose labels have the ids of [`Names`] or, in files of features, final ones.
#[derive(Default)]
pub(super) struct Collector {
    texts: Strings,
    y: CsrBuilder,
    features: Vec<Csr>,
    numbered: Vec<Csr>,
    /// Largest number of labels of a file of features.
    num_labels: usize,
    /// Numbers of features and labels are those of the largest ids, not said by the files.
    ids_of_svmlight: bool,
}

impl Collector {
    /// Appends the rows of a file.
    pub(super) fn read(&mut self, path: &Path, options: &ImportOptions, names: &mut Names) -> Result<Guess> {
        let (reader, format) = match options.format {
            Some(format) => (open_bytes(path)?, format),
            None => sniff::open(path)?,
        };
        let mut record = Record::default();
        let plain =
            |format| Guess { file: path.to_owned(), format, text: vec![], labels: None, separator: None };
        match format {
            Format::Table(delimiter) => {
                let mut table = Table::from_reader(path, reader, delimiter, &options.fields)?;
                while table.read(&mut record)? {
                    self.push(&record, names);
                }
                Ok(table.guess())
            }
            Format::Jsonl => {
                let mut file = Jsonl::from_reader(path, reader, &options.fields)?;
                while file.read(&mut record)? {
                    self.push(&record, names);
                }
                Ok(file.guess())
            }
            Format::Xmc => {
                let (x, y) = xmc_text::from_reader(path, reader)?;
                self.append(x, y);
                Ok(plain("xmc"))
            }
            Format::Svmlight => {
                // Where features start is settled when all files are read: a short one may not use the first feature.
                let (x, y) = svmlight::from_reader(path, reader, Some(true))?;
                self.ids_of_svmlight = true;
                self.append(x, y);
                Ok(plain("svmlight"))
            }
        }
    }

    fn push(&mut self, record: &Record, names: &mut Names) {
        self.texts.push(&record.text);
        let mut row: Vec<(u32, f32)> =
            record.labels.iter().map(|(name, weight)| (names.id(name), *weight)).collect();
        // A label given twice is one label.
        row.sort_by_key(|&(id, _)| id);
        row.dedup_by_key(|&mut (id, _)| id);
        self.y.push(row);
    }

    fn append(&mut self, x: Csr, y: Csr) {
        self.num_labels = self.num_labels.max(y.cols());
        self.features.push(x);
        self.numbered.push(y);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.features.is_empty()
    }

    /// Number of features d.
    pub(super) fn width(&self) -> usize {
        self.features.iter().map(Csr::cols).max().unwrap_or(0)
    }

    /// Checks that test rows have the features and labels of the training rows, and makes features count from 0.
    pub(super) fn reconcile(&mut self, test: &mut Collector, path: &Path) -> Result<()> {
        if !self.ids_of_svmlight {
            let (a, b) = ((self.width(), self.num_labels), (test.width(), test.num_labels));
            if !test.is_empty() && a != b {
                let problem = format!(
                    "{} features and {} labels, but the test rows have {} and {}",
                    a.0, a.1, b.0, b.1
                );
                return Err(Error::file(path, problem));
            }
            return Ok(());
        }
        let all = || self.features.iter().chain(&test.features);
        if all().all(|x| !x.indices().contains(&0)) {
            for x in self.features.iter_mut().chain(&mut test.features) {
                *x = svmlight::counted_from_zero(x)?;
            }
        }
        Ok(())
    }

    /// The part with `ids` in place of the ids of [`Names`], `num_labels` labels and `d` features.
    pub(super) fn finish(mut self, path: &Path, ids: &[u32], num_labels: usize, d: usize) -> Result<Part> {
        let fail = |e: Error| Error::file(path, e.to_string());
        if !self.texts.is_empty() && !self.features.is_empty() {
            return Err(Error::file(
                path,
                "files of texts and files of features cannot be imported together",
            ));
        }
        if !self.features.is_empty() {
            let features = stacked(self.features, d).map_err(fail)?;
            let y = stacked(self.numbered, num_labels).map_err(fail)?;
            return Ok(Part { texts: None, features: Some(features), y, filter: Vec::new() });
        }
        self.texts.shrink_to_fit();
        let met = self.y.finish(ids.len()).map_err(fail)?;
        let mut y = CsrBuilder::new();
        for row in met.iter() {
            y.push(row.iter().filter_map(|(id, weight)| Some((*ids.get(id as usize)?, weight))));
        }
        let y = y.finish(num_labels).map_err(fail)?;
        Ok(Part { texts: Some(self.texts), features: None, y, filter: Vec::new() })
    }
}

/// Matrices one below the other, all with `cols` columns; a single one that fits is not copied.
fn stacked(mut matrices: Vec<Csr>, cols: usize) -> Result<Csr> {
    if matrices.len() == 1
        && let Some(one) = matrices.pop_if(|m| m.cols() == cols)
    {
        return Ok(one);
    }
    let mut all = CsrBuilder::new();
    for row in matrices.iter().flat_map(Csr::iter) {
        all.push(row.iter());
    }
    all.finish(cols)
}

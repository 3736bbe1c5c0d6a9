//! How are svmlight files with several labels a row read and written?
//!
//! `label,label feature:value feature:value # comment`; a row without labels starts with a blank. Labels count from 0
//! as scikit-learn writes them. Features may count from 0 or from 1: as in scikit-learn, a file that uses feature 0
//! counts from 0 and any other from 1, unless it is said.

use std::io::BufRead;
use std::path::Path;

use super::source::{Lines, open_bytes, write_text};
use crate::csr::{Csr, CsrBuilder, Row};
use crate::error::{Error, Result};

/// Most labels, and most features; more are damage: memory for as many names and offsets would follow.
const MAX_ID: u32 = 100_000_000;

/// Features and labels of a file whose widths are those of the largest ids; `zero_based` says where features start.
pub fn read(path: &Path, zero_based: Option<bool>) -> Result<(Csr, Csr)> {
    from_reader(path, open_bytes(path)?, zero_based)
}

/// As [`read`] for bytes that are open already; `path` is for messages.
pub fn from_reader(
    path: &Path,
    reader: Box<dyn BufRead + Send>,
    zero_based: Option<bool>,
) -> Result<(Csr, Csr)> {
    let mut lines = Lines::new(path, reader);
    let mut rows = Rows::default();
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    while lines.advance()? {
        let line = lines.line();
        let data = line.split_once('#').map_or(line, |(data, _comment)| data);
        // A blank line may be a row without anything; one with a comment only is none.
        if data.len() < line.len() && data.trim().is_empty() {
            continue;
        }
        parse_row(&lines, data, &mut features, &mut labels)?;
        rows.smallest = features.iter().map(|&(f, _)| f).chain([rows.smallest]).min().unwrap_or(u32::MAX);
        rows.x.push(features.iter().copied());
        labels.sort_unstable();
        labels.dedup();
        rows.y.push(labels.iter().map(|&l| (l, 1.0)));
    }
    if rows.x.rows() == 0 {
        return Err(Error::file(path, "empty, expected rows `label,label feature:value`"));
    }
    rows.finish(path, zero_based)
}

/// What was read, with features as they stand in the file.
struct Rows {
    x: CsrBuilder,
    y: CsrBuilder,
    smallest: u32,
}

impl Default for Rows {
    fn default() -> Self {
        Rows { x: CsrBuilder::new(), y: CsrBuilder::new(), smallest: u32::MAX }
    }
}

impl Rows {
    fn finish(self, path: &Path, zero_based: Option<bool>) -> Result<(Csr, Csr)> {
        let from_zero = zero_based.unwrap_or(self.smallest == 0);
        if !from_zero && self.smallest == 0 {
            return Err(Error::file(path, "feature 0 in a file that is said to count from 1"));
        }
        let fail = |e: Error| Error::file(path, e.to_string());
        let (d, l) = (self.x.width(), self.y.width());
        if from_zero && d > MAX_ID as usize {
            return Err(Error::file(
                path,
                format!("feature {MAX_ID} in a file that counts from 0, expected less"),
            ));
        }
        let (x, y) = (self.x.finish(d).map_err(fail)?, self.y.finish(l).map_err(fail)?);
        let x = if from_zero { x } else { counted_from_zero(&x).map_err(fail)? };
        Ok((x, y))
    }
}

/// Features that count from 1, of which none is 0, counted from 0.
pub(crate) fn counted_from_zero(x: &Csr) -> Result<Csr> {
    let ids: Vec<u32> = x.indices().iter().map(|&f| f.saturating_sub(1)).collect();
    Csr::new(x.rows(), x.cols().saturating_sub(1), x.indptr().to_vec(), ids, x.values().to_vec())
}

fn parse_row(lines: &Lines, data: &str, features: &mut Vec<(u32, f32)>, labels: &mut Vec<u32>) -> Result<()> {
    features.clear();
    labels.clear();
    let (first, rest) = data.split_once([' ', '\t']).unwrap_or((data, ""));
    let (label_part, feature_part) = if first.contains(':') { ("", data) } else { (first, rest) };
    let small = |text: &str, most: u32| text.parse::<u32>().ok().filter(|&id| id <= most);
    for field in label_part.split(',').filter(|field| !field.is_empty()) {
        let label =
            small(field, MAX_ID - 1).ok_or_else(|| lines.error(field, "a label from 0 to 100 million"))?;
        labels.push(label);
    }
    for field in feature_part.split_ascii_whitespace().filter(|field| !field.starts_with("qid:")) {
        let (id, value) = field.split_once(':').ok_or_else(|| lines.error(field, "`feature:value`"))?;
        // Whether the last of them counts from 1 is not known yet.
        let id =
            small(id, MAX_ID).ok_or_else(|| lines.error(field, "a feature from 0 or 1 to 100 million"))?;
        let value = value
            .parse::<f32>()
            .ok()
            .filter(|v| v.is_finite())
            .ok_or_else(|| lines.error(field, "a finite number after the feature"))?;
        features.push((id, value));
    }
    Ok(())
}

/// Writes features (from 1, the older convention that every reader knows) and labels (from 0); label values are not
/// kept.
pub fn write(path: &Path, x: &Csr, y: &Csr) -> Result<()> {
    if x.rows() != y.rows() {
        return Err(Error::Shape(format!("{} rows of features and {} of labels", x.rows(), y.rows())));
    }
    write_text(path, |w| {
        x.iter().zip(y.iter()).try_for_each(|(features, labels): (Row<'_>, Row<'_>)| {
            for (i, label) in labels.indices.iter().enumerate() {
                write!(w, "{}{label}", if i == 0 { "" } else { "," })?;
            }
            for (feature, value) in features.iter() {
                write!(w, " {}:{value}", feature + 1)?;
            }
            writeln!(w)
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read_text(content: &str, zero_based: Option<bool>) -> Result<(Csr, Csr)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svm");
        std::fs::write(&path, content).unwrap();
        read(&path, zero_based)
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn rows_come_back(rows in vec((vec((0u32..9, -1e3f32..1e3), 0..5), vec(0u32..6, 0..4)), 1..7)) {
            let (mut x, mut y) = (CsrBuilder::new(), CsrBuilder::new());
            for (features, labels) in &rows {
                let mut labels = labels.clone();
                labels.sort_unstable();
                labels.dedup();
                x.push(features.iter().copied());
                y.push(labels.into_iter().map(|l| (l, 1.0)));
            }
            let (d, l) = (x.width(), y.width());
            let (x, y) = (x.finish(d).unwrap(), y.finish(l).unwrap());
            let dir = tempfile::tempdir().unwrap();
            for name in ["a.svm", "a.svm.gz", "a.svm.zst"] {
                let path = dir.path().join(name);
                write(&path, &x, &y).unwrap();
                let back = read(&path, Some(false)).unwrap();
                prop_assert_eq!((&back.0, &back.1), (&x, &y));
            }
        }
    }

    #[test]
    fn a_file_that_uses_feature_zero_counts_from_zero() {
        let (x, y) = read_text("# made by hand\n0,2 qid:3 0:1 2:0.5 # one\n 1:1\n", None).unwrap();
        assert_eq!((x.rows(), x.cols(), y.cols()), (2, 3, 3));
        assert_eq!(x.row(0).indices, [0, 2]);
        assert!(y.row(1).is_empty());
        let (x, _) = read_text("0 1:1 3:0.5\n", None).unwrap();
        assert_eq!((x.cols(), x.row(0).indices), (3, &[0, 2][..]));
        let (x, _) = read_text("0 1:1 3:0.5\n", Some(true)).unwrap();
        assert_eq!(x.cols(), 4);
    }

    #[test]
    fn the_last_feature_allowed_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svm");
        for (content, zero_based) in [("0 99999999:1\n", Some(true)), ("0 100000000:1\n", None)] {
            let (x, y) = read_text(content, zero_based).unwrap();
            assert_eq!(x.cols(), MAX_ID as usize);
            write(&path, &x, &y).unwrap();
            assert_eq!(read(&path, None).unwrap(), (x, y));
        }
        let message = read_text("0 100000000:1\n", Some(true)).unwrap_err().to_string();
        assert!(message.contains("feature 100000000 in a file that counts from 0"), "{message}");
    }

    #[test]
    fn wrong_fields_are_named_with_their_line() {
        for (content, expected) in [
            ("0 1:1\n-1 1:1\n", "a.svm:2: found `-1`, expected a label"),
            ("0 x:1\n", "found `x:1`, expected a feature"),
            ("0 4000000000:1\n", "100 million"),
            ("0 1:nan\n", "found `1:nan`, expected a finite number"),
            ("0 1\n", "found `1`, expected `feature:value`"),
            ("", "empty"),
        ] {
            let message = read_text(content, None).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(read_text("0 0:1\n", Some(false)).unwrap_err().to_string().contains("count from 1"));
    }
}

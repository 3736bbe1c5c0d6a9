//! How is the text format of the XMC repository read and written?
//!
//! One file: a first line `n d L`, then a line a row, `label,label feature:value feature:value`, where a row without
//! labels starts with a blank. Two files: a first line `n d`, then `column:value column:value`, one such file for
//! features and one for labels. All ids count from 0. The `n`, `d` and `L` of the first line are checked, not trusted:
//! memory follows the lines that are really there.

use std::io::{self, BufRead, Write};
use std::path::Path;

use super::source::{Lines, open_bytes, open_lines, write_text};
use crate::csr::{Csr, CsrBuilder, Row};
use crate::error::{Error, Result};

/// Features `[n, d]` and labels `[n, L]` of one file.
pub fn read(path: &Path) -> Result<(Csr, Csr)> {
    from_reader(path, open_bytes(path)?)
}

/// As [`read`] for bytes that are open already; `path` is for messages.
pub fn from_reader(path: &Path, reader: Box<dyn BufRead + Send>) -> Result<(Csr, Csr)> {
    let mut lines = Lines::new(path, reader);
    let [n, d, num_labels] = header(&mut lines, "`n d L`: the numbers of rows, features and labels")?;
    let (mut x, mut y) = (CsrBuilder::new(), CsrBuilder::new());
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    while next_row(&mut lines, x.rows(), n)? {
        let (label_part, feature_part) = split_labels(lines.line());
        parse_labels(&lines, label_part, num_labels, &mut labels)?;
        parse_entries(&lines, feature_part, d, "feature", &mut features)?;
        x.push(features.iter().copied());
        y.push(labels.iter().map(|&l| (l, 1.0)));
    }
    expect_rows(&lines, x.rows(), n)?;
    Ok((finish(path, x, d)?, finish(path, y, num_labels)?))
}

/// A matrix `[n, d]` of a file without labels.
pub fn read_sparse(path: &Path) -> Result<Csr> {
    let mut lines = open_lines(path)?;
    let [n, d] = header(&mut lines, "`n d`: the numbers of rows and columns")?;
    let mut matrix = CsrBuilder::new();
    let mut entries = Vec::new();
    while next_row(&mut lines, matrix.rows(), n)? {
        parse_entries(&lines, lines.line(), d, "column", &mut entries)?;
        matrix.push(entries.iter().copied());
    }
    expect_rows(&lines, matrix.rows(), n)?;
    finish(path, matrix, d)
}

/// Writes features and labels into one file; label values are not kept, the format has none.
pub fn write(path: &Path, x: &Csr, y: &Csr) -> Result<()> {
    if x.rows() != y.rows() {
        return Err(Error::Shape(format!("{} rows of features and {} of labels", x.rows(), y.rows())));
    }
    write_text(path, |w| {
        writeln!(w, "{} {} {}", x.rows(), x.cols(), y.cols())?;
        x.iter().zip(y.iter()).try_for_each(|(features, labels)| {
            for (i, label) in labels.indices.iter().enumerate() {
                write!(w, "{}{label}", if i == 0 { "" } else { "," })?;
            }
            write!(w, " ")?;
            write_entries(w, features)
        })
    })
}

/// Writes a matrix into a file of its own.
pub fn write_sparse(path: &Path, m: &Csr) -> Result<()> {
    write_text(path, |w| {
        writeln!(w, "{} {}", m.rows(), m.cols())?;
        m.iter().try_for_each(|row| write_entries(w, row))
    })
}

fn write_entries(w: &mut dyn Write, row: Row<'_>) -> io::Result<()> {
    for (i, (column, value)) in row.iter().enumerate() {
        write!(w, "{}{column}:{value}", if i == 0 { "" } else { " " })?;
    }
    writeln!(w)
}

/// Numbers of the first line of an open file, if it is a header of this format with `N` numbers.
pub(crate) fn header_numbers<const N: usize>(line: &str) -> Option<[usize; N]> {
    let numbers =
        line.split_ascii_whitespace().map(|field| field.parse().ok()).collect::<Option<Vec<_>>>()?;
    numbers.try_into().ok()
}

fn header<const N: usize>(lines: &mut Lines, expected: &str) -> Result<[usize; N]> {
    if !lines.advance()? {
        return Err(Error::file(lines.path(), format!("empty, expected a first line {expected}")));
    }
    header_numbers(lines.line()).ok_or_else(|| lines.error(lines.line(), format!("a first line {expected}")))
}

/// Moves to the next row; blank lines after the last one are passed over.
fn next_row(lines: &mut Lines, read: usize, n: usize) -> Result<bool> {
    while lines.advance()? {
        if read < n {
            return Ok(true);
        }
        if !lines.line().trim_ascii().is_empty() {
            return Err(lines.error(lines.line(), format!("the end, after the {n} rows of the first line")));
        }
    }
    Ok(false)
}

fn expect_rows(lines: &Lines, found: usize, n: usize) -> Result<()> {
    if found == n {
        return Ok(());
    }
    Err(Error::file(lines.path(), format!("{found} rows, but the first line says {n}: truncated?")))
}

/// The labels and the features of a row. A row without labels starts with a blank; some writers forget it.
fn split_labels(line: &str) -> (&str, &str) {
    let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if first.contains(':') { ("", line) } else { (first, rest) }
}

fn parse_labels(lines: &Lines, part: &str, num_labels: usize, labels: &mut Vec<u32>) -> Result<()> {
    labels.clear();
    for field in part.split(',').map(str::trim_ascii).filter(|field| !field.is_empty()) {
        match field.parse::<u32>() {
            Ok(label) if (label as usize) < num_labels => labels.push(label),
            _ => return Err(lines.error(field, format!("a label from 0, less than {num_labels}"))),
        }
    }
    labels.sort_unstable();
    labels.dedup();
    Ok(())
}

fn parse_entries(
    lines: &Lines,
    part: &str,
    cols: usize,
    what: &str,
    entries: &mut Vec<(u32, f32)>,
) -> Result<()> {
    entries.clear();
    for field in part.split_ascii_whitespace() {
        let (column, value) =
            field.split_once(':').ok_or_else(|| lines.error(field, format!("`{what}:value`")))?;
        let column = column
            .parse::<u32>()
            .ok()
            .filter(|&c| (c as usize) < cols)
            .ok_or_else(|| lines.error(field, format!("a {what} from 0, less than {cols}")))?;
        let value = value
            .parse::<f32>()
            .ok()
            .filter(|v| v.is_finite())
            .ok_or_else(|| lines.error(field, format!("a finite number after the {what}")))?;
        entries.push((column, value));
    }
    Ok(())
}

fn finish(path: &Path, matrix: CsrBuilder, cols: usize) -> Result<Csr> {
    matrix.finish(cols).map_err(|e| Error::file(path, e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: usize, cols: u32) -> impl Strategy<Value = Csr> {
        vec(vec((0..cols, -1e3f32..1e3), 0..5), rows).prop_map(move |rows| {
            let mut b = CsrBuilder::new();
            for row in rows {
                b.push(row);
            }
            b.finish(cols as usize).unwrap()
        })
    }

    fn ones(m: &Csr) -> Csr {
        let mut m = m.clone();
        m.values_mut().fill(1.0);
        m
    }

    fn text(content: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.txt");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn features_and_labels_come_back((x, y) in (0usize..7).prop_flat_map(|n| (matrix(n, 9), matrix(n, 6)))) {
            let dir = tempfile::tempdir().unwrap();
            let y = ones(&y);
            for name in ["train.txt", "train.txt.gz", "train.txt.zst"] {
                let path = dir.path().join(name);
                write(&path, &x, &y).unwrap();
                let (x_back, y_back) = read(&path).unwrap();
                prop_assert_eq!((&x_back, &y_back), (&x, &y));
                write_sparse(&path, &x).unwrap();
                prop_assert_eq!(&read_sparse(&path).unwrap(), &x);
            }
        }
    }

    #[test]
    fn rows_without_labels_are_kept_with_and_without_the_blank() {
        let (_dir, path) = text("4 3 2\n1,0 2:0.5\n 0:1\n1:2\n\n");
        let (x, y) = read(&path).unwrap();
        assert_eq!(y.iter().map(|r| r.len()).collect::<Vec<_>>(), [2, 0, 0, 0]);
        assert_eq!(x.iter().map(|r| r.len()).collect::<Vec<_>>(), [1, 1, 1, 0]);
    }

    #[test]
    fn a_label_given_twice_counts_once() {
        let (_dir, path) = text("1 1 2\n1,1,0 0:1\n");
        assert_eq!(read(&path).unwrap().1.row(0).values, [1.0, 1.0]);
    }
}

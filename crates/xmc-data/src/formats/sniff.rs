//! Which format does a file have?
//!
//! Its name says it, or for `.txt`, unknown endings and standard input its first line.

use std::io::BufRead;
use std::path::Path;

use super::source::{MARK, inner_name, open_bytes, read_error};
use super::table::Delimiter;
use super::xmc_text::header_numbers;
use crate::error::{Error, Result};

/// Formats of rows with labels in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns, see [`super::table`].
    Table(Delimiter),
    /// Objects, see [`super::jsonl`].
    Jsonl,
    /// Features and labels of the XMC repository, see [`super::xmc_text`].
    Xmc,
    /// Features and labels, see [`super::svmlight`].
    Svmlight,
}

impl Format {
    /// The format that a user names.
    pub fn named(name: &str) -> Result<Format> {
        match name {
            "csv" => Ok(Format::Table(Delimiter::Comma)),
            "tsv" => Ok(Format::Table(Delimiter::Tab)),
            "jsonl" => Ok(Format::Jsonl),
            "xmc" => Ok(Format::Xmc),
            "svmlight" => Ok(Format::Svmlight),
            other => Err(Error::config("format", other, "one of csv, tsv, jsonl, xmc, svmlight")),
        }
    }

    fn of_name(path: &Path, first_line: &str) -> Option<Format> {
        let inner = inner_name(path);
        match inner.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Table(Delimiter::of_line(first_line))),
            "tsv" | "tab" => Some(Format::Table(Delimiter::Tab)),
            "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
            "svm" | "svmlight" | "libsvm" => Some(Format::Svmlight),
            _ => None,
        }
    }

    fn of_line(line: &str) -> Option<Format> {
        let is_entry = |field: &str| field.split_once(':').is_some_and(|(id, _)| id.parse::<u32>().is_ok());
        if line.starts_with(['{', '[']) {
            Some(Format::Jsonl)
        } else if header_numbers::<3>(line).is_some() {
            Some(Format::Xmc)
        } else if line.split_ascii_whitespace().skip(1).take(3).any(is_entry) {
            Some(Format::Svmlight)
        } else if line.contains('\t') {
            Some(Format::Table(Delimiter::Tab))
        } else if line.contains([',', ';']) {
            Some(Format::Table(Delimiter::of_line(line)))
        } else {
            None
        }
    }
}

/// Opens a file and tells its format, without consuming anything.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, Format)> {
    let mut reader = open_bytes(path)?;
    let start = reader.fill_buf().map_err(|e| read_error(path, e))?;
    let start = start.strip_prefix(MARK).unwrap_or(start);
    if start.is_empty() {
        return Err(Error::file(path, "empty, expected rows with labels"));
    }
    let line = start.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    let format = Format::of_name(path, line).or_else(|| Format::of_line(line));
    match format {
        Some(format) => Ok((reader, format)),
        None if header_numbers::<2>(line).is_some() => Err(Error::file(
            path,
            "a matrix without labels (`n d` in its first line): put it into a dataset folder as `X.trn.txt` or `Y.trn.txt`",
        )),
        None => Err(Error::parse(
            path,
            1,
            line,
            "a first line of csv, tsv, jsonl, svmlight or XMC text (`n d L`); name the format if it is another",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_the_format() {
        let table = |delimiter| Some(Format::Table(delimiter));
        for (line, format) in [
            ("{\"text\":\"a\"}", Some(Format::Jsonl)),
            ("15539 5000 3993", Some(Format::Xmc)),
            ("1,2 3:0.5 4:1", Some(Format::Svmlight)),
            (" 3:0.5 4:1", Some(Format::Svmlight)),
            ("a text: with a colon\tlabel", table(Delimiter::Tab)),
            ("text,labels", table(Delimiter::Comma)),
            ("text;labels", table(Delimiter::Semicolon)),
            ("just words", None),
        ] {
            assert_eq!(Format::of_line(line), format, "{line}");
        }
    }

    #[test]
    fn the_name_rules_over_the_content() {
        let named = |name: &str, line: &str| Format::of_name(Path::new(name), line);
        assert_eq!(named("a.JSON.gz", "x"), Some(Format::Jsonl));
        assert_eq!(named("a.csv.zst", "a\tb"), Some(Format::Table(Delimiter::Tab)));
        assert_eq!(named("a.txt", "x"), None);
        assert_eq!(named("-", "x"), None);
    }
}

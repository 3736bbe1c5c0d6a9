//! Where do the texts to label come from?
//!
//! One by one from lines, JSON Lines, or a table with a header, so that an answer can go out before the next question
//! is written.

use std::io::BufRead;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use xmc_data::Error;
use xmc_data::formats::source::{inner_name, open_bytes};
use xmc_data::formats::table::Delimiter;
use xmc_data::formats::{Lines, open_lines};

use crate::args::{InputFormat, Predict};

/// The format asked for, or the one that the name of the file tells.
pub(crate) fn format_of(verb: &Predict) -> InputFormat {
    let name = inner_name(&verb.input);
    verb.input_format.unwrap_or_else(|| match name.extension().and_then(|end| end.to_str()) {
        Some("jsonl" | "ndjson") => InputFormat::Jsonl,
        Some("csv") => InputFormat::Csv,
        Some("tsv") => InputFormat::Tsv,
        Some("npz") => InputFormat::Npz,
        _ => InputFormat::Lines,
    })
}

/// Gives one text after the other.
pub(crate) enum TextSource {
    /// Each line is a text.
    Lines(Lines),
    /// Each line is an object; the text is one of its fields.
    Objects(Lines, String),
    /// Each record has the text in one column.
    Table(TableSource),
}

/// Opens the input of `verb`, which must not be a matrix.
pub(crate) fn open(verb: &Predict) -> Result<TextSource> {
    let column = verb.text_column.clone();
    Ok(match format_of(verb) {
        InputFormat::Jsonl => TextSource::Objects(open_lines(&verb.input)?, column),
        InputFormat::Csv => TextSource::Table(TableSource::open(&verb.input, None, &column)?),
        InputFormat::Tsv => TextSource::Table(TableSource::open(&verb.input, Some(Delimiter::Tab), &column)?),
        InputFormat::Lines | InputFormat::Npz => TextSource::Lines(open_lines(&verb.input)?),
    })
}

impl TextSource {
    /// The next text, or `None` at the end.
    pub(crate) fn next_text(&mut self) -> Result<Option<String>> {
        match self {
            TextSource::Lines(lines) => Ok(lines.next_line()?.map(str::to_owned)),
            TextSource::Objects(lines, field) => {
                loop {
                    if !lines.advance()? {
                        return Ok(None);
                    }
                    // As in import: a blank line is no row.
                    if !lines.line().trim().is_empty() {
                        break;
                    }
                }
                let object: Option<Value> = serde_json::from_str(lines.line()).ok();
                match object.as_ref().and_then(|object| object.get(&*field)).and_then(Value::as_str) {
                    Some(text) => Ok(Some(text.to_owned())),
                    None => {
                        Err(lines.error(lines.line(), format!("an object with a string `{field}`")).into())
                    }
                }
            }
            TextSource::Table(table) => table.next_text(),
        }
    }
}

/// Records of a table, of which one column is the text.
pub(crate) struct TableSource {
    path: std::path::PathBuf,
    records: csv::StringRecordsIntoIter<Box<dyn BufRead + Send>>,
    column: usize,
}

impl TableSource {
    /// `delimiter` is that of the first line if not given.
    fn open(path: &Path, delimiter: Option<Delimiter>, column: &str) -> Result<Self> {
        let mut bytes = open_bytes(path)?;
        let delimiter = if let Some(given) = delimiter {
            given
        } else {
            let start = bytes.fill_buf().map_err(Error::io(path))?;
            let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
            Delimiter::of_line(&String::from_utf8_lossy(line))
        };
        let mut reader = delimiter.rules().from_reader(bytes);
        let header = reader.headers().map_err(|e| Error::file(path, e.to_string()))?.clone();
        let Some(at) = header.iter().position(|name| name == column) else {
            let found = header.iter().collect::<Vec<_>>().join(", ");
            let expected = format!("a column `{column}`; name another one with --text-column");
            return Err(Error::parse(path, 1, &found, expected).into());
        };
        Ok(TableSource { path: path.to_owned(), records: reader.into_records(), column: at })
    }

    fn next_text(&mut self) -> Result<Option<String>> {
        let Some(record) = self.records.next() else { return Ok(None) };
        let record = record.map_err(|e| Error::file(&self.path, e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(self.column).ok_or_else(|| {
            let found = format!("{} columns", record.len());
            Error::parse(&self.path, line, &found, format!("at least {}", self.column + 1))
        })?;
        Ok(Some(text.to_owned()))
    }
}

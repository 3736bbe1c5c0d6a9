//! Where do the texts to label come from?
//!
//! One by one from lines, JSON Lines, or a table with a header, so that an answer can go out before the next question
//! is written.

use std::io::BufRead;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::{iter, thread};

use anyhow::Result;
use serde_json::Value;
use xmc_data::formats::source::{inner_name, open_bytes};
use xmc_data::formats::table::Delimiter;
use xmc_data::formats::{Lines, open_lines};
use xmc_data::{Error, Strings};

use crate::args::{Input, InputFormat};

/// Texts that are answered at once if they are there already; enough to keep all threads busy.
const BATCH: usize = 4096;

/// The format asked for, or the one that the name of the file tells.
pub(crate) fn format_of(input: &Input) -> InputFormat {
    let name = inner_name(&input.path);
    input.format.unwrap_or_else(|| match name.extension().and_then(|end| end.to_str()) {
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

/// Opens an input, which must not be a matrix.
pub(crate) fn open(input: &Input) -> Result<TextSource> {
    let column = input.text_column.clone();
    Ok(match format_of(input) {
        InputFormat::Jsonl => TextSource::Objects(open_lines(&input.path)?, column),
        InputFormat::Csv => TextSource::Table(TableSource::open(&input.path, None, &column)?),
        InputFormat::Tsv => TextSource::Table(TableSource::open(&input.path, Some(Delimiter::Tab), &column)?),
        InputFormat::Lines | InputFormat::Npz => TextSource::Lines(open_lines(&input.path)?),
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

/// Reads on while answers are made. A reader that waits for its terminal ends with the process.
pub(crate) fn read_ahead(mut source: TextSource) -> Receiver<Result<String>> {
    let (send, receive) = sync_channel(BATCH);
    thread::spawn(move || {
        loop {
            let text = match source.next_text() {
                Ok(Some(text)) => Ok(text),
                Ok(None) => return,
                Err(problem) => Err(problem),
            };
            let last = text.is_err();
            if send.send(text).is_err() || last {
                return;
            }
        }
    });
    receive
}

/// The texts that are there by now, at least one; `None` at the end. What cannot be read is the last of all and goes
/// to `problem`: what was read before it is answered first.
pub(crate) fn next_batch(
    texts: &Receiver<Result<String>>,
    problem: &mut Option<anyhow::Error>,
) -> Option<Strings> {
    let first = texts.recv().ok()?;
    let mut batch = Strings::default();
    for text in iter::once(first).chain(texts.try_iter()).take(BATCH) {
        match text {
            Ok(text) => batch.push(&text),
            Err(unreadable) => *problem = Some(unreadable),
        }
    }
    Some(batch)
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

//! How are tables of texts and labels (`.csv`, `.tsv`) read and written?
//!
//! CSV fields may be quoted and then hold line ends. TSV is taken literally, without quotes: texts that begin with a
//! quotation mark are common there, quoted fields are not.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::fields::{FieldOptions, Guess, Record, SAMPLE, Separator, choose, is_header, prose};
use super::source::{MARK, not_utf8, open_bytes, read_error, write_text};
use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::labels::{LabelId, LabelSet};
use crate::strings::Strings;

/// What stands between columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// `.csv`
    Comma,
    /// `.csv` of some countries
    Semicolon,
    /// `.tsv`
    Tab,
}

impl Delimiter {
    /// What most likely stands between the columns of a `.csv` with this first line.
    pub fn of_line(first_line: &str) -> Delimiter {
        let count = |sign| first_line.matches(sign).count();
        if count(',') == 0 && count('\t') > 0 {
            Delimiter::Tab
        } else if count(';') > count(',') {
            Delimiter::Semicolon
        } else {
            Delimiter::Comma
        }
    }

    /// How records between these delimiters are cut and unquoted.
    pub fn rules(self) -> csv::ReaderBuilder {
        let mut rules = csv::ReaderBuilder::new();
        rules.flexible(true).delimiter(self.byte()).quoting(self != Delimiter::Tab);
        rules
    }

    fn byte(self) -> u8 {
        match self {
            Delimiter::Comma => b',',
            Delimiter::Semicolon => b';',
            Delimiter::Tab => b'\t',
        }
    }
}

/// An open table.
pub struct Table {
    path: PathBuf,
    reader: csv::Reader<QuoteCounter>,
    /// Records read for guessing and not yet handed out.
    sample: VecDeque<ByteRecord>,
    current: ByteRecord,
    /// Line on which the record read last begins.
    started: u64,
    names: Vec<String>,
    text: Vec<usize>,
    labels: usize,
    separator: Separator,
    delimiter: Delimiter,
}

impl Table {
    /// Opens a file and finds its columns.
    pub fn open(path: &Path, delimiter: Delimiter, options: &FieldOptions) -> Result<Self> {
        Table::from_reader(path, open_bytes(path)?, delimiter, options)
    }

    /// As [`Table::open`] for bytes that are open already; `path` is for messages.
    pub fn from_reader(
        path: &Path,
        reader: Box<dyn BufRead + Send>,
        delimiter: Delimiter,
        options: &FieldOptions,
    ) -> Result<Self> {
        let reader =
            delimiter.rules().has_headers(false).from_reader(QuoteCounter { inner: reader, quotes: 0 });
        let mut table = Table {
            path: path.to_owned(),
            reader,
            sample: VecDeque::new(),
            current: ByteRecord::new(),
            started: 0,
            names: Vec::new(),
            text: Vec::new(),
            labels: 0,
            separator: Separator::Whole,
            delimiter,
        };
        table.look(options)?;
        Ok(table)
    }

    /// Reads a sample and settles names, columns and separator.
    fn look(&mut self, options: &FieldOptions) -> Result<()> {
        if !self.advance()? {
            return Err(Error::file(&self.path, "empty, expected a table of texts and labels"));
        }
        let mut first = Vec::with_capacity(self.current.len());
        for at in 0..self.current.len() {
            first.push(self.field(&self.current, at)?.to_owned());
        }
        if first.len() < 2 {
            return Err(self.error(
                &self.current,
                &first.join(""),
                "two columns or more: texts and labels".into(),
            ));
        }
        if options.header.unwrap_or_else(|| is_header(&first, options)) {
            self.names = first;
        } else {
            self.names = (1..=first.len()).map(|at| at.to_string()).collect();
            self.sample.push_back(self.current.clone());
        }
        while self.sample.len() < SAMPLE && self.advance()? {
            self.sample.push_back(self.current.clone());
        }
        let mut amounts = vec![0; self.names.len()];
        for record in &self.sample {
            for (at, amount) in amounts.iter_mut().enumerate() {
                *amount += prose(self.field(record, at)?);
            }
        }
        (self.text, self.labels) = choose(&self.path, &self.names, &amounts, options)?;
        self.separator = options.separator.as_deref().map_or_else(|| self.separator(), Separator::given)?;
        Ok(())
    }

    /// The separator that the sampled labels suggest.
    fn separator(&self) -> Result<Separator> {
        let fields = self.sample.iter().map(|r| self.field(r, self.labels)).collect::<Result<Vec<_>>>()?;
        Ok(Separator::guess(fields.iter().copied()))
    }

    /// How the file is understood.
    pub fn guess(&self) -> Guess {
        Guess {
            file: self.path.clone(),
            format: if self.delimiter == Delimiter::Tab { "tsv" } else { "csv" },
            text: self.text.iter().filter_map(|&at| self.names.get(at).cloned()).collect(),
            labels: self.names.get(self.labels).cloned(),
            separator: self.separator.name(),
        }
    }

    /// Reads the next row into `record`; false at the end.
    pub fn read(&mut self, record: &mut Record) -> Result<bool> {
        match self.sample.pop_front() {
            Some(sampled) => self.current = sampled,
            None if self.advance()? => {}
            None => return Ok(false),
        }
        record.text.clear();
        record.labels.clear();
        for &at in &self.text {
            let part = self.field(&self.current, at)?;
            if !record.text.is_empty() && !part.is_empty() {
                record.text.push(' ');
            }
            record.text.push_str(part);
        }
        self.separator.split(self.field(&self.current, self.labels)?, &mut record.labels);
        Ok(true)
    }

    /// Moves to the next record and checks its width.
    fn advance(&mut self) -> Result<bool> {
        let more = self.reader.read_byte_record(&mut self.current).map_err(|e| match e.into_kind() {
            csv::ErrorKind::Io(source) => read_error(&self.path, source),
            other => Error::file(&self.path, format!("not a readable table: {other:?}")),
        })?;
        let width = self.current.len();
        if more && !self.names.is_empty() && width != self.names.len() {
            let expected = format!("{} columns as in the first line, not {width}", self.names.len());
            return Err(self.error(&self.current, &self.written(&self.current), expected));
        }
        // An opening quote that is never closed swallows every row after it without any other sign.
        let last_line = self.reader.position().line();
        if !more
            && self.reader.get_ref().quotes % 2 == 1
            && last_line > self.started + 1
            && self.delimiter != Delimiter::Tab
        {
            let expected = "a closing quotation mark before the end of the file";
            return Err(Error::parse(&self.path, self.started, "\"", expected));
        }
        self.started = self.current.position().map_or(0, csv::Position::line);
        Ok(more)
    }

    fn field<'r>(&self, record: &'r ByteRecord, at: usize) -> Result<&'r str> {
        let bytes = record.get(at).unwrap_or_default();
        let number = record.position().map_or(0, csv::Position::line);
        let bytes = if number == 1 && at == 0 { bytes.strip_prefix(MARK).unwrap_or(bytes) } else { bytes };
        std::str::from_utf8(bytes).map_err(|_| not_utf8(&self.path, number, bytes))
    }

    /// A record as it stands in the file, up to needless quotes.
    fn written(&self, record: &ByteRecord) -> String {
        let delimiter = char::from(self.delimiter.byte());
        let fields = record.iter().map(String::from_utf8_lossy).map(|field| {
            let plain = self.delimiter == Delimiter::Tab || !field.contains(['"', '\n', '\r', delimiter]);
            if plain { field } else { format!("\"{}\"", field.replace('"', "\"\"")).into() }
        });
        fields.collect::<Vec<_>>().join(&delimiter.to_string())
    }

    fn error(&self, record: &ByteRecord, value: &str, expected: String) -> Error {
        Error::parse(&self.path, record.position().map_or(0, csv::Position::line), value, expected)
    }
}

/// Writes a table with the columns `text` and `labels`, the names of a row joined by `;` or, where a name holds that,
/// by `|`. Weights are not kept; in TSV, tabs and line ends inside a text become blanks.
pub fn write(path: &Path, delimiter: Delimiter, texts: &Strings, y: &Csr, labels: &LabelSet) -> Result<()> {
    let separator = [";", "|"].into_iter().find(|sign| !labels.iter().any(|name| name.contains(sign)));
    let Some(separator) = separator else {
        return Err(Error::file(
            path,
            "label names with both `;` and `|` cannot be written to a table: use JSONL",
        ));
    };
    write_text(path, |w| {
        let style =
            if delimiter == Delimiter::Tab { csv::QuoteStyle::Never } else { csv::QuoteStyle::Necessary };
        let mut table =
            csv::WriterBuilder::new().delimiter(delimiter.byte()).quote_style(style).from_writer(w);
        table.write_record(["text", "labels"])?;
        for (text, row) in texts.iter().zip(y.iter()) {
            let names: Vec<&str> = row.indices.iter().filter_map(|&l| labels.get(LabelId(l))).collect();
            let names = names.join(separator);
            match delimiter {
                Delimiter::Tab => {
                    table.write_record([text, &names].map(|f| f.replace(['\t', '\n', '\r'], " ")))?;
                }
                Delimiter::Comma | Delimiter::Semicolon => {
                    table.write_record([text, &names])?;
                }
            }
        }
        table.flush()
    })
}

/// Counts quotation marks on their way to the parser.
struct QuoteCounter {
    inner: Box<dyn BufRead + Send>,
    quotes: u64,
}

impl Read for QuoteCounter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.quotes += buffer.iter().take(len).filter(|&&b| b == b'"').count() as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::csr::CsrBuilder;

    fn rows(path: &Path, delimiter: Delimiter, options: &FieldOptions) -> Result<Vec<Record>> {
        let mut table = Table::open(path, delimiter, options)?;
        let (mut record, mut rows) = (Record::default(), Vec::new());
        while table.read(&mut record)? {
            rows.push(record.clone());
        }
        Ok(rows)
    }

    fn csv_rows(content: &str) -> Result<Vec<(String, Vec<String>)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, content).unwrap();
        let rows = rows(&path, Delimiter::Comma, &FieldOptions::default())?;
        Ok(rows.into_iter().map(|r| (r.text, r.labels.into_iter().map(|l| l.0).collect())).collect())
    }

    fn row(text: &str, labels: &[&str]) -> (String, Vec<String>) {
        (text.into(), labels.iter().map(|&l| l.into()).collect())
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn written_tables_come_back(
            given in proptest::collection::vec(("[a-z\"', ;\n]{1,20}", proptest::collection::vec(0u32..4, 0..4)), 1..9),
        ) {
            let labels = LabelSet::new(["new york", "a, b", "\"quoted\"", "c"]);
            let texts = Strings::new(given.iter().map(|r| &r.0));
            let mut y = CsrBuilder::new();
            for (_, row) in &given {
                y.push(row.iter().map(|&l| (l, 1.0)));
            }
            let y = y.finish(4).unwrap();
            let dir = tempfile::tempdir().unwrap();
            for (name, delimiter) in
                [("a.csv.gz", Delimiter::Comma), ("a.csv", Delimiter::Semicolon), ("a.tsv.zst", Delimiter::Tab)]
            {
                let path = dir.path().join(name);
                write(&path, delimiter, &texts, &y, &labels).unwrap();
                let options = FieldOptions { separator: Some(";".into()), ..FieldOptions::default() };
                let back = rows(&path, delimiter, &options).unwrap();
                prop_assert_eq!(back.len(), texts.len());
                for (i, record) in back.iter().enumerate() {
                    let text = texts.get(i).to_owned();
                    let text = if delimiter == Delimiter::Tab { text.replace('\n', " ") } else { text };
                    prop_assert_eq!(&record.text, &text);
                    let names: Vec<&str> = y.row(i).indices.iter().map(|&l| labels.get(LabelId(l)).unwrap()).collect();
                    prop_assert_eq!(record.labels.iter().map(|l| l.0.as_str()).collect::<Vec<_>>(), names);
                }
            }
        }
    }

    #[test]
    fn quoted_fields_may_hold_delimiters_and_line_ends() {
        let rows = csv_rows("\u{feff}title,text,tags\nA,\"one, \"\"two\"\"\nthree\",x;y\nB,,\n").unwrap();
        assert_eq!(rows, [row("A one, \"two\"\nthree", &["x", "y"]), row("B", &[])]);
    }

    #[test]
    fn a_table_without_a_header_loses_no_row() {
        let rows = csv_rows("\"1,2\",a long enough description\n3,another one of those\n").unwrap();
        assert_eq!(
            rows,
            [row("a long enough description", &["1", "2"]), row("another one of those", &["3"])]
        );
    }

    #[test]
    fn a_row_of_another_width_is_named() {
        let message = csv_rows("text,labels\none,a\ntwo\n").unwrap_err().to_string();
        assert!(
            message.contains("a.csv:3:") && message.contains("2 columns as in the first line, not 1"),
            "{message}"
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_is_found() {
        let message = csv_rows("labels,text\na,\"one\nb,two\nc,three\n").unwrap_err().to_string();
        assert!(message.contains("a.csv:2:") && message.contains("closing quotation mark"), "{message}");
    }

    #[test]
    fn tabs_are_taken_literally() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tsv");
        std::fs::write(&path, "\"Ulysses\" and other novels\t<http://a/1> <http://a/2>\n\"x\t<http://a/3>\n")
            .unwrap();
        let rows = rows(&path, Delimiter::Tab, &FieldOptions::default()).unwrap();
        assert_eq!(rows[0].text, "\"Ulysses\" and other novels");
        assert_eq!(rows[0].labels.len(), 2);
        assert_eq!(rows[1].text, "\"x");
    }

    #[test]
    fn columns_may_be_named_by_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "what,why,who\none,two,x/y\n").unwrap();
        let options = FieldOptions {
            text: vec!["why".into(), "what".into()],
            labels: Some("who".into()),
            separator: Some("/".into()),
            header: None,
        };
        let rows = rows(&path, Delimiter::Comma, &options).unwrap();
        assert_eq!((rows[0].text.as_str(), rows[0].labels.len()), ("two one", 2));
        let options = FieldOptions { labels: Some("whom".into()), header: Some(true), ..options };
        let message = Table::open(&path, Delimiter::Comma, &options).err().unwrap().to_string();
        assert!(message.contains("`labels` = whom: expected one of `what`, `why`, `who`"), "{message}");
    }
}

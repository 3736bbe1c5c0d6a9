//! How are JSON lines of texts and labels read and written?
//!
//! One object a line. The text is one key or several (`title` before `content`), a string or a list of strings. The
//! labels are a list of names or numbers, one text (cut like a field of a table), or an object `{name: weight}`.
//! The files of the XMC repository (`target_ind`, `target_rel`) are a case of this: numbers and their weights.

use std::collections::{BTreeSet, VecDeque};
use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::fields::{FieldOptions, Guess, Record, SAMPLE, Separator, choose};
use super::source::{Lines, open_bytes, write_text};
use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::labels::{LabelId, LabelSet};
use crate::strings::Strings;

/// Key of the XMC repository with the weights of the numbers in `target_ind`.
const WEIGHTS: &str = "target_rel";
const IDS: &str = "target_ind";

type Object = Map<String, Value>;

/// An open file of JSON lines.
pub struct Jsonl {
    lines: Lines,
    /// Objects read for guessing and not yet handed out, with their line numbers.
    sample: VecDeque<(u64, Object)>,
    text: Vec<String>,
    labels: String,
    separator: Separator,
}

impl Jsonl {
    /// Opens a file and finds its keys.
    pub fn open(path: &Path, options: &FieldOptions) -> Result<Self> {
        Jsonl::from_reader(path, open_bytes(path)?, options)
    }

    /// As [`Jsonl::open`] for bytes that are open already; `path` is for messages.
    pub fn from_reader(path: &Path, reader: Box<dyn BufRead + Send>, options: &FieldOptions) -> Result<Self> {
        let mut file = Jsonl {
            lines: Lines::new(path, reader),
            sample: VecDeque::new(),
            text: Vec::new(),
            labels: String::new(),
            separator: Separator::Whole,
        };
        while file.sample.len() < SAMPLE
            && let Some(object) = file.next_object()?
        {
            file.sample.push_back(object);
        }
        if file.sample.is_empty() {
            return Err(Error::file(path, "empty, expected one JSON object a line"));
        }
        file.choose_keys(options)?;
        Ok(file)
    }

    fn choose_keys(&mut self, options: &FieldOptions) -> Result<()> {
        // Keys of all sampled objects, because an optional one may be missing in the first.
        let keys: BTreeSet<&String> = self.sample.iter().flat_map(|(_, object)| object.keys()).collect();
        let keys: Vec<String> = keys.into_iter().cloned().collect();
        let (text, labels) = choose(self.lines.path(), &keys, &[], options)?;
        self.text = text.into_iter().filter_map(|at| keys.get(at).cloned()).collect();
        self.labels = keys.get(labels).cloned().unwrap_or_default();
        self.separator = match &options.separator {
            Some(given) => Separator::given(given)?,
            None => Separator::guess(
                self.sample.iter().filter_map(|(_, object)| object.get(&self.labels).and_then(Value::as_str)),
            ),
        };
        Ok(())
    }

    /// How the file is understood.
    pub fn guess(&self) -> Guess {
        Guess {
            file: self.lines.path().to_owned(),
            format: "jsonl",
            text: self.text.clone(),
            labels: Some(self.labels.clone()),
            separator: self.separator.name(),
        }
    }

    /// Reads the next row into `record`; false at the end.
    pub fn read(&mut self, record: &mut Record) -> Result<bool> {
        let next = match self.sample.pop_front() {
            Some(sampled) => Some(sampled),
            None => self.next_object()?,
        };
        let Some((number, object)) = next else {
            return Ok(false);
        };
        record.text.clear();
        record.labels.clear();
        let fail = |value: &Value, expected: &str| {
            Err(Error::parse(self.lines.path(), number, &value.to_string(), expected))
        };
        for key in &self.text {
            match object.get(key) {
                Some(value) if !push_text(value, &mut record.text) => {
                    return fail(value, &format!("text under `{key}`"));
                }
                _ => {}
            }
        }
        let weights = if self.labels == IDS { object.get(WEIGHTS) } else { None };
        match object.get(&self.labels) {
            Some(value) if !self.push_labels(value, weights, &mut record.labels) => {
                let expected = format!(
                    "under `{}` a list of labels, one text, or {{name: weight above 0}}",
                    self.labels
                );
                fail(value, &expected)
            }
            _ => Ok(true),
        }
    }

    /// The next line that is not blank, as an object.
    fn next_object(&mut self) -> Result<Option<(u64, Object)>> {
        while self.lines.advance()? {
            let line = self.lines.line().trim();
            if line.is_empty() {
                continue;
            }
            return match serde_json::from_str(line) {
                Ok(Value::Object(object)) => Ok(Some((self.lines.number(), object))),
                Ok(_) => Err(self.lines.error(line, "one JSON object a line")),
                Err(_) if line.starts_with('[') => {
                    Err(self.lines.error(line, "one JSON object a line (for a JSON array: `jq -c '.[]'`)"))
                }
                Err(e) => Err(self.lines.error(line, format!("one JSON object a line: {e}"))),
            };
        }
        Ok(None)
    }

    /// False if the value can be no labels.
    fn push_labels(&self, value: &Value, weights: Option<&Value>, labels: &mut Vec<(String, f32)>) -> bool {
        match value {
            Value::Null => true,
            Value::String(text) => {
                self.separator.split(text, labels);
                true
            }
            Value::Number(number) => {
                labels.push((number.to_string(), 1.0));
                true
            }
            Value::Array(items) => {
                let weights = weights.and_then(Value::as_array).filter(|w| w.len() == items.len());
                items.iter().enumerate().all(|(i, item)| {
                    let weight = weights.and_then(|w| w.get(i)).map_or(Some(1.0), positive);
                    let name = match item {
                        Value::String(name) => Some(name.trim().to_owned()),
                        Value::Number(number) => Some(number.to_string()),
                        _ => None,
                    };
                    name.zip(weight).map(|(name, weight)| labels.push((name, weight))).is_some()
                })
            }
            Value::Object(weighted) => weighted.iter().all(|(name, weight)| {
                positive(weight).map(|weight| labels.push((name.trim().to_owned(), weight))).is_some()
            }),
            Value::Bool(_) => false,
        }
    }
}

fn positive(value: &Value) -> Option<f32> {
    value.as_f64().map(|v| v as f32).filter(|v| v.is_finite() && *v > 0.0)
}

/// Appends a value to a text after a blank; false if it is no text.
fn push_text(value: &Value, text: &mut String) -> bool {
    let mut push = |part: &str| {
        if !text.is_empty() && !part.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
    };
    match value {
        Value::Null => true,
        Value::String(part) => {
            push(part);
            true
        }
        Value::Number(number) => {
            push(&number.to_string());
            true
        }
        Value::Array(parts) => parts.iter().all(|part| part.as_str().map(&mut push).is_some()),
        Value::Bool(_) | Value::Object(_) => false,
    }
}

/// Writes `{"text": …, "labels": […]}` a line, or `{"text": …, "labels": {name: weight}}` where a weight is not 1.
pub fn write(path: &Path, texts: &Strings, y: &Csr, labels: &LabelSet) -> Result<()> {
    write_text(path, |w| {
        texts.iter().zip(y.iter()).try_for_each(|(text, row)| {
            let named = row.iter().filter_map(|(l, weight)| Some((labels.get(LabelId(l))?, weight)));
            let value = if row.values.iter().all(|&weight| weight == 1.0) {
                named.map(|(name, _)| Value::from(name)).collect::<Value>()
            } else {
                named.map(|(name, weight)| (name.to_owned(), Value::from(weight))).collect::<Object>().into()
            };
            writeln!(w, "{{\"text\":{},\"labels\":{value}}}", Value::from(text))
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::csr::CsrBuilder;

    fn rows(path: &Path) -> Result<Vec<Record>> {
        let mut file = Jsonl::open(path, &FieldOptions::default())?;
        let (mut record, mut rows) = (Record::default(), Vec::new());
        while file.read(&mut record)? {
            rows.push(record.clone());
        }
        Ok(rows)
    }

    fn rows_of(content: &str) -> Result<Vec<Record>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        rows(&path)
    }

    fn record(text: &str, labels: &[(&str, f32)]) -> Record {
        Record { text: text.into(), labels: labels.iter().map(|&(name, w)| (name.into(), w)).collect() }
    }

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn written_lines_come_back(
            given in proptest::collection::vec((".{1,20}", proptest::collection::vec((0u32..4, 1u8..4), 0..4)), 1..9),
        ) {
            let labels = LabelSet::new(["new york", "a, b", "\"quoted\"", "größe"]);
            let texts = Strings::new(given.iter().map(|r| &r.0));
            let mut y = CsrBuilder::new();
            for (_, row) in &given {
                y.push(row.iter().map(|&(l, w)| (l, f32::from(w) / 2.0)));
            }
            let y = y.finish(4).unwrap();
            let dir = tempfile::tempdir().unwrap();
            for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
                let path = dir.path().join(name);
                write(&path, &texts, &y, &labels).unwrap();
                let back = rows(&path).unwrap();
                prop_assert_eq!(back.len(), texts.len());
                for (i, record) in back.iter().enumerate() {
                    prop_assert_eq!(&record.text, texts.get(i));
                    let mut found = record.labels.clone();
                    let mut expected: Vec<(String, f32)> =
                        y.row(i).iter().map(|(l, w)| (labels.get(LabelId(l)).unwrap().into(), w)).collect();
                    found.sort_by(|a, b| a.0.cmp(&b.0));
                    expected.sort_by(|a, b| a.0.cmp(&b.0));
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn the_files_of_the_xmc_repository_are_understood() {
        let rows = rows_of(concat!(
            "{\"uid\":\"1\",\"title\":\"A\",\"content\":\"b c\",\"target_ind\":[3,7],\"target_rel\":[1.0,0.5]}\n",
            "{\"uid\":\"2\",\"title\":\"D\",\"content\":\"\",\"target_ind\":[],\"target_rel\":[]}\n",
        ));
        assert_eq!(rows.unwrap(), [record("A b c", &[("3", 1.0), ("7", 0.5)]), record("D", &[])]);
    }

    #[test]
    fn labels_may_be_a_list_a_text_an_object_or_missing() {
        let rows = rows_of(concat!(
            "{\"text\":\"a\",\"tags\":[\"x\",2]}\n\n",
            "{\"text\":[\"b\",\"c\"],\"tags\":\"x; y\"}\n",
            "{\"text\":null,\"tags\":{\"x\":0.5}}\n",
            "{\"text\":\"d\"}\n",
        ));
        let expected = [
            record("a", &[("x", 1.0), ("2", 1.0)]),
            record("b c", &[("x", 1.0), ("y", 1.0)]),
            record("", &[("x", 0.5)]),
            record("d", &[]),
        ];
        assert_eq!(rows.unwrap(), expected);
    }

    #[test]
    fn what_is_no_object_or_no_labels_is_named_with_its_line() {
        for (content, expected) in [
            ("[{\"text\":\"a\"},\n{}]\n", "jq -c"),
            ("{\"text\":\"a\",\"labels\":[]}\n{\"text\":\n", "a.jsonl:2:"),
            (
                "{\"text\":\"a\",\"labels\":[[1]]}\n",
                "a.jsonl:1: found `[[1]]`, expected under `labels` a list",
            ),
            ("{\"text\":\"a\",\"labels\":{\"x\":-1}}\n", "weight above 0"),
            ("{\"text\":{},\"labels\":[]}\n", "expected text under `text`"),
            ("7\n", "one JSON object a line"),
        ] {
            let message = rows_of(content).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}

//! What is written for: each source of a data set with its own text and what is known of it.
//!
//! The metadata are JSON Lines, one object for each source: `{"id": …, "title", "body", "url", "text", "known": []}`. The id is the
//! number of the source or, as a string, its name: the label, or the text of the row. Sources without a line have their own
//! text alone.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use xmc_data::Strings;
use xmc_data::dataset::Dataset;
use xmc_data::formats::source::open_lines;

use super::{Direction, Item, Meta};
use crate::error::{Error, Result};

/// A line of the metadata.
#[derive(Deserialize)]
struct Line {
    id: Value,
    #[serde(flatten)]
    meta: Meta,
}

/// The sources of `data`, in the order of their numbers, with what `meta` knows of them.
pub fn items(data: &Dataset, direction: Direction, meta: Option<&Path>) -> Result<Vec<Item>> {
    let texts = sources(data, direction)?;
    let mut items: Vec<Item> = texts
        .iter()
        .zip(0..)
        .map(|(text, source)| {
            let id = if direction == Direction::Label { text.to_owned() } else { source.to_string() };
            Item { id, source, text: text.to_owned(), meta: None }
        })
        .collect();
    let Some(path) = meta else { return Ok(items) };
    let numbers = Numbers::new(texts);
    let mut lines = open_lines(path)?;
    while lines.advance()? {
        let expected = "an object with an `id`, and any of title, body, url, text and known";
        let line: Line = serde_json::from_str(lines.line())
            .map_err(|problem| lines.error(lines.line(), format!("{expected}: {problem}")))?;
        let source = numbers.get(&line.id);
        let item = source.and_then(|source| items.get_mut(source as usize));
        let Some(item) = item else {
            let expected = format!("the name of a source, or its number, less than {}", texts.len());
            return Err(lines.error(&format!("id {}", line.id), expected).into());
        };
        if item.meta.is_some() {
            return Err(lines
                .error(&format!("id {}", line.id), "one line for each source".to_owned())
                .into());
        }
        if let Some(text) = &line.meta.text {
            item.text.clone_from(text);
        }
        item.meta = Some(line.meta);
    }
    Ok(items)
}

/// Sources by what files call them.
pub(super) struct Numbers<'t> {
    by_name: HashMap<&'t str, u32>,
    count: usize,
}

impl<'t> Numbers<'t> {
    /// Of several sources with one text its name is the first.
    pub(super) fn new(texts: &'t Strings) -> Self {
        let mut by_name = HashMap::new();
        for (text, source) in texts.iter().zip(0..) {
            by_name.entry(text).or_insert(source);
        }
        Numbers { by_name, count: texts.len() }
    }

    /// The number of a source that is called by its text or its number.
    pub(super) fn get(&self, id: &Value) -> Option<u32> {
        let number = match id {
            Value::String(name) => self.by_name.get(name.as_str()).copied().or_else(|| name.parse().ok()),
            Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        };
        number.filter(|&number| (number as usize) < self.count)
    }
}

/// Texts of the side that is written for.
pub(super) fn sources(data: &Dataset, direction: Direction) -> Result<&Strings> {
    match direction {
        Direction::Label => Ok(data.labels.names()),
        Direction::Instance => rows(data),
    }
}

/// Texts of the side that synthetic texts are mapped to.
pub fn targets(data: &Dataset, direction: Direction) -> Result<&Strings> {
    match direction {
        Direction::Label => rows(data),
        Direction::Instance => Ok(data.labels.names()),
    }
}

fn rows(data: &Dataset) -> Result<&Strings> {
    let missing =
        || Error::file(&data.path, "no texts for the training rows, which an augmentation compares");
    data.train.texts.as_ref().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use xmc_data::dataset::Part;
    use xmc_data::{Csr, LabelSet};

    use super::*;

    fn data() -> Dataset {
        let y = Csr::new(2, 3, vec![0, 1, 2], vec![0, 2], vec![1.0; 2]).unwrap();
        let texts = Some(Strings::new(["a whale", "a hill"]));
        let train = Part { texts, features: None, y, filter: Vec::new() };
        Dataset::new(Path::new("d"), LabelSet::new(["sea", "7", "land"]), train, None).unwrap()
    }

    #[test]
    fn metadata_find_their_sources_by_name_or_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.jsonl");
        fs::write(
            &path,
            "{\"id\": \"land\", \"title\": \"Land\", \"known\": [\"hill\"]}\n{\"id\": 0, \"text\": \"ocean\"}\n",
        )
        .unwrap();
        let found = items(&data(), Direction::Label, Some(&path)).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].text.as_str(), found[0].id.as_str()), ("ocean", "sea"));
        assert_eq!(found[1].meta, None);
        assert_eq!(found[2].meta.as_ref().unwrap().known, ["hill"]);
        let rows = items(&data(), Direction::Instance, None).unwrap();
        assert_eq!((rows.len(), rows[1].text.as_str(), rows[1].id.as_str()), (2, "a hill", "1"));
    }

    #[test]
    fn lines_that_belong_to_no_source_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.jsonl");
        for (content, expected) in [
            ("{\"id\": 0}\n{\"id\": \"river\"}\n", "meta.jsonl:2: found `id \"river\"`, expected the name"),
            ("{\"id\": 3}\n", "less than 3"),
            ("{\"id\": 0}\n{\"id\": \"sea\"}\n", "one line for each source"),
            ("{\"title\": \"x\"}\n", "an object with an `id`"),
            ("whale\n", "an object with an `id`"),
        ] {
            fs::write(&path, content).unwrap();
            let message = items(&data(), Direction::Label, Some(&path)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}

//! Synthetic texts that another program wrote, or that a person chose.
//!
//! A folder with `raw_rewrites.txt` and `start_indices.npy`, as the release of SKIM leaves it, or JSON Lines, sources in any
//! order:
//!
//! ```text
//! {"source": name or number, "text": "..."}      a line for each text
//! ```

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use xmc_data::Strings;
use xmc_data::formats::source::open_lines;

use super::Synthetic;
use super::items::Numbers;
use crate::error::{Error, Result};

#[derive(Deserialize)]
struct Line {
    source: Value,
    text: String,
    #[serde(default)]
    level: u8,
}

/// Reads the synthetic texts of `sources` at `path`.
///
/// # Errors
/// If a file does not fit these sources: names the line.
pub(super) fn replay(path: &Path, sources: &Strings) -> Result<Synthetic> {
    if path.is_file() {
        return lines(path, sources);
    }
    let synthetic = Synthetic::read(path)?;
    let (found, count) = (synthetic.sources(), sources.len());
    if found != count {
        return Err(Error::file(path, format!("texts of {found} sources, but the data have {count}")));
    }
    Ok(synthetic)
}

fn lines(path: &Path, sources: &Strings) -> Result<Synthetic> {
    let numbers = Numbers::new(sources);
    let mut all: Vec<(u32, String, u8)> = Vec::new();
    let mut lines = open_lines(path)?;
    while lines.advance()? {
        let line: Line = serde_json::from_str(lines.line()).map_err(|problem| {
            lines.error(lines.line(), format!("an object with `source` and `text`: {problem}"))
        })?;
        let Some(source) = numbers.get(&line.source) else {
            let expected = format!("the name of a source, or its number, less than {}", sources.len());
            return Err(lines.error(&format!("source {}", line.source), expected).into());
        };
        if line.text.trim().is_empty() {
            return Err(lines.error(lines.line(), "a `text` that is not empty").into());
        }
        all.push((source, line.text, line.level));
    }
    all.sort_by_key(|(source, _, _)| *source);
    let end = |source: usize| all.partition_point(|(of, _, _)| (*of as usize) < source) as u64;
    let starts = (0..=sources.len()).map(end).collect();
    let levels = all.iter().map(|(_, _, level)| *level).collect();
    Synthetic::new(Strings::new(all.iter().map(|(_, text, _)| text)), starts, levels)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn texts_of_any_program_find_their_sources_and_wrong_lines_are_named() {
        let sources = Strings::new(["sea", "hill", "land"]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.jsonl");
        let lines = [
            r#"{"source": "land", "text": "a field"}"#,
            r#"{"source": 0, "text": "a whale"}"#,
            r#"{"source": "land", "text": "a road", "level": 1}"#,
        ];
        fs::write(&path, lines.join("\n")).unwrap();
        let found = replay(&path, &sources).unwrap();
        assert_eq!((found.starts, found.levels), (vec![0, 1, 1, 3], vec![0, 0, 1]));
        assert_eq!(found.texts, Strings::new(["a whale", "a field", "a road"]));
        for (line, expected) in [
            (
                r#"{"source": "river", "text": "x"}"#,
                "texts.jsonl:2: found `source \"river\"`, expected the name",
            ),
            (r#"{"source": 3, "text": "x"}"#, "less than 3"),
            (r#"{"source": 2, "text": " "}"#, "not empty"),
            (r#"{"text": "x"}"#, "an object with `source` and `text`"),
        ] {
            fs::write(&path, format!("{}\n{line}\n", lines[0])).unwrap();
            let problem = replay(&path, &sources).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}

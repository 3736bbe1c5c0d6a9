//! Which (row, label) pairs must not count in evaluation?
//!
//! In data where labels are documents too, a document finds itself: the XMC repository lists such pairs in
//! `filter_labels_train.txt` and `filter_labels_test.txt`, one `row label` a line, both from 0. They are taken out of
//! predictions before ranking.

use std::path::Path;

use crate::error::Result;
use crate::formats::source::{open_lines, write_text};

/// Reads the pairs of a part with `rows` rows and `num_labels` labels; sorted, each once.
pub fn read(path: &Path, rows: usize, num_labels: usize) -> Result<Vec<(u32, u32)>> {
    let mut pairs = Vec::new();
    let mut lines = open_lines(path)?;
    while lines.advance()? {
        let line = lines.line();
        let mut fields = line.split_ascii_whitespace();
        let pair = match (fields.next(), fields.next(), fields.next()) {
            (None, ..) => continue,
            (Some(row), Some(label), None) => row.parse::<u32>().ok().zip(label.parse::<u32>().ok()),
            _ => None,
        };
        match pair {
            Some((row, label)) if (row as usize) < rows && (label as usize) < num_labels => {
                pairs.push((row, label));
            }
            Some(_) => {
                let expected = format!("a row below {rows} and a label below {num_labels}");
                return Err(lines.error(line, expected));
            }
            None => {
                return Err(lines.error(line, "two numbers from 0, `row label`"));
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    Ok(pairs)
}

/// Writes one pair a line.
pub fn write(path: &Path, pairs: &[(u32, u32)]) -> Result<()> {
    write_text(path, |w| pairs.iter().try_for_each(|(row, label)| writeln!(w, "{row} {label}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Each case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn pairs_come_back_sorted_and_once(pairs in proptest::collection::vec((0u32..9, 0u32..7), 0..20)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("filter_labels_test.txt");
            write(&path, &pairs).unwrap();
            let set: std::collections::BTreeSet<_> = pairs.into_iter().collect();
            prop_assert_eq!(read(&path, 9, 7).unwrap(), set.into_iter().collect::<Vec<_>>());
        }
    }
}

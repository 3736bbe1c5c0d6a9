//! Does the augmentation see what it will be judged with?
//!
//! Two ways in which it may. A training row has the text of a test row: a pair that is added to it tells what the test
//! asks for. That is refused, or such rows get no new pair. Or, where texts look like rows, a synthetic text is the text of
//! a test row: a generator may well hit it honestly, so it is reported, and left out only if asked for.
//!
//! Texts are the same if their words are, whatever their case and the blanks between them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;

use super::{Direction, Synthetic};
use crate::error::{Error, Result};

/// What happens to training rows that are test rows too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestRows {
    /// They are an error.
    #[default]
    Refuse,
    /// They get no new pair, and synthetic texts that are test texts count for nothing.
    Exclude,
}

/// A text that stands in two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// Training row, or synthetic text.
    pub found: u32,
    /// The first test row with the same text.
    pub test: u32,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaks {
    /// Training rows with the text of a test row.
    pub rows: Vec<Leak>,
    /// Synthetic texts that are the text of a test row.
    pub texts: Vec<Leak>,
}

impl Leaks {
    /// Looks for test rows among training rows and, where they look like rows, synthetic texts.
    pub fn find(direction: Direction, train: &Strings, test: &Strings, synthetic: &Synthetic) -> Self {
        let mut tests = HashMap::new();
        for (text, row) in test.iter().zip(0..) {
            let text = words(text);
            if !text.is_empty() {
                tests.entry(text).or_insert(row);
            }
        }
        let same = |texts: &Strings| -> Vec<Leak> {
            let leak = |(text, found)| Some(Leak { found, test: *tests.get(&words(text))? });
            texts.iter().zip(0..).filter_map(leak).collect()
        };
        let texts = match direction {
            Direction::Label => same(&synthetic.texts),
            // A label may well be called as a row is.
            Direction::Instance => Vec::new(),
        };
        Leaks { rows: same(train), texts }
    }

    /// What must not be used.
    ///
    /// # Errors
    /// If there are test rows among training rows and `test_rows` refuses them: names the first.
    pub fn guard(&self, test_rows: TestRows) -> Result<Guard> {
        match (test_rows, self.rows.first()) {
            (TestRows::Refuse, Some(first)) => Err(Error::Mismatch(format!(
                "training row {} has the text of test row {}, and {} such rows could get new labels: \
                 leave them out with --set exclude_test=true",
                first.found,
                first.test,
                self.rows.len()
            ))),
            (TestRows::Exclude, _) => {
                let all = |leaks: &[Leak]| leaks.iter().map(|leak| leak.found).collect();
                Ok(Guard { rows: all(&self.rows), texts: all(&self.texts) })
            }
            (TestRows::Refuse, None) => Ok(Guard::default()),
        }
    }
}

/// Rows that get no new pair, and synthetic texts that count for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Rising.
    rows: Vec<u32>,
    /// Rising.
    texts: Vec<u32>,
}

impl Guard {
    /// Whether a training row gets no new pair.
    pub fn blocks_row(&self, row: u32) -> bool {
        self.rows.binary_search(&row).is_ok()
    }

    /// Whether a synthetic text counts for nothing.
    pub fn blocks_text(&self, text: u32) -> bool {
        self.texts.binary_search(&text).is_ok()
    }
}

/// The words of a text in small letters, one blank between them.
fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().flat_map(char::to_lowercase));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaks(direction: Direction) -> Leaks {
        let train = Strings::new(["whale songs", "Sea  LIONS ", "krill", ""]);
        let test = Strings::new(["penguins", "sea lions", "", "sea lions"]);
        let texts = Strings::new(["how deep do whales dive", "PENGUINS"]);
        Leaks::find(direction, &train, &test, &Synthetic::new(texts, vec![0, 2], vec![0, 0]).unwrap())
    }

    #[test]
    fn a_planted_test_row_is_refused_by_its_number_and_left_out_if_asked() {
        let found = leaks(Direction::Label);
        assert_eq!(found.rows, [Leak { found: 1, test: 1 }]);
        assert_eq!(found.texts, [Leak { found: 1, test: 0 }]);
        let message = found.guard(TestRows::Refuse).unwrap_err().to_string();
        assert!(message.contains("training row 1") && message.contains("test row 1"), "{message}");
        assert!(message.contains("exclude_test=true"), "{message}");
        let guard = found.guard(TestRows::Exclude).unwrap();
        assert!(guard.blocks_row(1) && !guard.blocks_row(0) && guard.blocks_text(1) && !guard.blocks_text(0));
    }

    #[test]
    fn synthetic_labels_may_be_called_as_a_test_row_is() {
        let found = leaks(Direction::Instance);
        assert_eq!((found.rows.len(), found.texts.len()), (1, 0));
    }

    #[test]
    fn synthetic_texts_alone_are_no_error() {
        let found = Leaks { rows: Vec::new(), ..leaks(Direction::Label) };
        assert_eq!(found.guard(TestRows::Refuse).unwrap(), Guard::default());
    }
}

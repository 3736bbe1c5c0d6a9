//! Data and an encoder for tests of methods that begin with one. Words that mean other words: a text has two words for each of its labels, and none of them is in a label's name.

pub(crate) mod encoder;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use xmc::data::dataset::{Dataset, Part};
use xmc::data::{CsrBuilder, LabelSet, Strings};
use xmc::events::Events;

pub(crate) const LABELS: usize = 24;
pub(crate) const ROWS: usize = 160;

/// Labels of row i, different ones, rising.
fn labels_of(i: usize) -> Vec<u32> {
    let mut labels = vec![(i % LABELS) as u32, ((i * 7 + 5) % LABELS) as u32];
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn part(rows: std::ops::Range<usize>) -> Part {
    let (mut y, mut texts) = (CsrBuilder::new(), Vec::new());
    for i in rows {
        let labels = labels_of(i);
        let words = labels.iter().map(|l| format!("a{l} b{}", l * 5 % LABELS as u32)).collect::<Vec<_>>();
        texts.push(format!("{} noise{}", words.join(" "), i % 10));
        y.push(labels.into_iter().map(|l| (l, 1.0)));
    }
    Part {
        texts: Some(Strings::new(texts)),
        features: None,
        y: y.finish(LABELS).unwrap(),
        filter: Vec::new(),
    }
}

pub(crate) fn data() -> Dataset {
    let names = (0..LABELS).map(|l| format!("c{l} d{}", l % 3));
    Dataset::new(Path::new("toy"), LabelSet::new(names), part(0..ROWS), Some(part(0..ROWS))).unwrap()
}

/// Every word that texts and names have, and the special ones.
pub(crate) fn words() -> Vec<String> {
    let mut words: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned).to_vec();
    for letter in ["a", "b", "c", "d"] {
        words.extend((0..LABELS).map(|l| format!("{letter}{l}")));
    }
    words.extend((0..10).map(|i| format!("noise{i}")));
    words
}

/// An encoder with one layer and one token for every word.
pub(crate) fn encoder(dir: &Path) -> PathBuf {
    encoder::of_words(dir, &words())
}

/// Hears what training says.
#[derive(Default)]
pub(crate) struct Messages(Mutex<Vec<String>>);

impl Events for Messages {
    fn message(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Messages {
    pub(crate) fn contain(&self, words: &str) -> bool {
        self.0.lock().unwrap().iter().any(|message| message.contains(words))
    }
}

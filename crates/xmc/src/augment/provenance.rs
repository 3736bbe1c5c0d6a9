//! Where does a new pair come from, and why is a pair in the matrix or not?
//!
//! Each new pair has one source (its label or its row) and one best synthetic text of it: the one with the largest cosine, then
//! the one that names the target earliest, then the first. A line for each is written beside the matrix:
//!
//! ```text
//! {"row":3,"label":0,"text":1,"rank":2,"cosine":0.61,"value":0.805,"synthetic":"…"}
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::formats::source::write_text;
use xmc_data::{Csr, Strings};

use super::Direction;
use super::build::BuildConfig;
use super::mapping::{Mapping, sigma};
use crate::error::{Error, Result};

/// A new pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Row of the matrix.
    pub row: u32,
    /// Its new label.
    pub label: u32,
    /// The best synthetic text.
    pub text: u32,
    /// Place of the target among the neighbours of that text, from 1.
    pub rank: u32,
    /// Cosine of text and target.
    pub cosine: f32,
    /// What the matrix says: (cosine + 1) / 2.
    pub value: f32,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    pair: Pair,
    synthetic: &'a str,
}

/// Writes a line for each of `pairs`, with their synthetic texts.
///
/// # Errors
/// If a pair names a text that is not there, or the file cannot be written.
pub fn write(path: &Path, pairs: &[Pair], texts: &Strings) -> Result<()> {
    if let Some(pair) = pairs.iter().find(|pair| pair.text as usize >= texts.len()) {
        let (text, len) = (pair.text, texts.len());
        return Err(Error::Mismatch(format!("a pair comes from text {text} of {len}: map again")));
    }
    write_text(path, |w| {
        pairs.iter().try_for_each(|&pair| {
            serde_json::to_writer(&mut *w, &Line { pair, synthetic: texts.get(pair.text as usize) })?;
            w.write_all(b"\n")
        })
    })
    .map_err(Error::from)
}

/// Why a pair is in the augmented matrix or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was in the original, and no synthetic text suggests it.
    Original,
    /// It was in the original, and a synthetic text suggests it too.
    Confirmed,
    /// It is new.
    New,
    /// The source has no synthetic text.
    NoTexts,
    /// No synthetic text of the source has the target among the neighbours that are stored.
    NotNear,
    /// The target comes too late among the neighbours.
    BeyondK,
    /// The cosine is too small.
    BelowTau,
    /// A cap, the budget, `mutual` or the guard of test rows kept it out.
    LeftOut,
}

/// A synthetic text that has the target among its neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// Number of the text.
    pub text: u32,
    /// What it says.
    pub synthetic: String,
    /// Place of the target among its neighbours, from 1.
    pub rank: u32,
    /// Cosine of text and target.
    pub cosine: f32,
    /// (cosine + 1) / 2
    pub value: f32,
}

/// What is known of one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Row of the matrix.
    pub row: u32,
    /// Label.
    pub label: u32,
    /// Value in the original; 0 if it was not there.
    pub original: f32,
    /// Value in the augmented matrix; 0 if it is not there.
    pub augmented: f32,
    /// Why it is there, or is not.
    pub why: Why,
    /// All texts of the source that name the target, the nearest first; the first that counts is the one of the provenance.
    pub witnesses: Vec<Witness>,
}

/// Explains the pair of `row` and `label`, by the `original` and the `augmented` matrix.
///
/// # Errors
/// If there is no such row or label, or the parts do not fit each other.
pub fn explain(
    mapping: &Mapping<'_>,
    texts: &Strings,
    [original, augmented]: [&Csr; 2],
    config: &BuildConfig,
    row: u32,
    label: u32,
) -> Result<Explanation> {
    let (rows, labels) = (original.rows(), original.cols());
    if row as usize >= rows || label as usize >= labels {
        return Err(Error::Mismatch(format!(
            "no pair of row {row} and label {label}: there are {rows} rows and {labels} labels, numbered from 0"
        )));
    }
    let sides = match mapping.direction() {
        Direction::Label => (mapping.targets(), mapping.sources()),
        Direction::Instance => (mapping.sources(), mapping.targets()),
    };
    if sides != (rows, labels) || (augmented.rows(), augmented.cols()) != (rows, labels) {
        return Err(Error::Mismatch(format!(
            "neighbours of [{}, {}] and an augmented matrix [{}, {}] for an original of [{rows}, {labels}]: \
             map and build again",
            sides.0,
            sides.1,
            augmented.rows(),
            augmented.cols()
        )));
    }
    let (source, target) = match mapping.direction() {
        Direction::Label => (label, row),
        Direction::Instance => (row, label),
    };
    let mut witnesses: Vec<Witness> = mapping
        .candidates(source as usize, usize::MAX)
        .filter(|found| found.target == target)
        .map(|found| Witness {
            text: found.text,
            synthetic: text_of(texts, found.text),
            rank: found.rank,
            cosine: found.cosine,
            value: sigma(found.cosine).min(1.0),
        })
        .collect();
    witnesses
        .sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.rank.cmp(&b.rank)).then(a.text.cmp(&b.text)));
    let [before, after] = [original, augmented].map(|m| m.row(row as usize).get(label));
    let in_k = |w: &&Witness| w.rank as usize <= config.k;
    let near = witnesses.iter().find(in_k);
    let why = match (before > 0.0, after > 0.0, near) {
        (true, _, Some(near)) if near.value >= config.tau => Why::Confirmed,
        (true, ..) => Why::Original,
        (false, true, _) => Why::New,
        (false, false, Some(near)) if near.value >= config.tau => Why::LeftOut,
        (false, false, Some(_)) => Why::BelowTau,
        (false, false, None) if !witnesses.is_empty() => Why::BeyondK,
        (false, false, None) if mapping.is_empty(source as usize) => Why::NoTexts,
        (false, false, None) => Why::NotNear,
    };
    Ok(Explanation { row, label, original: before, augmented: after, why, witnesses })
}

fn text_of(texts: &Strings, text: u32) -> String {
    if (text as usize) < texts.len() { texts.get(text as usize).to_owned() } else { String::new() }
}

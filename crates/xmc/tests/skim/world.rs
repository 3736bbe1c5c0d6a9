//! A world of entities with five names each, some of which are linked. A label is an entity, its page lists the names of the
//! entity and of those linked to it among noise, a row is a name. A row is relevant to a label if their entities are the same
//! or linked; the log that a model learns from holds only the former: knowledge of links is missing systematically.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use xmc::data::dataset::{Dataset, Part};
use xmc::data::{Csr, CsrBuilder, LabelSet, Strings};

pub(crate) const ENTITIES: usize = 80;
const NAMES: usize = 5;

pub(crate) struct World {
    /// Every word there is, and the special ones.
    pub(crate) words: Vec<String>,
    /// Rows of the log to train on; complete rows to test with.
    pub(crate) biased: Dataset,
    /// Labels of the test rows that the log would hold.
    pub(crate) biased_test: Csr,
    /// What the pages say.
    pub(crate) meta: String,
}

/// Words without meaning, all different.
fn words(count: usize) -> Vec<String> {
    let (mut state, mut seen) = (7u64, BTreeSet::new());
    let mut words = Vec::new();
    while words.len() < count {
        let mut word = String::new();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (consonant, vowel) = ((state >> 33) % 20, (state >> 50) % 5);
            word.push(char::from(b"bcdfghjklmnpqrstvwxz"[consonant as usize]));
            word.push(char::from(b"aeiou"[vowel as usize]));
        }
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// The same entity, or one linked to it.
fn related(a: usize, b: usize) -> bool {
    [0, 7, 19, ENTITIES - 7, ENTITIES - 19].contains(&((a + ENTITIES - b) % ENTITIES))
}

fn labels(rows: &[usize], relevant: impl Fn(usize, usize) -> bool) -> Csr {
    let mut y = CsrBuilder::new();
    for &entity in rows {
        y.push((0..ENTITIES).filter(|&label| relevant(entity, label)).map(|label| (label as u32, 1.0)));
    }
    y.finish(ENTITIES).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let all = words(ENTITIES * (2 * NAMES + 1) + 40);
        let (names, rest) = all.split_at(ENTITIES * 2 * NAMES);
        let (titles, noise) = rest.split_at(ENTITIES);
        let name = |entity: usize, n: usize| {
            let at = (entity * NAMES + n) * 2;
            format!("{} {}", names[at], names[at + 1])
        };
        let (mut train, mut texts, mut test, mut asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entity in 0..ENTITIES {
            for n in 0..NAMES {
                // Some entities are asked for more often.
                for copy in 0..=entity % 3 {
                    train.push(entity);
                    let more = &noise[(entity + 3 * n + copy) % noise.len()];
                    texts.push(if copy == 0 {
                        name(entity, n)
                    } else {
                        format!("{} {more}", name(entity, n))
                    });
                }
                test.push(entity);
                let more = &noise[(entity * 5 + n) % noise.len()];
                asked.push(format!("{more} {}", name(entity, n)));
            }
        }
        let part = |texts: Vec<String>, y| Part {
            texts: Some(Strings::new(texts)),
            features: None,
            y,
            filter: Vec::new(),
        };
        let same = |a, b| a == b;
        let train = part(texts, labels(&train, same));
        let complete = part(asked, labels(&test, related));
        let biased = Dataset::new(Path::new("world"), LabelSet::new(titles), train, Some(complete)).unwrap();
        let mut meta = String::new();
        for (label, title) in titles.iter().enumerate() {
            let mut body = String::new();
            for entity in (0..ENTITIES).filter(|&entity| related(entity, label)) {
                let listed: Vec<String> = (0..NAMES).map(|n| name(entity, n)).collect();
                let _ = writeln!(body, "{}.", listed.join(", "));
                let chatter = (0..8).map(|i| noise[(label + entity + 5 * i) % noise.len()].as_str());
                let _ = writeln!(body, "{}.", chatter.collect::<Vec<_>>().join(" "));
            }
            let _ = writeln!(meta, "{}", json!({ "id": label, "title": title, "body": body }));
        }
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned);
        let words = special.into_iter().chain(all.iter().cloned()).collect();
        World { words, biased, biased_test: labels(&test, same), meta }
    }
}

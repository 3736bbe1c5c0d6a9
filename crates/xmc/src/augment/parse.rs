//! Which synthetic texts does an answer hold? One a line, without what models add: headers, numbers, bullets, quotes, echoes of
//! the question, repetitions.
//!
//! An answer may have two sections, the second under a header that names parents: there, lines that are indented are the
//! parents (level 1) of the line above, which counts as an immediate one (level 0).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Answer, Finish, Item};

/// Words of a text at most; longer lines are remarks.
const LONGEST: usize = 32;

/// Words of a header at most.
const HEADER: usize = 8;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Texts of a source at most.
    pub max_per_item: usize,
    /// Whether known counterparts of a source are dropped.
    pub drop_known: bool,
}

/// What came of all answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Answers that were read.
    pub answers: u64,
    /// Answers that failed.
    pub failed: u64,
    /// Other answers without a text.
    pub empty: u64,
    /// Texts that are kept.
    pub texts: u64,
    /// Lines that repeat one of the same source.
    pub repeated: u64,
    /// Lines that repeat the question, or the item itself.
    pub echoes: u64,
    /// Lines that are known counterparts.
    pub known: u64,
    /// Lines that are too long.
    pub long: u64,
    /// Last lines that are cut off.
    pub cut: u64,
    /// Texts beyond the largest number of a source.
    pub beyond: u64,
}

/// Cuts answers into texts, and counts.
#[derive(Debug)]
pub struct Parser {
    rules: Rules,
    /// Lines of the question, folded.
    asked: HashSet<String>,
    counts: Counts,
}

impl Parser {
    /// A parser of answers to questions with the constant lines `asked`.
    pub fn new<'a>(rules: Rules, asked: impl Iterator<Item = &'a str>) -> Self {
        let asked = asked.map(|line| fold(&clean(line))).filter(|line| !line.is_empty()).collect();
        Parser { rules, asked, counts: Counts::default() }
    }

    /// What was counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Texts of an answer for `item`, with their levels.
    pub fn parse(&mut self, answer: &Answer, item: &Item) -> Vec<(String, u8)> {
        self.counts.answers += 1;
        if answer.finish == Finish::Failed {
            self.counts.failed += 1;
            return Vec::new();
        }
        let mut lines: Vec<&str> = answer.text.lines().collect();
        // A text that ended for lack of room ends anywhere, unless that was at the end of a line.
        if answer.finish == Finish::Length && !answer.text.ends_with('\n') && lines.pop().is_some() {
            self.counts.cut += 1;
        }
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let (mut headers, mut parents) = (0, false);
        for line in lines {
            if let Some(header) = header(line) {
                // One line before the first header announces the answer.
                if headers == 0 && found.len() == 1 {
                    found.clear();
                    seen.clear();
                }
                headers += 1;
                parents = fold(header).contains("parent");
                continue;
            }
            let text = clean(line);
            if let Some(folded) = self.good(&text, item, &mut seen) {
                seen.insert(folded);
                found.push((text, u8::from(parents && indented(line))));
            }
        }
        self.counts.beyond += found.len().saturating_sub(self.rules.max_per_item) as u64;
        found.truncate(self.rules.max_per_item);
        self.counts.texts += found.len() as u64;
        self.counts.empty += u64::from(found.is_empty());
        found
    }

    /// The folded text if it is one to keep.
    fn good(&mut self, text: &str, item: &Item, seen: &mut HashSet<String>) -> Option<String> {
        let folded = fold(text);
        if folded.is_empty() {
            return None;
        }
        let meta = item.meta.as_ref();
        // Who was not asked anything may well answer with the item's own text.
        let own = [Some(item.text.as_str()), meta.and_then(|meta| meta.url.as_deref())];
        let own = own.into_iter().flatten().filter(|_| !self.asked.is_empty());
        let counts = &mut self.counts;
        let reason = if folded.split_whitespace().count() > LONGEST {
            &mut counts.long
        } else if self.asked.contains(&folded) || own.map(fold).any(|own| own == folded) {
            &mut counts.echoes
        } else if seen.contains(&folded) {
            &mut counts.repeated
        } else if self.rules.drop_known
            && meta.is_some_and(|meta| meta.known.iter().any(|known| fold(known) == folded))
        {
            &mut counts.known
        } else {
            return Some(folded);
        };
        *reason += 1;
        None
    }
}

fn indented(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

/// The words of a line that announces others: it ends with a colon, or is marked as a heading.
fn header(line: &str) -> Option<&str> {
    let line = line.trim();
    let plain = line.trim_matches(['#', '*', '_', ' ']);
    let marked = line.trim_start_matches('#').starts_with(' ') && line.starts_with('#');
    let words = plain.strip_suffix(':').or(marked.then_some(plain))?;
    (!words.is_empty() && words.split_whitespace().count() <= HEADER).then_some(words)
}

/// A line without its bullet, number, quotes and marks of bold words, and with single spaces.
fn clean(line: &str) -> String {
    let plain = line.replace("**", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = plain.as_str();
    loop {
        let before = text;
        text = text.strip_prefix(['-', '*', '•', '–', '—', '·', '+', '>']).map_or(text, |rest| {
            // A minus belongs to its number.
            if before.starts_with(['-', '+']) && rest.starts_with(|c: char| c.is_ascii_digit()) {
                before
            } else {
                rest
            }
        });
        text = unnumbered(text.trim()).trim();
        // Nothing follows that it could announce.
        text = unquoted(text).trim().trim_end_matches(':').trim_end();
        if text == before {
            return text.to_owned();
        }
    }
}

/// Without `1.`, `1)` or `(1)` at the beginning.
fn unnumbered(text: &str) -> &str {
    let inner = text.strip_prefix('(').unwrap_or(text);
    let rest = inner.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = inner.len() - rest.len();
    if digits == 0 || digits > 3 {
        return text;
    }
    match rest.strip_prefix(['.', ')']) {
        Some(behind) if behind.is_empty() || behind.starts_with(char::is_whitespace) => behind,
        _ => text,
    }
}

/// Without a pair of quotes around all of it.
fn unquoted(text: &str) -> &str {
    for (open, close) in [('"', '"'), ('\'', '\''), ('“', '”'), ('„', '“'), ('«', '»'), ('`', '`')]
    {
        let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !inner.contains([open, close])) {
            return inner;
        }
    }
    text
}

/// Lower case, single spaces.
fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Meta;

    const RULES: Rules = Rules { max_per_item: 4, drop_known: true };

    fn item() -> Item {
        let meta = Meta {
            url: Some("http://sea.org".to_owned()),
            known: vec!["Blue whale".to_owned()],
            ..Meta::default()
        };
        Item { id: "0".to_owned(), source: 0, text: "The Sea".to_owned(), meta: Some(meta) }
    }

    fn answer(text: &str, finish: Finish) -> Answer {
        let key = String::new();
        Answer { key, source: 0, text: text.to_owned(), finish, prompt_tokens: 0, new_tokens: 0 }
    }

    fn texts(text: &str, finish: Finish) -> Vec<(String, u8)> {
        Parser::new(RULES, ["Write queries."].into_iter()).parse(&answer(text, finish), &item())
    }

    #[test]
    fn answers_become_lists() {
        let long = "w ".repeat(33);
        for (text, expected) in [
            ("whale\nship", vec!["whale", "ship"]),
            ("1. whale\n2) ship\n(3) oar", vec!["whale", "ship", "oar"]),
            ("- whale\n* ship\n• oar\n+ net", vec!["whale", "ship", "oar", "net"]),
            ("\"whale\"\n'ship'\n“oar”\n`net`", vec!["whale", "ship", "oar", "net"]),
            ("1. \"a   white  whale\"\r\n\r\n  ship  ", vec!["a white whale", "ship"]),
            ("Sure, here you are\nQueries:\nwhale", vec!["whale"]),
            ("## Queries\nwhale\n**More queries:**\nship", vec!["whale", "ship"]),
            ("whale\nship\nNote:\nthese are two", vec!["whale", "ship", "these are two"]),
            ("**whale**\n- **ship** of *the* line\n#1 oar", vec!["whale", "ship of *the* line", "#1 oar"]),
            ("\"what is rhythm:\"\n1. \"whale:\"", vec!["what is rhythm", "whale"]),
            ("whale\nWHALE\n whale ", vec!["whale"]),
            ("the sea\nhttp://sea.org\nwhale\nwrite queries.", vec!["whale"]),
            ("blue whale\nwhale", vec!["whale"]),
            ("a\nb\nc\nd\ne\nf", vec!["a", "b", "c", "d"]),
            (long.as_str(), vec![]),
            ("", vec![]),
            ("\n \n-\n1.\n\"\"\n", vec![]),
            ("-5 degrees\n3.5 mm plug\n1984\n007. bond", vec!["-5 degrees", "3.5 mm plug", "1984", "bond"]),
            ("rock 'n' roll\n\"a\" and \"b\"", vec!["rock 'n' roll", "\"a\" and \"b\""]),
            ("who wrote: moby dick\nship: types:", vec![]),
            ("Ω\n鯨", vec!["Ω", "鯨"]),
        ] {
            let found = texts(text, Finish::Stop);
            assert_eq!(found.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn a_last_line_that_is_cut_off_is_dropped() {
        assert_eq!(texts("whale\nship of the", Finish::Length), [("whale".to_owned(), 0)]);
        assert_eq!(texts("whale\nship\n", Finish::Length).len(), 2);
        assert_eq!(texts("whale", Finish::Failed), []);
    }

    #[test]
    fn parents_stand_indented_in_their_section() {
        let text = "Categories:\n- Whales\n- Novels\nParent categories:\n- Whales\n\t- Animals\n- Ships\n\t- Vehicles";
        let found = Parser::new(Rules { max_per_item: 9, ..RULES }, std::iter::empty())
            .parse(&answer(text, Finish::Stop), &item());
        let expected = [("Whales", 0), ("Novels", 0), ("Animals", 1), ("Ships", 0), ("Vehicles", 1)];
        assert_eq!(found, expected.map(|(text, level)| (text.to_owned(), level)));
    }

    #[test]
    fn its_own_output_is_parsed_as_it_is() {
        for text in [
            "1. \"whale\"\n- ship",
            "Queries:\n  a  b\n(2) c",
            "> * 'x'\n«y»",
            "- - 1. 2. z",
            "\"what is it:\"",
            "**a** ** b:**\nc",
        ] {
            let once = texts(text, Finish::Stop);
            let lines: Vec<&str> = once.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(texts(&lines.join("\n"), Finish::Stop), once);
        }
    }

    #[test]
    fn what_is_dropped_is_counted() {
        let mut parser = Parser::new(RULES, ["Write queries."].into_iter());
        parser.parse(&answer("a\nA\nthe sea\nblue whale\nb\nc\nd\ne\ncut", Finish::Length), &item());
        parser.parse(&answer("", Finish::Stop), &item());
        parser.parse(&answer("no key", Finish::Failed), &item());
        let expected = Counts {
            answers: 3,
            failed: 1,
            empty: 1,
            texts: 4,
            repeated: 1,
            echoes: 1,
            known: 1,
            long: 0,
            cut: 1,
            beyond: 1,
        };
        assert_eq!(parser.counts(), &expected);
    }
}

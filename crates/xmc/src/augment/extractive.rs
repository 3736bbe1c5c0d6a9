//! Which texts does a page hold already? Its title, and its telling phrases, without any model.
//!
//! A page is cut at punctuation, line ends and stop words; what is left between them are phrases of one to six words. They
//! are ranked as RAKE does (Rose et al., Automatic Keyword Extraction from Individual Documents, 2010): a word counts
//! its degree / its frequency, where its degree are the words of the phrases that it stands in, and a phrase the sum of its
//! words; ties go to the first.

use std::collections::{HashMap, HashSet};

use super::{Answer, Finish, Generate, Item, Prompt};
use crate::error::Result;

/// Words of a phrase at most; longer ones are sentences.
const WORDS: usize = 6;

/// Words that no phrase holds.
const STOP: &str = "a about after all also an and any are as at be been before both but by can could did do does for from had \
    has have he her here his how i if in into is it its may more most my no not of on one only or other our out over she so \
    some such than that the their them then there these they this those to under up was we were what when where which who \
    will with would you your";

/// Titles and phrases of metadata, one a line.
#[derive(Clone, Copy, Debug)]
pub struct Extractive {
    /// Phrases of an item at most, the title among them.
    pub most: usize,
}

/// Changed where the rules change: what was answered by others is not taken for an answer.
const RULES: u32 = 2;

impl Extractive {
    /// What answers depend on beside the item.
    pub fn id(self) -> String {
        format!("extractive.{RULES} {}", self.most)
    }
}

impl Generate for Extractive {
    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()> {
        for Prompt { key, source, item, .. } in prompts {
            let text = phrases(&item, self.most).join("\n");
            done(Answer { key, source, text, finish: Finish::Stop, prompt_tokens: 0, new_tokens: 0 })?;
        }
        Ok(())
    }
}

/// The title, then the best phrases, each once however it is written. An item without title and page is its own.
fn phrases(item: &Item, most: usize) -> Vec<String> {
    let meta = item.meta.as_ref();
    let [title, body] =
        [meta.and_then(|meta| meta.title.as_deref()), meta.and_then(|meta| meta.body.as_deref())]
            .map(|text| text.unwrap_or_default().trim());
    let (title, body) = match (title, body) {
        ("", "") => (item.text.as_str(), item.text.as_str()),
        page => page,
    };
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut all = Vec::new();
    if !title.is_empty() {
        all.push(title);
    }
    all.extend(ranked(body));
    let mut seen = HashSet::new();
    all.retain(|phrase| seen.insert(phrase.to_lowercase()));
    all.truncate(most);
    all
}

/// Phrases of a page, the best first.
fn ranked(body: &str) -> Vec<String> {
    let stop: HashSet<&str> = STOP.split_whitespace().collect();
    let phrases: Vec<Vec<&str>> = body
        .split(|c: char| {
            c == '\n' || (c.is_ascii_punctuation() && !"-'_/+#&".contains(c)) || "•·–—…«»“”„".contains(c)
        })
        .flat_map(|piece| {
            let words: Vec<&str> = piece.split_whitespace().collect();
            words
                .split(|word| stop.contains(word.to_lowercase().as_str()))
                .filter(|words| (1..=WORDS).contains(&words.len()))
                .map(<[&str]>::to_vec)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut counts: HashMap<String, (f64, f64)> = HashMap::new();
    for phrase in &phrases {
        for word in phrase {
            let (frequency, degree) = counts.entry(word.to_lowercase()).or_default();
            (*frequency, *degree) = (*frequency + 1.0, *degree + phrase.len() as f64);
        }
    }
    let score = |phrase: &[&str]| -> f64 {
        let of_word = |word: &&str| counts.get(&word.to_lowercase()).map_or(0.0, |(f, d)| d / f);
        phrase.iter().map(of_word).sum()
    };
    let mut scored: Vec<(f64, usize)> = phrases.iter().enumerate().map(|(i, p)| (score(p), i)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().map(|(_, i)| phrases[i].join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Meta;
    use super::*;

    fn item(meta: Option<Meta>) -> Item {
        Item { id: "0".to_owned(), source: 0, text: "own text".to_owned(), meta }
    }

    #[test]
    fn a_page_gives_its_title_and_its_phrases_the_longest_first() {
        let body =
            "The blue whale is the largest animal of the sea.\nSea: the blue whale, krill; BLUE WHALE.";
        let meta = Meta { title: Some(" Whales ".into()), body: Some(body.into()), ..Meta::default() };
        assert_eq!(
            phrases(&item(Some(meta.clone())), 10),
            ["Whales", "blue whale", "largest animal", "sea", "krill"]
        );
        assert_eq!(phrases(&item(Some(meta)), 2), ["Whales", "blue whale"]);
    }

    #[test]
    fn an_item_without_a_page_gives_its_own_text_and_phrases_of_it() {
        assert_eq!(phrases(&item(None), 10), ["own text"]);
        let long = Item { text: "A guide to the whale, and to the ship".to_owned(), ..item(None) };
        assert_eq!(phrases(&long, 10), ["A guide to the whale, and to the ship", "guide", "whale", "ship"]);
        let address = Meta { url: Some("http://a".into()), body: Some(" ".into()), ..Meta::default() };
        assert_eq!(phrases(&item(Some(address)), 10), ["own text"]);
    }
}

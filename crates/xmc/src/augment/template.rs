//! What is a language model asked? Parts of a text with places for what is known of an item; a part is left out if it names
//! something that is not known.
//!
//! ```toml
//! chat = true                   # as what a user says, where the model has a template for chats
//! required = ["title"]          # refuse items without
//! body_characters = 7500        # of a page at most, then
//! body_tokens = 750             # at most, where the tokenizer is at hand
//! known = 10                    # known counterparts that are shown
//! stop = "\n\n"                 # where an answer ends, beside the model's own end
//! parts = ["Title: {title}\n", "{body}\n", "Search queries:\n"]
//! ```
//!
//! Places are `{text}`, `{title}`, `{body}`, `{url}` and `{known}`; `{{` and `}}` are braces.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Direction, Item};
use crate::error::{Error, Result};

/// Names of places.
const PLACES: [&str; 5] = ["text", "title", "body", "url", "known"];

/// How items become prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// Whether it is said in a chat, where the model knows chats.
    pub chat: bool,
    /// Places that every item must fill.
    pub required: Vec<String>,
    /// Characters of `{body}` at most.
    pub body_characters: usize,
    /// Tokens of `{body}` at most.
    pub body_tokens: usize,
    /// Lines of `{known}` at most.
    pub known: usize,
    /// Where an answer ends, beside the model's own end; nothing if empty.
    pub stop: String,
    /// What is written, one after the other.
    pub parts: Vec<String>,
}

impl Default for Template {
    fn default() -> Self {
        Template {
            chat: true,
            required: Vec::new(),
            body_characters: 7500,
            body_tokens: 750,
            known: 10,
            stop: String::new(),
            parts: Vec::new(),
        }
    }
}

/// A piece of a part.
#[derive(Debug, PartialEq)]
enum Piece<'t> {
    Words(&'t str),
    Place(&'t str),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// If it is no TOML of this kind, has no parts, or names places that there are not.
    pub fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let template: Template = toml::from_str(&text).map_err(|e| Error::file(path, e.to_string()))?;
        template.check().map_err(|problem| Error::file(path, problem))?;
        Ok(template)
    }

    /// What a model that follows instructions is asked.
    pub fn instructed(direction: Direction) -> Self {
        let (task, ask) = match direction {
            Direction::Label => (
                "You help a search engine. Read about one page and write queries that people type who would be glad to find \
                 it. Use only what is said here. Each query is short, differs from the others and from the queries \
                 that are known already, and stands on a line of its own, without numbers or remarks.\n\n",
                "Write up to 10 new queries.",
            ),
            Direction::Instance => (
                "You help a librarian. Read one text and name the subjects that it is about, as a catalogue would list \
                 them: short names in the language of the text, broad ones too. Use only what is said here. Each \
                 subject stands on a line of its own, without numbers or remarks.\n\n",
                "Name up to 10 subjects.",
            ),
        };
        let mut parts = vec![task.to_owned()];
        parts.extend(Self::fields(direction).parts.into_iter().take(5));
        parts.push(ask.to_owned());
        Template { parts, ..Template::default() }
    }

    /// What a model that was tuned for the task is given: what is known, and a header to continue.
    pub fn fields(direction: Direction) -> Self {
        let (name, known, header) = match direction {
            Direction::Label => ("Page", "Known queries", "Queries"),
            Direction::Instance => ("Text", "Known subjects", "Subjects"),
        };
        let parts = vec![
            format!("{name}: {{text}}\n"),
            "Address: {url}\n".to_owned(),
            "Title: {title}\n".to_owned(),
            format!("{known}:\n{{known}}\n"),
            "Content:\n{body}\n".to_owned(),
            format!("{header}:\n"),
        ];
        Template { chat: false, parts, ..Template::default() }
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.parts.is_empty() {
            return Err("`parts` is missing: what shall the model read?".to_owned());
        }
        for part in &self.parts {
            pieces(part)?;
        }
        match self.required.iter().find(|name| !PLACES.contains(&name.as_str())) {
            Some(name) => Err(format!("required: `{name}` is none of {}", PLACES.join(", "))),
            None => Ok(()),
        }
    }

    /// The words that every prompt begins with: those of the parts before the first that may be left out.
    pub fn start(&self) -> Result<String> {
        let mut start = String::new();
        for part in &self.parts {
            let mut words = String::new();
            for piece in pieces(part).map_err(Error::Mismatch)? {
                let Piece::Words(piece) = piece else { return Ok(start) };
                words.push_str(piece);
            }
            start.push_str(&words);
        }
        Ok(start)
    }

    /// Its lines without places: a model that repeats them has said nothing.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| part.lines()).filter(|line| !line.contains('{'))
    }

    /// The prompt of `item`; `cut` shortens a text to so many tokens.
    ///
    /// # Errors
    /// If the item lacks something that is required.
    pub fn fill(&self, item: &Item, cut: &dyn Fn(&str, usize) -> Result<String>) -> Result<String> {
        if let Some(name) = self.required.iter().find(|name| self.value(item, name).is_none()) {
            let problem = format!(
                "source {} (`{}`) has no `{name}`, which the template requires: add it to the metadata, or take it out of \
                 `required`",
                item.source, item.id
            );
            return Err(Error::Mismatch(problem));
        }
        let parts = self.parts.iter().map(|part| Ok(self.part(part, item, cut)?.unwrap_or_default()));
        parts.collect()
    }

    /// A part with its places filled; none if the item lacks one.
    fn part(
        &self,
        part: &str,
        item: &Item,
        cut: &dyn Fn(&str, usize) -> Result<String>,
    ) -> Result<Option<String>> {
        let mut filled = String::new();
        for piece in pieces(part).map_err(Error::Mismatch)? {
            let name = match piece {
                Piece::Words(words) => {
                    filled.push_str(words);
                    continue;
                }
                Piece::Place(name) => name,
            };
            let Some(value) = self.value(item, name) else { return Ok(None) };
            match name {
                "body" => filled.push_str(&cut(&value, self.body_tokens)?),
                _ => filled.push_str(&value),
            }
        }
        Ok(Some(filled))
    }

    /// What stands at a place, if the item has that.
    fn value<'i>(&self, item: &'i Item, name: &str) -> Option<Cow<'i, str>> {
        let meta = item.meta.as_ref();
        let value: Cow<'i, str> = match name {
            "text" => item.text.as_str().into(),
            "title" => meta?.title.as_deref()?.into(),
            "url" => meta?.url.as_deref()?.into(),
            "known" => {
                meta?.known.iter().take(self.known).map(String::as_str).collect::<Vec<_>>().join("\n").into()
            }
            _ => {
                let body = meta?.body.as_deref()?;
                let end = body.char_indices().nth(self.body_characters).map_or(body.len(), |(at, _)| at);
                body.get(..end)?.into()
            }
        };
        (!value.trim().is_empty()).then_some(value)
    }
}

/// Cuts a part at its places.
fn pieces(part: &str) -> std::result::Result<Vec<Piece<'_>>, String> {
    let (mut pieces, mut rest) = (Vec::new(), part);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Words(before));
        }
        if brace.starts_with("{{") || brace.starts_with("}}") {
            let (twice, behind) = brace.split_at(2);
            pieces.push(Piece::Words(&twice[..1]));
            rest = behind;
            continue;
        }
        let place = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let known = place.filter(|(name, _)| PLACES.contains(name));
        let Some((name, behind)) = known else {
            let shown: String = brace.chars().take(20).collect();
            let places = PLACES.map(|name| format!("{{{name}}}")).join(", ");
            return Err(format!("`{shown}` in a part: places are {places}; write {{{{ for a brace"));
        };
        pieces.push(Piece::Place(name));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Words(rest));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Meta;

    fn item(meta: Option<Meta>) -> Item {
        Item { id: "sea".to_owned(), source: 3, text: "The sea".to_owned(), meta }
    }

    fn page() -> Meta {
        Meta {
            title: Some("Whales".to_owned()),
            body: Some("One two three four five".to_owned()),
            known: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..Meta::default()
        }
    }

    /// Tokens are words.
    #[expect(clippy::unnecessary_wraps, reason = "tokenizers can fail")]
    fn cut(text: &str, tokens: usize) -> Result<String> {
        Ok(text.split(' ').take(tokens).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn parts_without_their_fields_are_left_out() {
        let template = Template::fields(Direction::Label);
        assert_eq!(template.fill(&item(None), &cut).unwrap(), "Page: The sea\nQueries:\n");
        assert_eq!(
            template.fill(&item(Some(page())), &cut).unwrap(),
            "Page: The sea\nTitle: Whales\nKnown queries:\na\nb\nc\nContent:\nOne two three four five\nQueries:\n"
        );
    }

    #[test]
    fn a_model_that_follows_instructions_is_told_what_to_do_first_and_last() {
        let prompt = Template::instructed(Direction::Instance).fill(&item(Some(page())), &cut).unwrap();
        assert_eq!(
            prompt,
            "You help a librarian. Read one text and name the subjects that it is about, as a catalogue would list them: short \
             names in the language of the text, broad ones too. Use only what is said here. Each subject stands on a line of \
             its own, without numbers or remarks.\n\nText: The sea\nTitle: Whales\nKnown subjects:\na\nb\nc\nContent:\n\
             One two three four five\nName up to 10 subjects."
        );
    }

    #[test]
    fn pages_are_cut_by_characters_and_by_tokens() {
        let parts = vec!["{{{known}}} {body}".to_owned()];
        let template = Template { parts, known: 2, body_tokens: 2, ..Template::default() };
        assert_eq!(template.fill(&item(Some(page())), &cut).unwrap(), "{a\nb} One two");
        let shorter = Template { body_characters: 5, ..template };
        assert_eq!(shorter.fill(&item(Some(page())), &cut).unwrap(), "{a\nb} One t");
    }

    #[test]
    fn every_prompt_begins_with_the_start() {
        for direction in [Direction::Label, Direction::Instance] {
            for template in [Template::instructed(direction), Template::fields(direction)] {
                let start = template.start().unwrap();
                let nameless = Item { text: String::new(), ..item(Some(page())) };
                for item in [item(None), item(Some(page())), nameless] {
                    assert!(template.fill(&item, &cut).unwrap().starts_with(&start), "{start}");
                }
                assert_eq!(start.len() > 100, template.chat);
            }
        }
    }

    #[test]
    fn what_is_missing_or_misspelt_is_named() {
        let template = Template { required: vec!["url".to_owned()], ..Template::fields(Direction::Label) };
        let problem = template.fill(&item(Some(page())), &cut).unwrap_err().to_string();
        assert!(problem.contains("source 3 (`sea`) has no `url`"), "{problem}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.toml");
        for (text, expected) in [
            ("parts = [\"{name}\"]", "`{name}` in a part: places are {text}, {title}"),
            ("parts = [\"a }\"]", "write {{ for a brace"),
            ("chat = false", "`parts` is missing"),
            ("parts = [\"a\"]\nrequired = [\"name\"]", "`name` is none of text, title"),
            ("part = [\"a\"]", "unknown field `part`"),
        ] {
            fs::write(&path, text).unwrap();
            let problem = Template::open(&path).unwrap_err().to_string();
            assert!(problem.contains("t.toml") && problem.contains(expected), "{problem}");
        }
        fs::write(&path, "chat = false\nparts = [\"{text}:\\n\"]").unwrap();
        assert_eq!(Template::open(&path).unwrap().fill(&item(None), &cut).unwrap(), "The sea:\n");
    }
}

//! How does a decoder read a prompt? As finetuning shows it prompts: cut into tokens as a whole, behind the words of a chat.
//!
//! All prompts of a template begin alike, and what they have in common is computed once. It ends before a space, where
//! tokens end too, so that a prompt has the same tokens whether its start is shared or not.

use xmc_nn::decoder::Source;
use xmc_nn::hf::Tokenizer;
use xxhash_rust::xxh3::xxh3_64;

use super::super::chat::Chat;
use super::super::template::Template;
use crate::error::{Error, Result};

/// Cuts and counts texts by the tokens of a decoder, without its weights.
#[derive(Debug)]
pub struct Reader {
    tokenizer: Tokenizer,
    /// What all prompts begin with.
    shared: String,
    /// Its ids.
    words: Vec<u32>,
    /// The same behind what a chat begins with.
    start: Vec<u32>,
    /// What a chat ends with.
    behind: Vec<u32>,
    /// Where answers end; nowhere if empty.
    stop: String,
    positions: usize,
    fingerprint: u64,
}

impl Reader {
    /// A reader of prompts by `template` for the decoder `source`.
    ///
    /// # Errors
    /// If the decoder has no tokenizer, or its chats cannot be written.
    pub fn new(source: &Source, template: &Template) -> Result<Self> {
        let config = source.config();
        // One more than fits, to tell what does not.
        let tokenizer = source.tokenizer(config.positions + 1)?;
        let special = |name| source.special(name).unwrap_or_default();
        let chat = match source.chat_template().filter(|_| template.chat) {
            Some(chat) => Chat::new(&chat, [&special("bos_token"), &special("eos_token")])?,
            None => Chat::default(),
        };
        let fingerprint = xxh3_64(format!("{:x} {chat:?}", tokenizer.fingerprint()).as_bytes());
        let (mut start, behind) =
            (tokenizer.encode_words(&chat.before)?, tokenizer.encode_words(&chat.behind)?);
        if let Some(bos) = config.bos.filter(|bos| config.add_bos && start.first() != Some(bos)) {
            start.insert(0, bos);
        }
        // What a page says in the words of a chat is no chat, unless the template writes its chat by itself.
        let by_hand = !template.chat && template.parts.iter().any(|part| tokenizer.names_special(part));
        let tokenizer = if by_hand { tokenizer } else { tokenizer.plain() };
        let shared = to_last_space(&template.start()?).to_owned();
        let words = tokenizer.encode_words(&shared)?;
        start.extend_from_slice(&words);
        let (stop, positions) = (template.stop.clone(), config.positions);
        Ok(Reader { tokenizer, shared, words, start, behind, stop, positions, fingerprint })
    }

    /// Ids that all prompts begin with.
    pub fn start(&self) -> &[u32] {
        &self.start
    }

    /// Tokens that the decoder can hold.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// A hash of what ids depend on beside the prompt: the tokenizer and the words of chats.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The first `tokens` tokens of a text.
    pub fn cut(&self, text: &str, tokens: usize) -> Result<String> {
        let ids = self.tokenizer.encode_words(text)?;
        if ids.len() <= tokens {
            return Ok(text.to_owned());
        }
        let mut end = tokens;
        loop {
            let words = self.tokenizer.decode(ids.get(..end).unwrap_or_default())?;
            // A character of several tokens may be cut in two.
            let words = words.trim_end_matches(char::REPLACEMENT_CHARACTER);
            if end == 0 || self.tokenizer.encode_words(words)?.len() <= tokens {
                return Ok(words.to_owned());
            }
            end -= 1;
        }
    }

    /// Ids behind [`Reader::start`].
    pub fn rest(&self, prompt: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode_words(prompt)?;
        let mut rest = if let Some(rest) = ids.strip_prefix(&self.words[..]) {
            rest.to_vec()
        } else {
            // A tokenizer to which a space ends nothing.
            let strange = || Error::Mismatch("a prompt that does not begin as its template does".to_owned());
            self.tokenizer.encode_words(prompt.strip_prefix(&self.shared).ok_or_else(strange)?)?
        };
        rest.extend_from_slice(&self.behind);
        Ok(rest)
    }

    /// The text of an answer up to where it ends, and whether it ends there.
    pub fn text(&self, ids: &[u32]) -> Result<(String, bool)> {
        let mut text = self.tokenizer.decode(ids)?;
        let end = if self.stop.is_empty() { None } else { text.find(&self.stop) };
        text.truncate(end.unwrap_or(text.len()));
        Ok((text, end.is_some()))
    }

    /// Whether an answer that had not ended before its last token ends with it.
    pub fn is_complete(&self, ids: &[u32]) -> bool {
        // A token has one byte at least, and a tokenizer may leave out a space before the first.
        let tail = ids.len().saturating_sub(self.stop.len() + 1);
        let text = |ids| self.tokenizer.decode(ids).is_ok_and(|text| text.contains(&self.stop));
        !self.stop.is_empty() && text(&ids[tail..])
    }
}

/// A text without its last word and the spaces before it.
fn to_last_space(text: &str) -> &str {
    let word = text.trim_end().rfind(char::is_whitespace).unwrap_or(0);
    text.get(..word).unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_end_before_a_space() {
        for (text, expected) in
            [("", ""), ("one", ""), ("one two", "one"), ("a\n \nbc\n\n", "a"), (" é ü ", " é")]
        {
            assert_eq!(to_last_space(text), expected);
        }
    }
}

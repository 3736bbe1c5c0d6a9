//! Which terms does a text hold? One answer for learning a vocabulary and for using it.
//!
//! A text is first written into a buffer in which every term is one run of bytes: words joined by single spaces for
//! `word`, `" word word "` for `char_wb`, the text itself for `char`. An n-gram is then a start and an end. No term is
//! ever copied on its own, and names read as in scikit-learn.

use rust_stemmers::Stemmer;

use super::config::{AnalyzerKind, TokenPattern, VectorizerConfig};
use super::stem::{Stem, Stems};
use super::unicode::{is_space, is_word, lower_into, strip_accents_into};

/// Zero bytes behind the buffer, so that eight bytes may be read at the start of any term.
const PADDING: [u8; 8] = [0; 8];

/// What to cut texts into; made from a checked configuration.
pub(super) struct Analyzer {
    kind: AnalyzerKind,
    pattern: TokenPattern,
    ngrams: [usize; 2],
    lowercase: bool,
    strip_accents: bool,
    language: Stem,
    stemmer: Option<Stemmer>,
    stop_words: Vec<String>,
    /// Words or characters looked at.
    truncate: usize,
}

/// Memory that analysing uses again for every text.
#[derive(Debug, Default)]
pub(super) struct Analysis {
    lowered: String,
    stripped: String,
    /// See the [module](self).
    buffer: Vec<u8>,
    /// Where each word or character starts in `buffer`, and where the next would.
    starts: Vec<usize>,
    /// `char_wb`: numbers of the characters that are the spaces around words.
    spaces: Vec<usize>,
    stems: Stems,
}

impl Analyzer {
    /// The analyzer that a checked configuration describes.
    pub(super) fn new(config: &VectorizerConfig) -> Self {
        let mut stop_words = config.stop_words.clone();
        stop_words.sort_unstable();
        Analyzer {
            kind: config.analyzer,
            pattern: config.token_pattern,
            ngrams: config.ngram_range,
            lowercase: config.lowercase,
            strip_accents: config.strip_accents,
            language: config.stem,
            stemmer: config.stem.stemmer(),
            stop_words,
            truncate: if config.truncate_length == 0 { usize::MAX } else { config.truncate_length },
        }
    }

    /// Calls `sink(bytes, start, end)` for every occurrence of a term: it is `bytes[start..end]`, and at least eight
    /// bytes follow `start`.
    #[inline]
    pub(super) fn terms(&self, text: &str, memory: &mut Analysis, sink: impl FnMut(&[u8], usize, usize)) {
        let mut lowered = std::mem::take(&mut memory.lowered);
        let mut stripped = std::mem::take(&mut memory.stripped);
        // ASCII, the common case, has no accents, and its capitals are found many at a time.
        let ascii = text.is_ascii();
        let mut prepared = text;
        if self.lowercase {
            lowered.clear();
            if ascii {
                lowered.push_str(text);
                lowered.make_ascii_lowercase();
            } else {
                lower_into(prepared, &mut lowered);
            }
            prepared = &lowered;
        }
        if self.strip_accents && !ascii {
            stripped.clear();
            strip_accents_into(prepared, &mut stripped);
            prepared = &stripped;
        }
        memory.buffer.clear();
        memory.starts.clear();
        memory.spaces.clear();
        match (self.kind, self.pattern) {
            (AnalyzerKind::Word, TokenPattern::Sklearn) => self.words(prepared, memory),
            (AnalyzerKind::Word, TokenPattern::Whitespace) => self.split(prepared, memory),
            (AnalyzerKind::Char, _) => self.characters(prepared, memory),
            (AnalyzerKind::CharWb, _) => self.padded_words(prepared, memory),
        }
        memory.starts.push(memory.buffer.len());
        memory.buffer.extend_from_slice(&PADDING);
        self.ngrams(memory, sink);
        memory.lowered = lowered;
        memory.stripped = stripped;
    }

    /// Runs of two or more word characters.
    fn words(&self, text: &str, memory: &mut Analysis) {
        let bytes = text.as_bytes();
        // `at` is always at the start of a character.
        let mut at = 0;
        while at < bytes.len() && memory.starts.len() < self.truncate {
            let (start, mut length) = (at, 0);
            let skipped = loop {
                let run = bytes[at..].iter().take_while(|&&byte| ASCII_WORD[byte as usize]).count();
                (at, length) = (at + run, length + run);
                if bytes.get(at).is_none_or(u8::is_ascii) {
                    break 1;
                }
                let wide = text[at..].chars().take_while(|&c| !c.is_ascii() && is_word(c));
                let (count, size) = wide.fold((0, 0), |(count, size), c| (count + 1, size + c.len_utf8()));
                if count == 0 {
                    break text[at..].chars().next().map_or(1, char::len_utf8);
                }
                (at, length) = (at + size, length + count);
            };
            if length >= 2 {
                self.push_word(&text[start..at], memory);
            }
            at += skipped;
        }
    }

    /// Words between ASCII spaces.
    fn split(&self, text: &str, memory: &mut Analysis) {
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if memory.starts.len() >= self.truncate {
                return;
            }
            self.push_word(word, memory);
        }
    }

    /// Appends a word, or its stem, unless it is a stop word.
    #[inline]
    fn push_word(&self, word: &str, memory: &mut Analysis) {
        let Analysis { buffer, starts, stems, .. } = memory;
        if self.stop_words.binary_search_by(|stop| stop.as_str().cmp(word)).is_ok() {
            return;
        }
        let word = match &self.stemmer {
            Some(stemmer) => stems.of(self.language, stemmer, word),
            None => word,
        };
        starts.push(buffer.len());
        buffer.extend_from_slice(word.as_bytes());
        buffer.push(b' ');
    }

    /// The text itself; for scikit-learn's pattern every run of white space becomes one space.
    fn characters(&self, text: &str, memory: &mut Analysis) {
        let collapse = self.pattern == TokenPattern::Sklearn;
        let mut rest = text.chars().peekable();
        while let Some(mut c) = rest.next() {
            if memory.starts.len() >= self.truncate {
                return;
            }
            if collapse && is_space(c) && rest.peek().copied().is_some_and(is_space) {
                while rest.peek().copied().is_some_and(is_space) {
                    rest.next();
                }
                c = ' ';
            }
            memory.push_char(c);
        }
    }

    /// Words with one space between them, before the first and behind the last.
    fn padded_words(&self, text: &str, memory: &mut Analysis) {
        let splits = |c: char| match self.pattern {
            TokenPattern::Sklearn => is_space(c),
            TokenPattern::Whitespace => c == ' ',
        };
        let mut left = self.truncate;
        let mut inside = false;
        for c in text.chars() {
            if splits(c) {
                inside = false;
                continue;
            }
            if left == 0 {
                break;
            }
            if !inside {
                memory.push_space();
            }
            inside = true;
            left -= 1;
            memory.push_char(c);
        }
        if !memory.starts.is_empty() {
            memory.push_space();
        }
    }

    /// All n-grams of the buffer.
    fn ngrams(&self, memory: &Analysis, mut sink: impl FnMut(&[u8], usize, usize)) {
        let Analysis { buffer, starts, spaces, .. } = memory;
        let [min, max] = self.ngrams;
        // A run of words ends before the space behind its last word, a run of characters where the next one starts.
        let gap = usize::from(self.kind == AnalyzerKind::Word);
        if self.kind != AnalyzerKind::CharWb {
            for n in min..=max.min(starts.len() - 1) {
                for (&start, &next) in starts.iter().zip(&starts[n..]) {
                    sink(buffer, start, next - gap);
                }
            }
            return;
        }
        for pair in spaces.windows(2) {
            // Both spaces belong to the word.
            let word = &starts[pair[0]..=pair[1] + 1];
            for n in min..=max {
                if n + 1 >= word.len() {
                    sink(buffer, word[0], word[word.len() - 1]);
                    break;
                }
                for (&start, &end) in word.iter().zip(&word[n..]) {
                    sink(buffer, start, end);
                }
            }
        }
    }
}

impl Analysis {
    fn push_char(&mut self, c: char) {
        self.starts.push(self.buffer.len());
        if c.is_ascii() {
            self.buffer.push(c as u8);
        } else {
            self.buffer.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn push_space(&mut self) {
        self.spaces.push(self.starts.len());
        self.push_char(' ');
    }
}

/// Which bytes are ASCII word characters.
static ASCII_WORD: [bool; 256] = {
    let mut class = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        class[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    class
};

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(config: &str, text: &str) -> Vec<String> {
        let config: VectorizerConfig = serde_json::from_str(config).unwrap();
        config.check().unwrap();
        let mut found = Vec::new();
        Analyzer::new(&config).terms(text, &mut Analysis::default(), |bytes, start, end| {
            found.push(String::from_utf8(bytes[start..end].to_vec()).unwrap());
        });
        found
    }

    #[test]
    fn words_have_two_characters_or_more() {
        assert_eq!(terms("{}", "A SEA of_x, éé é 中文 x1!"), ["sea", "of_x", "éé", "中文", "x1"]);
        assert_eq!(terms("{}", "a ; b"), [""; 0]);
    }

    #[test]
    fn word_pairs_are_joined_by_one_space() {
        assert_eq!(
            terms(r#"{"ngram_range": [2, 3]}"#, "one,  two;three"),
            ["one two", "two three", "one two three"]
        );
        assert_eq!(terms(r#"{"ngram_range": [2, 3]}"#, "one"), [""; 0]);
    }

    #[test]
    fn padded_words_have_their_bigrams_at_both_ends() {
        let bigrams = r#"{"analyzer": "char_wb", "ngram_range": [2, 2]}"#;
        assert_eq!(terms(bigrams, "ab cd"), [" a", "ab", "b ", " c", "cd", "d "]);
        assert_eq!(terms(bigrams, "ab"), [" a", "ab", "b "]);
        assert_eq!(terms(bigrams, " \t "), [""; 0]);
    }

    #[test]
    fn a_short_word_is_counted_once() {
        let config = r#"{"analyzer": "char_wb", "ngram_range": [3, 5]}"#;
        assert_eq!(terms(config, "a éb"), [" a ", " éb", "éb ", " éb "]);
    }

    #[test]
    fn white_space_between_characters_becomes_one_space_unless_it_stands_alone() {
        assert_eq!(terms(r#"{"analyzer": "char"}"#, "A \n b\tc"), ["a", " ", "b", "\t", "c"]);
        let kept = r#"{"analyzer": "char", "token_pattern": "whitespace"}"#;
        assert_eq!(terms(kept, "A  b"), ["a", " ", " ", "b"]);
    }

    #[test]
    fn libpecos_splits_at_spaces_only_and_keeps_case() {
        assert_eq!(terms(r#"{"preset": "libpecos"}"#, "  A b,\tC  d"), ["A", "b,\tC", "d"]);
    }

    #[test]
    fn truncation_counts_words_or_characters() {
        assert_eq!(terms(r#"{"truncate_length": 2}"#, "one a two three"), ["one", "two"]);
        assert_eq!(terms(r#"{"truncate_length": 2, "preset": "libpecos"}"#, "one a two"), ["one", "a"]);
        assert_eq!(terms(r#"{"truncate_length": 2, "analyzer": "char"}"#, "abc"), ["a", "b"]);
        let padded = r#"{"truncate_length": 3, "analyzer": "char_wb", "ngram_range": [9, 9]}"#;
        assert_eq!(terms(padded, "ab cd"), [" ab ", " c "]);
    }

    #[test]
    fn stop_words_go_before_stems_are_made() {
        let config = r#"{"stop_words": ["the", "seas"], "stem": "english", "ngram_range": [1, 2]}"#;
        assert_eq!(terms(config, "The rivers, seas flowing"), ["river", "flow", "river flow"]);
    }

    #[test]
    fn capitals_that_appear_only_after_stripping_stay_as_in_scikit_learn() {
        assert_eq!(terms(r#"{"strip_accents": true}"#, "ÉTÉ ™ ①②"), ["ete", "TM", "12"]);
        assert_eq!(terms("{}", "İstanbul"), ["stanbul"]);
    }
}

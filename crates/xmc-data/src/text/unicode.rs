//! What is a letter, a white space, a small letter? The answers of Python 3, so that tokens equal scikit-learn's.
//!
//! `\w` is a letter, a number or the underscore; combining marks are not, although Rust calls many of them
//! alphabetic. `\s` also holds the separators U+001C to U+001F. Lower-casing is the full mapping, with the final sigma.

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// One bit for each character below U+10000: is it in `\w`?
static WORD: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut bits = vec![0u64; 1 << 10];
    for c in ('\0'..='\u{ffff}').filter(|&c| in_word_class(c)) {
        bits[c as usize / 64] |= 1 << (c as usize % 64);
    }
    bits
});

/// Small letter of each character of one or two bytes; 0 where there are several or the context decides.
static SMALL: LazyLock<Vec<char>> = LazyLock::new(|| {
    let small = |c: char| {
        let mut letters = c.to_lowercase();
        if c == 'Σ' || letters.len() > 1 { '\0' } else { letters.next().unwrap_or(c) }
    };
    ('\0'..'\u{800}').map(small).collect()
});

fn in_word_class(c: char) -> bool {
    c == '_'
        || matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
}

/// True for Python's `\w`.
#[inline]
pub(super) fn is_word(c: char) -> bool {
    match WORD.get(c as usize / 64) {
        Some(bits) => bits >> (c as usize % 64) & 1 == 1,
        None => in_word_class(c),
    }
}

/// True for Python's `\s`.
#[inline]
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Appends `text` in lower case, as Python's `str.lower` does.
pub(super) fn lower_into(text: &str, out: &mut String) {
    let small: &[char] = &SMALL;
    for (at, c) in text.char_indices() {
        match small.get(c as usize) {
            Some('\0') if c == 'Σ' => out.push(if ends_word(text, at) { 'ς' } else { 'σ' }),
            Some('\0') | None => out.extend(c.to_lowercase()),
            Some(&small) => out.push(small),
        }
    }
}

/// Unicode's condition Final_Sigma for the capital sigma at byte `at`: a cased letter before it, none after it.
fn ends_word(text: &str, at: usize) -> bool {
    let (before, after) = (&text[..at], &text[at + 'Σ'.len_utf8()..]);
    before.chars().rev().find(|&c| !case_ignorable(c)).is_some_and(cased)
        && !after.chars().find(|&c| !case_ignorable(c)).is_some_and(cased)
}

fn cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || c.general_category() == GeneralCategory::TitlecaseLetter
}

/// Unicode's Case_Ignorable: marks, modifiers and the punctuation that stands within words.
fn case_ignorable(c: char) -> bool {
    const WITHIN_WORDS: &str = "'.:\u{b7}\u{387}\u{55f}\u{5f4}\u{2018}\u{2019}\u{2024}\u{2027}\u{fe13}\u{fe52}\u{fe55}\u{ff07}\u{ff0e}\u{ff1a}";
    WITHIN_WORDS.contains(c)
        || matches!(
            c.general_category(),
            GeneralCategory::NonspacingMark
                | GeneralCategory::EnclosingMark
                | GeneralCategory::Format
                | GeneralCategory::ModifierLetter
                | GeneralCategory::ModifierSymbol
        )
}

/// Appends the compatibility decomposition (NFKD) of `text` without its combining characters.
pub(super) fn strip_accents_into(text: &str, out: &mut String) {
    out.extend(text.nfkd().filter(|&c| canonical_combining_class(c) == 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(text: &str) -> String {
        let mut out = String::new();
        lower_into(text, &mut out);
        out
    }

    #[test]
    fn lower_case_is_that_of_the_standard_library_for_every_context_of_sigma() {
        for text in
            ["ΟΔΟΣ", "ΟΔΟΣ ΣΟΦΙΑΣ", "Σ", "ΑΣ'", "ΑΣ'Α", "Α.Σ", "Α\u{301}Σ", "1Σ", "ΣΣ", "İÇ ßẞ Ǆ", "ʰΣ"]
        {
            assert_eq!(lower(text), text.to_lowercase(), "{text}");
        }
    }

    #[test]
    fn lower_case_is_that_of_the_standard_library_for_every_character() {
        for c in '\0'..=char::MAX {
            assert!(lower(c.encode_utf8(&mut [0; 4])).chars().eq(c.to_lowercase()), "{c:?}");
        }
    }

    #[test]
    fn combining_marks_and_symbols_are_no_word_characters() {
        for c in ['é', 'ß', '中', '٣', '²', 'Ⅷ', '_', 'ª', '𝔘'] {
            assert!(is_word(c), "{c}");
        }
        // U+093E is a vowel sign that `char::is_alphanumeric` accepts, as it does the circled letter.
        for c in ['\u{301}', '\u{93e}', 'Ⓐ', '😀', '-', '·', ' '] {
            assert!(!is_word(c), "{c}");
        }
    }

    #[test]
    fn accents_go_and_ligatures_open() {
        let mut out = String::new();
        strip_accents_into("Élève ﬁn Ångström ½ 가", &mut out);
        assert_eq!(out, "Eleve fin Angstrom 1⁄2 \u{1100}\u{1161}");
    }
}

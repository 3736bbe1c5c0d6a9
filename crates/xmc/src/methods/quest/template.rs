//! What does the decoder read of a text, and of a label? A frame of words around it.

use std::borrow::Cow;

use xmc_data::{Error, Result, Strings};
use xmc_nn::hf::Tokenizer;

/// Where a text stands in its frame, and the bare text.
pub(crate) const TEXT: &str = "{text}";
/// The same of a label's name.
pub(crate) const LABEL: &str = "{label}";

/// Refuses a frame without its `place`, or with another one.
pub(crate) fn check(key: &str, frame: &str, place: &str) -> Result<()> {
    if frame.contains("{title}") || frame.contains("{content}") {
        let expected = format!("{place}: a data set holds title and content joined by a space, as one text");
        return Err(Error::config(key, frame, expected));
    }
    let others = [TEXT, LABEL].into_iter().filter(|other| *other != place);
    if frame.matches(place).count() != 1 || others.into_iter().any(|other| frame.contains(other)) {
        return Err(Error::config(key, frame, format!("a text with {place} once in it")));
    }
    Ok(())
}

/// Splits a frame into the words before its `place` and behind it.
fn split<'f>(frame: &'f str, place: &str) -> (&'f str, &'f str) {
    frame.split_once(place).unwrap_or((frame, ""))
}

/// `tokenizer` for texts in this frame: the words behind the place stay, however long a text is.
pub(crate) fn framed(tokenizer: Tokenizer, frame: &str, place: &str) -> xmc_nn::Result<Tokenizer> {
    match split(frame, place) {
        (_, "") => Ok(tokenizer),
        (_, after) => tokenizer.ending_with(after),
    }
}

/// A text behind the words that its frame begins with; those behind it are the tokenizer's.
pub(crate) fn begin<'t>(frame: &str, place: &str, text: &'t str) -> Cow<'t, str> {
    match split(frame, place) {
        ("", _) => Cow::Borrowed(text),
        (before, _) => Cow::Owned([before, text].concat()),
    }
}

/// All of `texts` behind those words.
pub(crate) fn begin_all<'t>(frame: &str, place: &str, texts: &'t Strings) -> Cow<'t, Strings> {
    if frame.starts_with(place) {
        return Cow::Borrowed(texts);
    }
    Cow::Owned(Strings::new(texts.iter().map(|text| begin(frame, place, text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_once_in_its_frame() {
        assert_eq!(begin("{text}", TEXT, "a {text}"), "a {text}");
        assert_eq!(begin("Topic of: {text}.", TEXT, "a {text} b"), "Topic of: a {text} b");
        let all = begin_all("label: {label}", LABEL, &Strings::new(["sea", ""])).into_owned();
        assert_eq!(all.iter().collect::<Vec<_>>(), ["label: sea", "label: "]);
        assert!(check("k", "a {text} b", TEXT).is_ok());
        for wrong in ["", "{label}", "{text} {text}", "{text} {label}", "{title} {text}"] {
            assert!(check("k", wrong, TEXT).is_err(), "{wrong}");
        }
    }
}

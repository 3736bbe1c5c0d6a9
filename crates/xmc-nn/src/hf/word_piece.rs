//! How are texts cut if a model comes with `vocab.txt` alone? As BERT does: split at spaces and punctuation, then take
//! the longest known pieces of each word.

use std::path::Path;

use serde_json::Value;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};

/// Builds the tokenizer of `vocab.txt` (its bytes) with the settings of `tokenizer_config.json`, if there is one.
pub(super) fn build(dir: &Path, vocabulary: &[u8], config: Option<&[u8]>) -> Result<Tokenizer> {
    let path = dir.join("vocab.txt");
    let config: Value = match config {
        None => Value::Null,
        Some(bytes) => serde_json::from_slice(bytes)
            .map_err(|e| Error::file(&dir.join("tokenizer_config.json"), format!("not valid JSON: {e}")))?,
    };
    let failed = |e: &dyn std::fmt::Display| Error::file(&path, format!("not a vocabulary of BERT: {e}"));
    let ids = WordPiece::read_bytes(vocabulary).map_err(|e| failed(&e))?;
    let id_of = |token: &str| {
        let missing =
            || Error::file(&path, format!("has no line `{token}`, which a vocabulary of BERT needs"));
        ids.get(token).copied().ok_or_else(missing)
    };
    let [unknown, first, last] = [("unk", "[UNK]"), ("cls", "[CLS]"), ("sep", "[SEP]")]
        .map(|(name, usual)| special(&config, name).unwrap_or(usual).to_owned());
    id_of(&unknown)?;
    let frame = BertProcessing::new((last.clone(), id_of(&last)?), (first.clone(), id_of(&first)?));
    let known = [&unknown, &first, &last].map(String::clone).into_iter();
    let others = ["[PAD]", "[MASK]"].into_iter().filter(|token| ids.contains_key(*token)).map(str::to_owned);
    let specials: Vec<AddedToken> = known.chain(others).map(|token| AddedToken::from(token, true)).collect();
    let pieces = WordPiece::builder().vocab(ids).unk_token(unknown).build().map_err(|e| failed(&e))?;

    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let normalizer = BertNormalizer::new(
        true,
        flag("tokenize_chinese_chars").unwrap_or(true),
        flag("strip_accents"),
        flag("do_lower_case").unwrap_or(true),
    );
    let mut tokenizer = Tokenizer::new(pieces);
    tokenizer.with_normalizer(Some(normalizer)).map_err(|e| failed(&e))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer)).with_post_processor(Some(frame));
    tokenizer.add_special_tokens(specials).map_err(|e| failed(&e))?;
    Ok(tokenizer)
}

/// A special token as the configuration names it, plain or as an object.
pub(super) fn special<'c>(config: &'c Value, name: &str) -> Option<&'c str> {
    let token = config.get(format!("{name}_token"))?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

//! Texts are cut exactly as Hugging Face's own programs cut them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use xmc_data::Strings;
use xmc_nn::Tokens;
use xmc_nn::hf::Tokenizer;

/// Length to which the golden texts are cut.
const MAX_LEN: usize = 24;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer")
}

fn golden<T: DeserializeOwned>(name: &str) -> Vec<T> {
    serde_json::from_str(&fs::read_to_string(golden_dir().join(name)).unwrap()).unwrap()
}

fn assert_rows(tokens: &Tokens, texts: &[String], want: &[Vec<u32>]) {
    assert_eq!(tokens.len(), want.len());
    for (i, (text, want)) in texts.iter().zip(want).enumerate() {
        let text: String = text.chars().take(80).collect();
        assert_eq!(&tokens.row(i), want, "text {i}: {text:?}");
    }
}

/// A folder with some files of the golden tokenizer.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        fs::copy(golden_dir().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn ids_are_those_of_hugging_face_for_varied_texts() {
    let texts: Vec<String> = golden("texts.json");
    assert_eq!(texts.len(), 200);
    let tokenizer = Tokenizer::open(&golden_dir(), MAX_LEN).unwrap();
    let tokens = tokenizer.encode(&Strings::new(&texts)).unwrap();
    assert_rows(&tokens, &texts, &golden::<Vec<u32>>("ids.json"));
    assert!((0..tokens.len()).all(|i| (2..=MAX_LEN).contains(&tokens.row_len(i))));
    assert!((0..tokens.len()).flat_map(|i| tokens.row(i)).all(|id| (id as usize) < tokenizer.vocabulary()));
}

#[test]
fn a_vocabulary_alone_makes_the_same_tokenizer_with_case_as_configured() {
    let texts: Vec<String> = golden("texts.json");
    let strings = Strings::new(&texts);
    let dir = folder(&["vocab.txt"]);
    let tokens = Tokenizer::open(dir.path(), MAX_LEN).unwrap().encode(&strings).unwrap();
    assert_rows(&tokens, &texts, &golden::<Vec<u32>>("ids.json"));

    let config = r#"{"do_lower_case": false, "strip_accents": false, "cls_token": {"content": "[CLS]"}}"#;
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let tokens = Tokenizer::open(dir.path(), MAX_LEN).unwrap().encode(&strings).unwrap();
    assert_rows(&tokens, &texts, &golden::<Vec<u32>>("cased.json"));
}

#[test]
fn ids_of_minilm_are_those_of_transformers() {
    let Some(dir) = std::env::var_os("XMC_ENCODER") else {
        println!("skipped: XMC_ENCODER is not set; scripts/fetch-encoder makes such a folder");
        return;
    };
    let texts: Vec<String> = golden("texts.json");
    let chosen = [&texts[..45], &texts[195..]].concat();
    let tokenizer = Tokenizer::open(Path::new(&dir), 64).unwrap();
    let tokens = tokenizer.encode(&Strings::new(&chosen)).unwrap();
    assert_rows(&tokens, &chosen, &golden::<Vec<u32>>("minilm.json"));
    assert_eq!(tokenizer.vocabulary(), 30_522);
}

#[test]
fn words_behind_texts_stay_however_short_those_are_cut() {
    let open = |max_len| Tokenizer::open(&golden_dir(), max_len).unwrap();
    let tail = open(MAX_LEN).encode_words("the subject").unwrap();
    let longest = tail.len() + 6;
    let framed = open(longest).ending_with("the subject").unwrap();
    let bare = open(6);
    for text in
        ["", "a whale", "a whale in the sea of the north, and what became of it after the long winter"]
    {
        let expected = [bare.encode_one(text).unwrap(), tail.clone()].concat();
        assert_eq!(framed.encode_one(text).unwrap(), expected, "{text}");
        assert!(expected.len() <= longest);
    }
    let problem = open(2 + tail.len()).ending_with("the subject").unwrap_err().to_string();
    assert!(problem.contains(&format!("every text has {} tokens of its own", 2 + tail.len())), "{problem}");
}

#[test]
fn a_saved_tokenizer_has_the_same_files_and_ids() {
    let texts = Strings::new(golden::<String>("texts.json"));
    for files in [&["tokenizer.json", "vocab.txt"][..], &["vocab.txt"]] {
        let (from, to) = (folder(files), tempfile::tempdir().unwrap());
        let tokenizer = Tokenizer::open(from.path(), MAX_LEN).unwrap();
        // What became of the folder since does not matter.
        fs::remove_dir_all(from.path()).unwrap();
        tokenizer.save(to.path()).unwrap();
        for name in files {
            let [saved, source] = [to.path(), &golden_dir()].map(|dir| fs::read(dir.join(name)).unwrap());
            assert_eq!(saved, source, "{name}");
        }
        let again = Tokenizer::open(to.path(), MAX_LEN).unwrap();
        assert_eq!(again.encode(&texts).unwrap(), tokenizer.encode(&texts).unwrap());
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let message = |dir: &Path, max_len| Tokenizer::open(dir, max_len).unwrap_err().to_string();
    let dir = tempfile::tempdir().unwrap();
    assert!(message(dir.path(), 9).contains("no tokenizer.json"));
    fs::write(dir.path().join("vocab.txt"), "[UNK]\n[CLS]\nsea\n").unwrap();
    assert!(message(dir.path(), 9).contains("vocab.txt: has no line `[SEP]`"));
    fs::write(dir.path().join("vocab.txt"), b"[UNK]\n\xff\n").unwrap();
    assert!(message(dir.path(), 9).contains("vocab.txt: not a vocabulary"));
    fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    assert!(message(dir.path(), 9).contains("tokenizer_config.json: not valid JSON"));
    fs::write(dir.path().join("tokenizer.json"), "{\"version\": \"1.0\"").unwrap();
    assert!(message(dir.path(), 9).contains("tokenizer.json: not a tokenizer"));
    for max_len in 0..3 {
        assert!(
            message(&golden_dir(), max_len)
                .contains("leaves no room for text: every text has 2 special tokens")
        );
    }
    let mut plain: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(golden_dir().join("tokenizer.json")).unwrap()).unwrap();
    plain["post_processor"] = serde_json::Value::Null;
    fs::write(dir.path().join("tokenizer.json"), plain.to_string()).unwrap();
    assert!(message(dir.path(), 9).contains("adds no special tokens"));
}

proptest! {
    /// Only the beginning of a long text is looked at; that must not show.
    #[test]
    fn the_start_of_a_long_text_has_the_ids_of_the_whole(
        words in proptest::collection::vec("[a-zé海я\u{301}😀 .]{0,8}|sea|\\[SEP\\]|\u{0}{9}", 20..90),
        max_len in 3usize..9,
    ) {
        let text = words.join(" ");
        let (short, long) = (Tokenizer::open(&golden_dir(), max_len).unwrap(), Tokenizer::open(&golden_dir(), 4096).unwrap());
        let whole = long.encode_one(&text).unwrap();
        let mut want = whole[..whole.len() - 1].to_vec();
        want.truncate(max_len - 1);
        want.push(whole[whole.len() - 1]);
        prop_assert_eq!(short.encode_one(&text).unwrap(), want);
    }
}

//! How does the tokenizer in the metadata of a GGUF file become files of Hugging Face?
//!
//! The file has tokens, what kind each is, and merges (byte-level BPE, `gpt2`) or scores (BPE of SentencePiece,
//! `llama`); how texts are split beforehand is only named. From that a `tokenizer.json` is written, and a
//! `tokenizer_config.json` that names the special tokens: the same tokenizer as in the folder that the file was made of.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::File;
use crate::error::{Error, Result};

/// Kinds of tokens.
const UNKNOWN: f64 = 2.0;
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;
const BYTE: f64 = 6.0;

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// Bytes of the longest token that is made by merges; any beyond it is damage, and costs the square of its length.
const LONGEST: usize = 1024;

/// Splits of LLaMA 3, and of Qwen2, which takes digits one by one.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.json` and `tokenizer_config.json` of a file.
pub(crate) fn tokenizer_files(file: &File) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let vocabulary = Vocabulary::read(file)?;
    let parts = match file.text("tokenizer.ggml.model")? {
        Some("gpt2") => byte_level(file, &vocabulary)?,
        Some("llama") => sentence_piece(file, &vocabulary)?,
        other => {
            let found = other.unwrap_or("nothing");
            return Err(problem(
                file,
                &format!("key `tokenizer.ggml.model` is {found}; expected gpt2 or llama"),
            ));
        }
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": vocabulary.frame(parts.begins),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let written = |json: &Value| serde_json::to_vec(json).map_err(|e| problem(file, &e.to_string()));
    let config = vocabulary.config(parts.begins, file.text("tokenizer.chat_template")?);
    Ok(vec![("tokenizer.json", written(&tokenizer)?), ("tokenizer_config.json", written(&config)?)])
}

/// What the two kinds of models say differently.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    /// Whether texts begin with BOS where the file does not say.
    begins: bool,
}

/// Tokens and what is special about them.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<f64>,
    bos: Option<usize>,
    eos: Option<usize>,
    pad: Option<usize>,
    unknown: Option<usize>,
    add_bos: Option<bool>,
    add_eos: bool,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a File) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let tokens = file
            .texts(key)?
            .filter(|tokens| !tokens.is_empty())
            .ok_or_else(|| problem(file, &format!("key `{key}` is missing: the file has no tokenizer")))?;
        let kinds = file.numbers("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1.0; tokens.len()]);
        if kinds.len() != tokens.len() {
            let (found, expected) = (kinds.len(), tokens.len());
            return Err(problem(file, &format!("{found} kinds of {expected} tokens; the file is damaged")));
        }
        let id = |name: &str| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match file.size(&key)? {
                Some(id) if id >= tokens.len() => {
                    let last = tokens.len() - 1;
                    Err(problem(file, &format!("key `{key}` is {id}; expected 0 to {last}")))
                }
                id => Ok(id),
            }
        };
        Ok(Vocabulary {
            bos: id("bos")?,
            eos: id("eos")?,
            pad: id("padding")?,
            unknown: id("unknown")?,
            add_bos: file.flag("tokenizer.ggml.add_bos_token")?,
            add_eos: file.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            tokens,
            kinds,
        })
    }

    fn ids(&self) -> Map<String, Value> {
        let entry = |(id, token): (usize, &&str)| ((*token).to_owned(), Value::from(id));
        self.tokens.iter().enumerate().map(entry).collect()
    }

    /// Tokens that are taken out of a text before it is split.
    fn added(&self) -> Vec<Value> {
        let kinds = self.kinds.iter().enumerate();
        kinds
            .filter(|&(_, kind)| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind))
            .filter(|&(id, _)| !self.tokens[id].is_empty())
            .map(|(id, &kind)| {
                json!({"id": id, "content": self.tokens[id], "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": kind != USER_DEFINED})
            })
            .collect()
    }

    /// What stands before and behind every text.
    fn frame(&self, begins: bool) -> Value {
        let first = self.bos.filter(|_| self.add_bos.unwrap_or(begins));
        let last = self.eos.filter(|_| self.add_eos);
        if first.is_none() && last.is_none() {
            return Value::Null;
        }
        let special =
            |&id: &usize, of: usize| json!({"SpecialToken": {"id": self.tokens[id], "type_id": of}});
        let around = |text: &str, of: usize| {
            let text = json!({"Sequence": {"id": text, "type_id": of}});
            let parts = first.iter().map(|id| special(id, of)).chain([text]);
            parts.chain(last.iter().map(|id| special(id, of))).collect::<Vec<_>>()
        };
        let known: Map<String, Value> = first
            .iter()
            .chain(&last)
            .map(|&id| {
                let token = self.tokens[id];
                (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}))
            })
            .collect();
        let (one, two) = (around("A", 0), [around("A", 0), around("B", 1)].concat());
        json!({"type": "TemplateProcessing", "single": one, "pair": two, "special_tokens": known})
    }

    fn config(&self, begins: bool, chat_template: Option<&str>) -> Value {
        let token = |id: Option<usize>| id.map(|id| self.tokens[id]);
        json!({
            "add_bos_token": self.add_bos.unwrap_or(begins) && self.bos.is_some(),
            "add_eos_token": self.add_eos,
            "bos_token": token(self.bos),
            "chat_template": chat_template,
            "clean_up_tokenization_spaces": false,
            "eos_token": token(self.eos),
            "pad_token": token(self.pad),
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": token(self.unknown),
        })
    }
}

/// BPE on bytes written as letters, with the merges of the file.
fn byte_level(file: &File, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let merges = file.texts("tokenizer.ggml.merges")?.ok_or_else(|| {
        problem(file, "key `tokenizer.ggml.merges` is missing: the tokenizer is incomplete")
    })?;
    let merges = merges.iter().map(|merge| match merge.split_once(' ') {
        Some((left, right)) => Ok([left, right]),
        None => Err(problem(file, &format!("merge `{merge}` is not two tokens; the file is damaged"))),
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    let named = file.text("tokenizer.ggml.pre")?.unwrap_or("default");
    // Files of Qwen2 from before splits were named.
    let qwen2 = named == "default" && file.text("general.architecture")? == Some("qwen2");
    let pre = if qwen2 { "qwen2" } else { named };
    let bytes = |splits: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits});
    let split = |regex: &str| {
        let by =
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [by, bytes(false)]})
    };
    let llama3 = ["llama-bpe", "llama-v3", "llama3"].contains(&pre);
    let pre_tokenizer = match pre {
        "default" | "gpt-2" => bytes(true),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]})
        }
        "qwen2" | "deepseek-r1-qwen" => split(QWEN2),
        _ if llama3 => split(LLAMA3),
        other => {
            return Err(problem(
                file,
                &format!(
                    "key `tokenizer.ggml.pre` is `{other}`, which is not supported; expected smollm, qwen2, llama-bpe \
                     or gpt-2. Use the model's Hugging Face folder instead"
                ),
            ));
        }
    };
    Ok(Parts {
        normalizer: if pre == "qwen2" { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer,
        decoder: bytes(true),
        model: json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": llama3,
            "vocab": vocabulary.ids(), "merges": merges}),
        begins: llama3,
    })
}

/// BPE of SentencePiece: unknown characters become bytes, and of two merges the one with the higher score comes first.
fn sentence_piece(file: &File, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let tokens = &vocabulary.tokens;
    let scores = file.numbers("tokenizer.ggml.scores")?;
    let scores = scores.filter(|scores| scores.len() == tokens.len() && scores.iter().all(|s| !s.is_nan()));
    let Some(scores) = scores else {
        return Err(problem(file, "key `tokenizer.ggml.scores`: expected a number for every token"));
    };
    let unknown = vocabulary.unknown.or_else(|| vocabulary.kinds.iter().position(|&kind| kind == UNKNOWN));
    let space = |prefix: bool| {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
        let prepend = prefix.then(|| json!({"type": "Prepend", "prepend": SPACE}));
        json!({"type": "Sequence", "normalizers": prepend.into_iter().chain([replace]).collect::<Vec<_>>()})
    };
    let prefix = file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let strip = json!({"type": "Strip", "content": " ", "start": usize::from(prefix), "stop": 0});
    Ok(Parts {
        normalizer: space(prefix),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, strip,
        ]}),
        model: json!({"type": "BPE", "dropout": null, "unk_token": unknown.map(|id| tokens[id]),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "vocab": vocabulary.ids(), "merges": merges_by_score(vocabulary, &scores)}),
        begins: true,
    })
}

/// All ways to make a token of two, best score first; of equal ones longer left parts first, then longer right ones, as
/// the converters of transformers sort them.
fn merges_by_score<'a>(vocabulary: &Vocabulary<'a>, scores: &[f64]) -> Vec<[&'a str; 2]> {
    let plain = |id: usize| {
        vocabulary.tokens[id].len() <= LONGEST && ![UNKNOWN, CONTROL, BYTE].contains(&vocabulary.kinds[id])
    };
    let tokens = || vocabulary.tokens.iter().enumerate().filter(|&(id, _)| plain(id));
    let ids: HashMap<&str, usize> = tokens().map(|(id, &token)| (token, id)).collect();
    let mut merges: Vec<(usize, usize, usize)> = Vec::new();
    for (id, token) in tokens() {
        let mut splits: Vec<(usize, usize)> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?)))
            .collect();
        splits.sort_unstable();
        merges.extend(splits.into_iter().map(|(left, right)| (id, left, right)));
    }
    let letters = |id: usize| vocabulary.tokens[id].chars().count();
    let order = |&(id, left, right): &(usize, usize, usize), other: &(usize, usize, usize)| {
        let score = scores[other.0].partial_cmp(&scores[id]).unwrap_or(Ordering::Equal);
        score
            .then_with(|| letters(other.1).cmp(&letters(left)))
            .then_with(|| letters(other.2).cmp(&letters(right)))
    };
    merges.sort_by(order);
    let token = |id: usize| vocabulary.tokens[id];
    merges.into_iter().map(|(_, left, right)| [token(left), token(right)]).collect()
}

fn problem(file: &File, problem: &str) -> Error {
    Error::file(file.path(), problem)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::gguf::write::Writer;
    use crate::hf::Tokenizer;

    const KINDS: [&str; 5] = ["gpt-2", "smollm", "qwen2", "llama-bpe", "llama"];

    fn golden(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf").join(name)
    }

    fn tokenizer(name: &str, max_len: usize) -> Tokenizer {
        let path = golden(&format!("{name}.gguf"));
        let files = tokenizer_files(&File::open(&path).unwrap()).unwrap();
        Tokenizer::from_files(&path, files, max_len).unwrap()
    }

    fn ids() -> HashMap<String, Value> {
        serde_json::from_slice(&std::fs::read(golden("ids.json")).unwrap()).unwrap()
    }

    fn texts() -> Vec<String> {
        serde_json::from_value(ids()["texts"].clone()).unwrap()
    }

    #[test]
    fn ids_are_those_of_the_library_that_trained() {
        for name in KINDS {
            let tokenizer = tokenizer(name, 512);
            let expected: Vec<Vec<u32>> = serde_json::from_value(ids()[name].clone()).unwrap();
            assert!(expected.len() > 20);
            for (text, mut expected) in texts().iter().zip(expected) {
                if expected.is_empty() {
                    expected.push(1); // BOS stands for a text without tokens
                }
                assert_eq!(tokenizer.encode_one(text).unwrap(), expected, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn texts_come_back_out_of_their_ids() {
        for name in KINDS {
            let tokenizer = tokenizer(name, 512);
            // Special tokens are left out of texts, and Qwen2 composes accents.
            for text in texts().iter().filter(|text| !text.contains("<|") && !text.contains('\u{301}')) {
                let ids = tokenizer.encode_one(text).unwrap();
                assert_eq!(&tokenizer.decode(&ids).unwrap(), text, "{name}");
            }
        }
    }

    #[test]
    fn a_saved_tokenizer_is_the_same() {
        for name in KINDS {
            let dir = tempfile::tempdir().unwrap();
            let tokenizer = tokenizer(name, 8);
            tokenizer.save(dir.path()).unwrap();
            let again = Tokenizer::open(dir.path(), 8).unwrap();
            for text in texts() {
                assert_eq!(again.encode_one(&text).unwrap(), tokenizer.encode_one(&text).unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn words_alone_have_no_special_tokens() {
        for name in KINDS {
            let tokenizer = tokenizer(name, 512);
            assert!(tokenizer.encode_words("").unwrap().is_empty());
            let (words, text) = (tokenizer.encode_words("the tide"), tokenizer.encode_one("the tide"));
            let (words, text) = (words.unwrap(), text.unwrap());
            let begins = ["llama", "llama-bpe"].contains(&name);
            assert_eq!(text, if begins { [vec![1], words].concat() } else { words }, "{name}");
        }
        let path = golden("llama.gguf");
        let files = tokenizer_files(&File::open(&path).unwrap()).unwrap();
        let error = Tokenizer::from_files(&path, files, 1).unwrap_err().to_string();
        assert!(
            error.contains("max_len 1 leaves no room for text: every text has 1 special tokens"),
            "{error}"
        );
    }

    #[test]
    fn names_of_special_tokens_are_words_like_others_if_asked() {
        let mut seen = 0;
        for name in KINDS {
            let (special, plain) = (tokenizer(name, 512), tokenizer(name, 512).plain());
            for content in ["<|end|>", "<tool>", "</s>"] {
                let text = format!("the tide {content}");
                if !special.names_special(&text) {
                    assert_eq!(special.encode_words(&text).unwrap(), plain.encode_words(&text).unwrap());
                    continue;
                }
                let control = special.encode_words(content).unwrap();
                assert_eq!(control.len(), 1, "{name} {content}");
                let ids = plain.encode_words(&text).unwrap();
                assert!(!ids.contains(&control[0]), "{name} {content}: {ids:?}");
                assert_eq!(plain.decode(&ids).unwrap(), text, "{name}");
                seen += 1;
            }
            assert_eq!(special.fingerprint(), plain.fingerprint());
        }
        assert!(seen >= KINDS.len() - 1, "{seen}");
        assert_ne!(tokenizer("llama", 512).fingerprint(), tokenizer("qwen2", 512).fingerprint());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let good = || {
            Writer::default()
                .text("tokenizer.ggml.model", "gpt2")
                .text("tokenizer.ggml.pre", "smollm")
                .texts("tokenizer.ggml.tokens", &["<e>", "a", "b", "ab"])
                .integers("tokenizer.ggml.token_type", &[3, 1, 1, 1])
                .texts("tokenizer.ggml.merges", &["a b"])
                .size("tokenizer.ggml.eos_token_id", 0)
        };
        let read = |writer: &Writer| {
            let file = tempfile::NamedTempFile::new().unwrap();
            writer.save(file.path());
            let files = tokenizer_files(&File::open(file.path()).unwrap())?;
            Tokenizer::from_files(file.path(), files, 8)
        };
        assert_eq!(read(&good()).unwrap().encode_one("ab").unwrap(), [3]);
        for (writer, expected) in [
            (
                good().text("tokenizer.ggml.model", "t5"),
                "key `tokenizer.ggml.model` is t5; expected gpt2 or llama",
            ),
            (
                good().text("tokenizer.ggml.pre", "viking"),
                "key `tokenizer.ggml.pre` is `viking`, which is not supported",
            ),
            (good().without("tokenizer.ggml.tokens"), "the file has no tokenizer"),
            (good().without("tokenizer.ggml.merges"), "key `tokenizer.ggml.merges` is missing"),
            (good().texts("tokenizer.ggml.merges", &["ab"]), "merge `ab` is not two tokens"),
            (good().texts("tokenizer.ggml.merges", &["a z"]), "not a tokenizer that can be read"),
            (good().integers("tokenizer.ggml.token_type", &[1]), "1 kinds of 4 tokens"),
            (
                good().size("tokenizer.ggml.eos_token_id", 4),
                "`tokenizer.ggml.eos_token_id` is 4; expected 0 to 3",
            ),
            (good().without("tokenizer.ggml.eos_token_id"), "an empty text would have no token"),
            (good().text("tokenizer.ggml.model", "llama"), "key `tokenizer.ggml.scores`: expected a number"),
        ] {
            let error = read(&writer).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

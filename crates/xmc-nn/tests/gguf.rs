//! Whole decoders out of GGUF files: a tiny one (`scripts/golden/gguf_tokenizers.py`), and SmolLM2 where `XMC_DECODER`
//! names it (`scripts/fetch-decoder`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use xmc_nn::decoder::{RopeLayout, Source};
use xmc_nn::hf::Tokenizer;
use xmc_nn::quant::Format;

/// Texts, and the ids that llama.cpp cuts them into with this file.
#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

fn source() -> Option<Source> {
    let Some(path) = std::env::var_os("XMC_DECODER").map(PathBuf::from) else {
        println!("skipped: XMC_DECODER is not set; scripts/fetch-decoder gets such a file");
        return None;
    };
    Some(Source::open(&path).unwrap())
}

#[test]
fn a_file_of_the_reference_writer_is_a_decoder_with_a_tokenizer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/decoder.gguf");
    let source = Source::open(&path).unwrap();
    let config = source.config();
    assert_eq!((config.vocab, config.hidden, config.layers, config.intermediate), (401, 32, 2, 64));
    assert_eq!((config.head_dim, config.bos, &config.eos[..]), (8, Some(1), &[0][..]));
    let down = source.matrix("model.layers.1.mlp.down_proj.weight", 32, 64).unwrap();
    let mut row = [0.0; 64];
    down.row(31, &mut row);
    let size = row.iter().map(|w| w * w).sum::<f32>();
    assert!(down.format() == Format::Q4_0 && (0.4..2.0).contains(&size), "{size}");
    assert_eq!(source.vector("model.norm.weight", 32).unwrap().unwrap(), [1.0; 32]);
    assert_eq!(source.chat_template().as_deref(), Some("{{ messages }}"));
    let tokenizer = source.tokenizer(16).unwrap();
    assert_eq!(tokenizer.vocabulary(), 401);
    let ids = tokenizer.encode_one("the tide").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the tide");
}

#[test]
fn smollm2_has_its_published_sizes() {
    let Some(source) = source() else { return };
    let config = source.config();
    assert_eq!((config.layers, config.hidden, config.heads, config.kv_heads), (30, 576, 9, 3));
    assert_eq!((config.intermediate, config.vocab, config.positions), (1536, 49_152, 8192));
    assert_eq!((config.rope_theta, config.rope), (100_000.0, RopeLayout::Pairs));
    assert_eq!((config.bos, &config.eos[..], config.pad), (Some(1), &[2][..], Some(2)));
    assert!(config.tied && !config.qkv_bias && !config.add_bos);
    let embeddings = source.matrix("model.embed_tokens.weight", 49_152, 576).unwrap();
    let queries = source.matrix("model.layers.29.self_attn.q_proj.weight", 576, 576).unwrap();
    assert_eq!((embeddings.format(), queries.format()), (Format::Q8_0, Format::Q4_1));
    assert!(source.chat_template().unwrap().contains("<|im_start|>"));
    assert_eq!(source.fingerprint().unwrap().len(), 32);
}

#[test]
fn smollm2_cuts_texts_as_llama_cpp_does() {
    let Some(source) = source() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/smollm2.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = source.tokenizer(512).unwrap();
    tokenizer.save(dir.path()).unwrap();
    for tokenizer in [tokenizer, Tokenizer::open(dir.path(), 512).unwrap()] {
        for (text, ids) in golden.texts.iter().zip(&golden.ids) {
            let expected: &[u32] = if ids.is_empty() { &[1] } else { ids };
            assert_eq!(tokenizer.encode_one(text).unwrap(), expected, "{text:?}");
        }
    }
}

//! A decoder comes out of both kinds of files as it went in, and what is not one is refused by name.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::decoder::{RopeLayout, RopeScaling};
use crate::gguf::write::Writer;
use crate::params::Layout;

/// Metadata and tensors of a decoder that is small in everything; tensor i has the numbers i, i + 1/64, ...
pub(super) fn tiny(architecture: &str) -> Writer {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut writer = Writer::default()
        .text("general.architecture", architecture)
        .size(&key("embedding_length"), 8)
        .size(&key("block_count"), 2)
        .size(&key("attention.head_count"), 4)
        .size(&key("attention.head_count_kv"), 2)
        .size(&key("feed_forward_length"), 12)
        .size(&key("context_length"), 64)
        .number(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .number(&key("rope.freq_base"), 5000.0);
    for (i, (name, [rows, cols])) in names::needed(&config(architecture == "qwen2")).iter().enumerate() {
        let values: Vec<f32> = (0..rows * cols).map(|j| i as f32 + j as f32 / 64.0).collect();
        let shape = [*rows, *cols];
        let shape = if *rows == 1 { &shape[1..] } else { &shape[..] };
        writer = writer.floats(&names::gguf_name(name).unwrap(), shape, &values);
    }
    writer
}

fn config(qkv_bias: bool) -> Config {
    Config {
        vocab: 16,
        hidden: 8,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 2,
        intermediate: 12,
        positions: 64,
        rope_theta: 5000.0,
        rope: if qkv_bias { RopeLayout::Halves } else { RopeLayout::Pairs },
        rope_scaling: None,
        norm_eps: 1e-5,
        qkv_bias,
        tied: true,
        bos: None,
        eos: vec![],
        pad: None,
        add_bos: false,
    }
}

fn save(writer: &Writer) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    writer.save(&path);
    (dir, path)
}

#[test]
fn a_gguf_file_is_opened_by_names_of_hugging_face() {
    for architecture in ["llama", "qwen2"] {
        let (_dir, path) = save(&tiny(architecture));
        let source = Source::open(&path).unwrap();
        assert_eq!(source.config(), &config(architecture == "qwen2"));
        for (i, (name, [rows, cols])) in names::needed(source.config()).into_iter().enumerate() {
            let mut last = vec![0.0; cols];
            source.matrix(&name, rows, cols).unwrap().row(rows - 1, &mut last);
            assert_eq!(last[cols - 1], i as f32 + (rows * cols - 1) as f32 / 64.0, "{name}");
        }
        let bias = source.vector("model.layers.1.self_attn.k_proj.bias", 4).unwrap();
        assert_eq!(bias.is_some(), architecture == "qwen2");
        assert!(source.tokenizer(8).unwrap_err().to_string().contains("has no tokenizer"));
    }
}

#[test]
fn metadata_says_what_is_special() {
    let llama = tiny("llama")
        .floats("output.weight", &[16, 8], &[0.5; 128])
        .floats("rope_freqs.weight", &[1], &[8.0])
        .size("tokenizer.ggml.bos_token_id", 3)
        .size("tokenizer.ggml.eos_token_id", 4)
        .size("tokenizer.ggml.eot_token_id", 5)
        .size("llama.attention.sliding_window", 32);
    let (_dir, path) = save(&llama);
    let config = Source::open(&path).unwrap().config;
    assert!(!config.tied);
    assert_eq!(config.rope_scaling, Some(RopeScaling::Factors(vec![8.0])));
    assert_eq!((config.bos, &config.eos[..], config.positions), (Some(3), &[4, 5][..], 32));

    let linear =
        tiny("qwen2").text("qwen2.rope.scaling.type", "linear").number("qwen2.rope.scaling.factor", 4.0);
    let (_dir, path) = save(&linear);
    assert_eq!(Source::open(&path).unwrap().config.rope_scaling, Some(RopeScaling::Linear(4.0)));

    let (_dir, path) = save(&linear.floats("rope_freqs.weight", &[1], &[8.0]));
    assert_eq!(Source::open(&path).unwrap().config.rope_scaling, Some(RopeScaling::Factors(vec![32.0])));
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let q4k = |writer: Writer, kind| writer.raw_tensor("blk.1.ffn_up.weight", &[12, 8], kind, &[0; 2048]);
    for (writer, expected) in [
        (tiny("gemma"), "general.architecture `gemma` is not supported; expected llama or qwen2"),
        (tiny("llama").without("general.architecture"), "general.architecture `` is not supported"),
        (tiny("llama").without("llama.block_count"), "key `llama.block_count` is missing"),
        (
            tiny("llama").text("llama.block_count", "two"),
            "key `llama.block_count` is a text; expected a whole",
        ),
        (tiny("llama").size("llama.block_count", 3), "has no tensor `blk.2.attn_norm.weight`"),
        (tiny("llama").size("llama.block_count", u32::MAX), "number of layers is 4294967295"),
        (tiny("llama").size("llama.embedding_length", 16), "the metadata asks for [16, 16]"),
        (tiny("llama").size("llama.expert_count", 8), "a mixture of 8 experts is not supported"),
        (tiny("llama").size("llama.rope.dimension_count", 1), "1 turned by positions"),
        (
            tiny("llama").floats("rope_freqs.weight", &[1], &[8.0]).raw(
                "llama.attention.key_length",
                10,
                &(1u64 << 62).to_le_bytes(),
            ),
            "tensor `rope_freqs.weight`: found the shape [1], expected [1, 2305843009213693952]",
        ),
        (
            tiny("llama").text("llama.rope.scaling.type", "yarn"),
            "llama.rope.scaling.type `yarn` is not supported",
        ),
        (tiny("llama").number("llama.rope.freq_base", -1.0), "rope theta is -1; expected a positive number"),
        (tiny("llama").without("token_embd.weight"), "has no tensor `token_embd.weight`"),
        (
            tiny("llama").floats("blk.0.attn_output.bias", &[8], &[0.0; 8]),
            "tensor `blk.0.attn_output.bias` has no place",
        ),
        (
            q4k(tiny("llama"), 13),
            "tensor `blk.1.ffn_up.weight` is stored as Q5_K, which is not supported; expected F32",
        ),
        (q4k(tiny("llama"), 1234), "is stored as type 1234"),
        (q4k(tiny("llama"), 12), "tensor `blk.1.ffn_up.weight`: the shape [12, 8] cannot be stored as Q4_K"),
        (
            tiny("llama").size("tokenizer.ggml.eos_token_id", 99),
            "special token 99 is beyond the vocabulary of 16",
        ),
    ] {
        let (_dir, path) = save(&writer);
        let error = Source::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("tiny.gguf"), "{error}");
    }
    let (_dir, path) = save(&tiny("llama").floats("output_norm.weight", &[8], &[f32::NAN; 8]));
    let error = Source::open(&path).unwrap().vector("model.norm.weight", 8).unwrap_err().to_string();
    assert!(error.contains("tensor `output_norm.weight`"), "{error}");
}

/// A folder as transformers writes it.
fn folder(model_type: &str, prefix: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let json = json!({
        "model_type": model_type, "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12, "rope_theta": 5000.0,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": 2,
    });
    std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
    let mut layout = Layout::default();
    for (name, [rows, cols]) in names::needed(&config(model_type == "qwen2")) {
        let shape = [rows, cols];
        let name = name.strip_prefix("model.").unwrap();
        layout.push(format!("{prefix}{name}"), if rows == 1 { &shape[1..] } else { &shape[..] });
    }
    let values: Vec<f32> = (0..layout.len()).map(|i| i as f32 / 64.0).collect();
    crate::hf::weights::write_safetensors(dir.path(), &layout, &values).unwrap();
    dir
}

#[test]
fn a_folder_is_opened_with_and_without_a_head() {
    for (model_type, prefix) in [("llama", "model."), ("qwen2", "model."), ("mistral", "")] {
        let dir = folder(model_type, prefix);
        std::fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [2, 3]}"#).unwrap();
        let source = Source::open(dir.path()).unwrap();
        let expected = Config { rope: RopeLayout::Halves, eos: vec![2, 3], ..config(model_type == "qwen2") };
        assert_eq!(source.config(), &expected);
        let embeddings = source.matrix("model.embed_tokens.weight", 16, 8).unwrap();
        let mut row = [0.0; 8];
        embeddings.row(1, &mut row);
        assert_eq!((embeddings.format(), row[0]), (Format::F32, 8.0 / 64.0));
        assert_eq!(source.vector("model.norm.weight", 8).unwrap().unwrap().len(), 8);
        assert_eq!(source.vector("lm_head.bias", 8).unwrap(), None);
        assert!(
            source.matrix("model.norm.weight", 1, 9).unwrap_err().to_string().contains("expected [1, 9]")
        );
    }
}

#[test]
fn a_folder_that_lacks_something_says_what() {
    let dir = folder("llama", "model.");
    let config = dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (old, new, expected) in [
        (
            "\"tie_word_embeddings\":true",
            "\"tie_word_embeddings\":false",
            "`lm_head.weight`; is `tie_word_embeddings` missing",
        ),
        (
            "\"model_type\":\"llama\"",
            "\"model_type\":\"qwen2\"",
            "has no tensor `model.layers.0.self_attn.q_proj.bias`",
        ),
        (
            "\"num_hidden_layers\":2",
            "\"num_hidden_layers\":3",
            "has no tensor `model.layers.2.input_layernorm.weight`",
        ),
        ("\"intermediate_size\":12", "\"intermediate_size\":13", "has shape [12, 8], expected [13, 8]"),
    ] {
        assert!(text.contains(old), "{text}");
        std::fs::write(&config, text.replace(old, new)).unwrap();
        let error = Source::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_fingerprint_is_of_the_content() {
    let (dir, path) = save(&tiny("llama"));
    let copy = dir.path().join("copy.gguf");
    std::fs::copy(&path, &copy).unwrap();
    let print = |path: &Path| Source::open(path).unwrap().fingerprint().unwrap();
    assert_eq!(print(&path), print(&copy));
    let (_dir, other) = save(&tiny("llama").floats("output_norm.weight", &[8], &[9.0; 8]));
    assert_ne!(print(&path), print(&other));
}

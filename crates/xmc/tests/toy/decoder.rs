//! A decoder for tests of methods that begin with one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use xmc::nn::Layout;
use xmc::nn::hf::weights::write_safetensors;

use crate::toy::encoder::write_tokenizer;
use crate::toy::words;

/// A decoder with two layers that has learned nothing, as a folder, with the same tokenizer.
pub(crate) fn decoder(dir: &Path) -> PathBuf {
    const H: usize = 32;
    let decoder = dir.join("decoder");
    fs::create_dir_all(&decoder).unwrap();
    write_tokenizer(&decoder, &words());
    let config = json!({
        "model_type": "llama", "hidden_size": H, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 1000.0, "tie_word_embeddings": true, "vocab_size": words().len(), "hidden_act": "silu",
        "bos_token_id": 2, "eos_token_id": 3,
    });
    fs::write(decoder.join("config.json"), config.to_string()).unwrap();
    let mut layout = Layout::default();
    layout.push("model.embed_tokens.weight", &[words().len(), H]);
    for layer in 0..2 {
        for (name, rows, cols) in [
            ("self_attn.q_proj", H, H),
            ("self_attn.k_proj", H / 2, H),
            ("self_attn.v_proj", H / 2, H),
            ("self_attn.o_proj", H, H),
            ("mlp.gate_proj", 64, H),
            ("mlp.up_proj", 64, H),
            ("mlp.down_proj", H, 64),
        ] {
            layout.push(format!("model.layers.{layer}.{name}.weight"), &[rows, cols]);
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            layout.push(format!("model.layers.{layer}.{name}.weight"), &[H]);
        }
    }
    layout.push("model.norm.weight", &[H]);
    let mut values = vec![1.0; layout.len()];
    let mut state = 1u64;
    for param in layout.params().iter().filter(|param| param.shape.len() > 1) {
        let deviation = (3.0 / param.shape[1] as f32).sqrt();
        for value in &mut values[param.range.clone()] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *value = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * deviation;
        }
    }
    write_safetensors(&decoder, &layout, &values).unwrap();
    decoder
}

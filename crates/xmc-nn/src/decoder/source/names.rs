//! What are the weights of a decoder called, in folders of Hugging Face and in GGUF files, and which shapes have they?

use crate::decoder::Config;

/// A part of a layer: its name in Hugging Face, in GGUF.
const PARTS: [(&str, &str); 12] = [
    ("input_layernorm.weight", "attn_norm.weight"),
    ("self_attn.q_proj.weight", "attn_q.weight"),
    ("self_attn.k_proj.weight", "attn_k.weight"),
    ("self_attn.v_proj.weight", "attn_v.weight"),
    ("self_attn.q_proj.bias", "attn_q.bias"),
    ("self_attn.k_proj.bias", "attn_k.bias"),
    ("self_attn.v_proj.bias", "attn_v.bias"),
    ("self_attn.o_proj.weight", "attn_output.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.down_proj.weight", "ffn_down.weight"),
];

/// What lies outside the layers.
const OUTER: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

/// The name in a GGUF file of a tensor of Hugging Face.
pub(super) fn gguf_name(name: &str) -> Option<String> {
    if let Some((_, outer)) = OUTER.iter().find(|(outer, _)| *outer == name) {
        return Some((*outer).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (_, part) = PARTS.iter().find(|(hf, _)| *hf == part)?;
    Some(format!("blk.{layer}.{part}"))
}

/// True for a tensor of a layer that a decoder of these families does not have: computing without it would be wrong.
pub(super) fn is_foreign(name: &str) -> bool {
    let hf = name.strip_prefix("model.layers.").or_else(|| name.strip_prefix("layers."));
    let Some((_, part)) = hf.or_else(|| name.strip_prefix("blk.")).and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    // Old files hold the rotary frequencies, which are computed.
    let computed = ["self_attn.rotary_emb.inv_freq", "attn_rot_embd"].contains(&part);
    !computed && !PARTS.iter().any(|&(hf, gguf)| part == hf || part == gguf)
}

/// Every tensor that a decoder needs, with rows and columns; vectors have one row.
pub(super) fn needed(config: &Config) -> Vec<(String, [usize; 2])> {
    let (h, inner) = (config.hidden, config.intermediate);
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let mut all = vec![("model.embed_tokens.weight".to_owned(), [config.vocab, h])];
    for layer in 0..config.layers {
        for (part, _) in PARTS {
            let shape = match part {
                "self_attn.q_proj.weight" => [q, h],
                "self_attn.k_proj.weight" | "self_attn.v_proj.weight" => [kv, h],
                "self_attn.o_proj.weight" => [h, q],
                "mlp.gate_proj.weight" | "mlp.up_proj.weight" => [inner, h],
                "mlp.down_proj.weight" => [h, inner],
                "self_attn.q_proj.bias" => [1, q],
                "self_attn.k_proj.bias" | "self_attn.v_proj.bias" => [1, kv],
                _ => [1, h],
            };
            if config.qkv_bias || !part.ends_with("bias") {
                all.push((format!("model.layers.{layer}.{part}"), shape));
            }
        }
    }
    all.push(("model.norm.weight".to_owned(), [1, h]));
    if !config.tied {
        all.push(("lm_head.weight".to_owned(), [config.vocab, h]));
    }
    all
}

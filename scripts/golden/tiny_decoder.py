#!/usr/bin/env python3
"""Writes the folder of a tiny LLaMA with random weights and a tokenizer of words, for models that lie in the repository.

Usage: scripts/golden/tiny_decoder.py DIR   (needs numpy and safetensors)
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 16, 2, 4, 32, 32
WORDS = "whale coral tide glacier summit oven butter recipe violin chord rhythm sea life nature mountains cooking music".split()

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
pieces = ["<unk>", "<s>", "</s>", "and", "in", "below", *"12345", *WORDS]
tokenizer = {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None, "decoder": None,
    "added_tokens": [
        {"id": i, "content": pieces[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for i in range(3)
    ],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {piece: i for i, piece in enumerate(pieces)}, "unk_token": "<unk>"},
}
(out / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")
(out / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}\n')
config = {
    "model_type": "llama", "vocab_size": len(pieces), "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": HEADS // 2, "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS, "rms_norm_eps": 1e-5, "rope_theta": 1000.0, "hidden_act": "silu",
    "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
}
(out / "config.json").write_text(json.dumps(config, indent=2) + "\n")

random = np.random.default_rng(7)


def matrix(rows, cols):
    return random.normal(0, cols**-0.5, (rows, cols)).astype(np.float32)


norm = np.ones(WIDTH, np.float32)
weights = {"model.embed_tokens.weight": matrix(len(pieces), WIDTH), "model.norm.weight": norm}
for i in range(LAYERS):
    layer = f"model.layers.{i}"
    for name, rows, cols in [
        ("self_attn.q_proj", WIDTH, WIDTH), ("self_attn.k_proj", WIDTH // 2, WIDTH),
        ("self_attn.v_proj", WIDTH // 2, WIDTH), ("self_attn.o_proj", WIDTH, WIDTH),
        ("mlp.gate_proj", INNER, WIDTH), ("mlp.up_proj", INNER, WIDTH), ("mlp.down_proj", WIDTH, INNER),
    ]:
        weights[f"{layer}.{name}.weight"] = matrix(rows, cols)
    for name in ["input_layernorm", "post_attention_layernorm"]:
        weights[f"{layer}.{name}.weight"] = norm.copy()
save_file(weights, out / "model.safetensors")

#!/usr/bin/env python3
"""Writes the folder of a tiny BERT with random weights and its word pieces, for models that lie in the repository.

Usage: scripts/golden/tiny_encoder.py DIR   (needs numpy and safetensors)
"""

import json
import string
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 8, 1, 2, 16, 16
WORDS = "whale coral tide glacier summit oven butter recipe violin chord rhythm sea life mountains".split()

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *string.digits]
pieces += [f"##{c}" for c in string.ascii_lowercase + string.digits] + WORDS
(out / "vocab.txt").write_text("\n".join(pieces) + "\n")
(out / "tokenizer_config.json").write_text('{"do_lower_case": true}\n')
config = {
    "model_type": "bert", "vocab_size": len(pieces), "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "intermediate_size": INNER, "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}
(out / "config.json").write_text(json.dumps(config, indent=2) + "\n")

random = np.random.default_rng(7)
weights = {}


def matrix(name, *shape):
    weights[name] = random.normal(0, 0.3, shape).astype(np.float32)


def linear(name, rows, cols):
    matrix(f"{name}.weight", rows, cols)
    matrix(f"{name}.bias", rows)


def norm(name):
    weights[f"{name}.weight"] = np.ones(WIDTH, np.float32)
    weights[f"{name}.bias"] = np.zeros(WIDTH, np.float32)


for name, rows in [("word", len(pieces)), ("position", POSITIONS), ("token_type", 2)]:
    matrix(f"embeddings.{name}_embeddings.weight", rows, WIDTH)
norm("embeddings.LayerNorm")
for i in range(LAYERS):
    layer = f"encoder.layer.{i}"
    for name in ["self.query", "self.key", "self.value", "output.dense"]:
        linear(f"{layer}.attention.{name}", WIDTH, WIDTH)
    norm(f"{layer}.attention.output.LayerNorm")
    linear(f"{layer}.intermediate.dense", INNER, WIDTH)
    linear(f"{layer}.output.dense", WIDTH, INNER)
    norm(f"{layer}.output.LayerNorm")
save_file(weights, out / "model.safetensors")

#!/usr/bin/env python3
"""Golden files for crates/xmc-nn/tests/decoders.rs: tiny random decoders as transformers computes them.

    python scripts/golden/decoders.py          # writes crates/xmc-nn/tests/golden/decoders/{llama,qwen2}/

Needs torch and transformers (made with 2.15 and 5.23). A folder has config.json and model.safetensors as transformers
saves them, and golden.json: hidden states and logits of two texts, and, with three rows in front of both, the embeddings
of length 1 (last token) and the gradient of sum(embeddings * cos(1.7 i)) for these rows.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

GOLDEN = Path(__file__).parents[2] / "crates/xmc-nn/tests/golden/decoders"
TEXTS = [[3, 17, 5, 29, 11, 2, 38], [8, 1]]
SIZES = dict(
    vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3, attn_implementation="eager",
)


def last(model, inputs):
    """Hidden state of the last token, behind the last norm."""
    return model.model(inputs_embeds=inputs[None], use_cache=False).last_hidden_state[0, -1]


def golden(model):
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or "bias" in name:
                value.add_(torch.randn_like(value) * 0.2)
    hidden, logits = [], []
    for text in TEXTS:
        out = model(torch.tensor([text]), output_hidden_states=True, use_cache=False)
        hidden += out.hidden_states[-1][0].flatten().tolist()
        logits += out.logits[0].flatten().tolist()
    prompt = torch.randn(3, 16, requires_grad=True)
    table = model.get_input_embeddings().weight.detach()
    rows = torch.stack([last(model, torch.cat([prompt, table[torch.tensor(text)]])) for text in TEXTS])
    embeddings = torch.nn.functional.normalize(rows, dim=-1)
    outer = torch.cos(1.7 * torch.arange(embeddings.numel())).view_as(embeddings)
    (gradient,) = torch.autograd.grad((embeddings * outer).sum(), prompt)
    return dict(
        texts=TEXTS, hidden=hidden, logits=logits, prompt=prompt.flatten().tolist(),
        embeddings=embeddings.flatten().tolist(), gradient=gradient.flatten().tolist(),
    )


def main():
    torch.manual_seed(5)
    llama = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True, rope_theta=500.0))
    qwen2 = Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False))
    for name, model in [("llama", llama), ("qwen2", qwen2)]:
        folder = GOLDEN / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        values = golden(model.eval())
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "golden.json").write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()

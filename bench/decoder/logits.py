#!/usr/bin/env python3
"""Are the logits of xmc those of the dequantised weights in f32? An independent forward pass with numpy.

    cargo build --release -p xmc-nn --example decoder
    bench/decoder/logits.py FILE.gguf [--tokens 48]

Needs numpy and the package gguf, which unpacks the weights. Writes texts of token ids, computes their logits with both and
prints, for f32 and bf16 products, the distance relative to the length of the logits, how often the largest is the same,
and the greedy continuation of the first text by both, the second by steps with 8-bit activations.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = [504, 3575, 282, 4649, 314]  # "The capital of France is" for SmolLM2


class Model:
    """LLaMA as GGUF files have it: rotary positions turn pairs 2i, 2i + 1."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.weights = {
            t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors
        }
        key = lambda name: reader.fields[name].contents()
        self.layers, self.heads = key("llama.block_count"), key("llama.attention.head_count")
        self.kv_heads, self.theta = key("llama.attention.head_count_kv"), key("llama.rope.freq_base")
        self.eps = key("llama.attention.layer_norm_rms_epsilon")

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name]

    def turn(self, x):
        t, _, d = x.shape
        angles = np.arange(t)[:, None] * self.theta ** (-np.arange(0, d, 2) / d)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        out = np.empty_like(x)
        out[..., ::2] = x[..., ::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 1::2] * cos + x[..., ::2] * sin
        return out

    def logits(self, ids):
        w, t = self.weights, len(ids)
        x = w["token_embd.weight"][ids]
        for layer in range(self.layers):
            part = lambda name: w[f"blk.{layer}.{name}.weight"]
            n = self.norm(x, f"blk.{layer}.attn_norm.weight")
            q = self.turn((n @ part("attn_q").T).reshape(t, self.heads, -1))
            k = self.turn((n @ part("attn_k").T).reshape(t, self.kv_heads, -1))
            v = (n @ part("attn_v").T).reshape(t, self.kv_heads, -1)
            k, v = (np.repeat(z, self.heads // self.kv_heads, 1) for z in (k, v))
            scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
            scores = np.where(np.tri(t, dtype=bool), scores, -np.inf)
            p = np.exp(scores - scores.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            x = x + np.einsum("hij,jhd->ihd", p, v).reshape(t, -1) @ part("attn_output").T
            n = self.norm(x, f"blk.{layer}.ffn_norm.weight")
            gate = n @ part("ffn_gate").T
            x = x + (gate / (1 + np.exp(-gate)) * (n @ part("ffn_up").T)) @ part("ffn_down").T
        return self.norm(x, "output_norm.weight") @ w.get("output.weight", w["token_embd.weight"]).T


def ours(verb, path, ids, folder, *options):
    lines = folder / "ids.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text in ids))
    program = ROOT / "target/release/examples/decoder"
    command = [program, verb, path, "--ids", lines, *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    model = Model(arguments.file)
    random = np.random.default_rng(1)
    texts = [TEXT] + [random.integers(10, 20000, arguments.tokens).tolist() for _ in range(3)]
    want = [model.logits(text) for text in texts]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for precision in ("f32", "bf16"):
            out = folder / "logits"
            ours("logits", arguments.file, texts, folder, "--out", out, "--precision", precision)
            found = np.fromfile(out, np.float32).reshape(-1, want[0].shape[1])
            all_want = np.concatenate(want)
            far = np.linalg.norm(found - all_want, axis=1) / np.linalg.norm(all_want, axis=1)
            same = (found.argmax(1) == all_want.argmax(1)).mean()
            print(f"{precision}: relative distance mean {far.mean():.2e} largest {far.max():.2e}, same largest {same:.3f}")
        text = list(TEXT)
        margins = []
        for _ in range(24):
            last = model.logits(text)[-1]
            margins.append(np.diff(np.sort(last)[-2:])[0])
            text.append(int(last.argmax()))
        print("f32  ", text[len(TEXT) :], "smallest margin", round(float(min(margins)), 3))
        found = ours("generate", arguments.file, [TEXT], folder, "--new", "24")["found"][0]["ids"]
        print("bytes", found)


if __name__ == "__main__":
    main()

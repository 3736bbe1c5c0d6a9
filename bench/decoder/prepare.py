#!/usr/bin/env python3
"""Makes what all sides of a comparison read: the weights of a GGUF file unpacked, and texts as token ids.

    prepare.py FILE.gguf DATA OUT [--texts 1000] [--max-len 64]

transformers itself unpacks the weights (bf16, OUT/model; needs gguf and accelerate) and rebuilds the tokenizer. DATA is a dataset folder with raw/
and Y.trn.npz; of its texts, evenly spread, OUT/texts.jsonl has the first tokens, OUT/labels.jsonl those of a label of each,
and OUT/prompts.jsonl what a model is to continue.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = 16
PROMPT_TOKENS = 32


def csr(path):
    found = np.load(path)
    return found["indptr"], found["indices"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--max-len", type=int, default=64)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(args.file.parent, gguf_file=args.file.name, dtype=torch.float32)
    # The model counts as quantised and is not saved as it is, though its weights are plain.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(args.out / "model")
    tokenizer = AutoTokenizer.from_pretrained(args.file.parent, gguf_file=args.file.name)

    texts = (args.data / "raw/trn_X.txt").read_text().split("\n")
    labels = (args.data / "raw/Y.txt").read_text().split("\n")
    starts, indices = csr(args.data / "Y.trn.npz")
    known = np.flatnonzero(np.diff(starts))
    chosen = known[:: max(1, len(known) // args.texts)][: args.texts]

    def cut(text, longest):
        return tokenizer(text, add_special_tokens=False)["input_ids"][:longest]

    write(args.out / "texts.jsonl", [cut(texts[i], args.max_len) for i in chosen])
    write(args.out / "labels.jsonl", [cut(labels[indices[starts[i]]], args.max_len) for i in chosen])
    long = [ids for ids in (cut(texts[i], PROMPT_TOKENS) for i in chosen) if len(ids) == PROMPT_TOKENS]
    write(args.out / "prompts.jsonl", long[:PROMPTS])


if __name__ == "__main__":
    main()

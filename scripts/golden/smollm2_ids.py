#!/usr/bin/env python3
"""Writes smollm2.json: the texts of ids.json, and the ids that llama.cpp cuts them into with the file of SmolLM2.

Usage: scripts/golden/smollm2_ids.py DIR SMOLLM2.gguf   (needs llama-cpp-python; DIR as for gguf_tokenizers.py)
"""

import json
import sys
from pathlib import Path

from llama_cpp import Llama

folder = Path(sys.argv[1])
texts = json.loads((folder / "ids.json").read_text())["texts"]
texts = [text.replace("<|start|>", "<|im_start|>").replace("<|end|>", "<|im_end|>") for text in texts]
model = Llama(sys.argv[2], vocab_only=True, verbose=False)
ids = [model.tokenize(text.encode(), add_bos=False, special=True) for text in texts]
(folder / "smollm2.json").write_text(json.dumps({"texts": texts, "ids": ids}, ensure_ascii=False) + "\n")

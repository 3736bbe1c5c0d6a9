#!/usr/bin/env python3
"""Writes small GGUF files of which each holds one kind of tokenizer, and the ids that their makers cut texts into; and
decoder.gguf, a tiny LLaMA with random weights in Q8_0 and Q4_0 and one of the tokenizers.

Usage: scripts/golden/gguf_tokenizers.py DIR   (needs gguf, numpy, sentencepiece and tokenizers)

Byte-level BPE is trained here by the library tokenizers, with the splits that the published models have in their
tokenizer.json; the BPE of SentencePiece by sentencepiece, with the settings of LLaMA. Neither knows of the GGUF file.
"""

import io
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")

TEXTS = [
    "", " ", "Hello, world!", "  two  spaces   and\ttabs\n\nnew lines \n",
    "The year 2024 had 366 days; 3.14159 and 1,000,000.", "größer Ärger naïve café — “quotes” … €100",
    "日本語のテキストと漢字", "Привет, мир! Как дела?", "def f(x):\n    return x**2 + 1  # comment\n",
    "emoji 👩‍👩‍👧 🇩🇪 and e\u0301 vs \u00e9", "<|start|>user\nWhat is 12+34?<|end|> and <tool>", "don't can't WE'LL I'VE they'd",
    "half ½ Ⅷ ² ٣٤ १२", "nbsp\u00a0zero\u200bwide\u3000end", "a" * 50, "CamelCase_with_snake-and-kebab",
    "\u0001control", "ﬁ ligature ＦＵＬＬ", "한국어 텍스트", "x=1;y=2;//z\r\nnext\r\n\r\n", "trailing   ", "   leading",
]
TRAINING = [text for text in TEXTS if "<|" not in text] * 3 + [
    "the tide and the glacier and the world of the year", "text texts context lines line tabs days", "return user comment",
] * 4
SPECIAL = ["<|end|>", "<|start|>"]


def byte_level(splits):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splits)


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte_level(False)])


# name of the splits: (pre-tokenizer, normalizer, ignore merges, begins with BOS)
BYTE_LEVEL = {
    "gpt-2": (byte_level(True), None, False, False),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]), None, False, False),
    "qwen2": (split(QWEN2), normalizers.NFC(), False, False),
    "llama-bpe": (split(LLAMA3), None, True, True),
}


def train(pre_tokenizer, normalizer, ignore_merges, begins):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|start|> $A", pair="<|start|> $A <|start|> $B", special_tokens=[("<|start|>", 1)])
    return tokenizer


def writer(path, architecture, model, pre):
    file = gguf.GGUFWriter(path, architecture)
    file.add_tokenizer_model(model)
    file.add_tokenizer_pre(pre)
    return file


def finish(file):
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def add_decoder(file, vocabulary, hidden=32, layers=2, heads=4, kv_heads=2, inner=64):
    """Sizes and random weights, scaled so that a signal neither vanishes nor explodes."""
    random = np.random.default_rng(5)
    file.add_embedding_length(hidden)
    file.add_block_count(layers)
    file.add_head_count(heads)
    file.add_head_count_kv(kv_heads)
    file.add_feed_forward_length(inner)
    file.add_context_length(128)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_freq_base(10_000.0)
    file.add_rope_dimension_count(hidden // heads)

    def matrix(name, rows, cols, kind=gguf.GGMLQuantizationType.Q4_0):
        weights = random.normal(0, cols ** -0.5, (rows, cols)).astype(np.float32)
        file.add_tensor(f"{name}.weight", gguf.quants.quantize(weights, kind), raw_dtype=kind)

    def norm(name):
        file.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))

    matrix("token_embd", vocabulary, hidden, gguf.GGMLQuantizationType.Q8_0)
    for i in range(layers):
        norm(f"blk.{i}.attn_norm")
        matrix(f"blk.{i}.attn_q", hidden, hidden)
        matrix(f"blk.{i}.attn_k", hidden * kv_heads // heads, hidden)
        matrix(f"blk.{i}.attn_v", hidden * kv_heads // heads, hidden)
        matrix(f"blk.{i}.attn_output", hidden, hidden)
        norm(f"blk.{i}.ffn_norm")
        matrix(f"blk.{i}.ffn_gate", inner, hidden)
        matrix(f"blk.{i}.ffn_up", inner, hidden)
        matrix(f"blk.{i}.ffn_down", hidden, inner)
    norm("output_norm")


def write_byte_level(folder, name, decoder=False):
    tokenizer = train(*BYTE_LEVEL[name])
    state = json.loads(tokenizer.to_str())
    vocabulary = sorted(tokenizer.get_vocab(True).items(), key=lambda entry: entry[1])
    assert [id for _, id in vocabulary] == list(range(len(vocabulary)))
    path = folder / ("decoder.gguf" if decoder else f"{name}.gguf")
    file = writer(path, "qwen2" if name == "qwen2" else "llama", "gpt2", name)
    file.add_token_list([token for token, _ in vocabulary])
    kinds = {**dict.fromkeys(SPECIAL, gguf.TokenType.CONTROL), "<tool>": gguf.TokenType.USER_DEFINED}
    file.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token, _ in vocabulary])
    file.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    file.add_eos_token_id(0)
    file.add_bos_token_id(1)
    # LLaMA 3 begins with BOS where the file does not say.
    if name != "llama-bpe":
        file.add_add_bos_token(False)
    file.add_chat_template("{{ messages }}")
    if decoder:
        add_decoder(file, len(vocabulary))
    finish(file)
    return [tokenizer.encode(text).ids for text in TEXTS]


def write_sentence_piece(folder):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING), model_writer=model, model_type="bpe", vocab_size=480, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    file = writer(folder / "llama.gguf", "llama", "llama", "default")
    ids = range(pieces.get_piece_size())
    kinds = [
        gguf.TokenType.UNKNOWN if pieces.is_unknown(id) else gguf.TokenType.CONTROL if pieces.is_control(id)
        else gguf.TokenType.BYTE if pieces.is_byte(id) else gguf.TokenType.NORMAL for id in ids
    ]
    file.add_token_list([pieces.id_to_piece(id) for id in ids])
    file.add_token_scores([pieces.get_score(id) for id in ids])
    file.add_token_types(kinds)
    file.add_bos_token_id(pieces.bos_id())
    file.add_eos_token_id(pieces.eos_id())
    file.add_unk_token_id(pieces.unk_id())
    finish(file)
    return [[pieces.bos_id(), *pieces.encode(text)] for text in TEXTS]


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    golden = {"texts": TEXTS}
    for name in BYTE_LEVEL:
        golden[name] = write_byte_level(folder, name)
    write_byte_level(folder, "smollm", decoder=True)
    golden["llama"] = write_sentence_piece(folder)
    (folder / "ids.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


main()

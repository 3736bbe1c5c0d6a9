"""A training step, a forward pass or an embedding of a BERT-like encoder in PyTorch eager, for comparison.

The step: mean-pooled, normalised embeddings of the first half of the batch against those of the second half,
cross-entropy over their cosines, backward, AdamW; dropout as in the encoder's config.json. With --texts the batch is
padded to its longest text, as PyTorch programs do; without, it is 32 x 128 random tokens and nothing is padded.
Prints one JSON object: milliseconds of a step (of all texts with --mode embed), tokens a second (padding not
counted), peak memory.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from transformers import AutoModel, AutoTokenizer


def batches_of(args, vocabulary):
    """Batches of (ids, mask), and their number of real tokens."""
    if args.texts is None:
        ids = torch.randint(1000, vocabulary, (args.batch, args.max_len), generator=torch.Generator().manual_seed(0))
        return [(ids, torch.ones_like(ids))] * args.steps
    with open(args.texts, encoding="utf-8") as lines:
        texts = [line.rstrip("\n") for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(args.encoder)
    stride = max(1, len(texts) // (args.batch * args.steps)) if args.mode != "embed" else 1
    chosen = texts[::stride][: args.batch * args.steps] if args.mode != "embed" else texts
    if args.mode == "embed":  # as sentence-transformers does: long texts first, so that batches pad little
        chosen = sorted(chosen, key=len, reverse=True)
    batches = []
    for start in range(0, len(chosen), args.batch):
        made = tokenizer(
            chosen[start : start + args.batch],
            padding=True, truncation=True, max_length=args.max_len, return_tensors="pt",
        )
        batches.append((made["input_ids"], made["attention_mask"]))
    return batches


def pooled(model, ids, mask):
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--mode", choices=["train", "forward", "embed"], default="train")
    parser.add_argument("--texts")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-len", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = AutoModel.from_pretrained(args.encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16")
    batches = batches_of(args, model.config.vocab_size)

    def train(ids, mask):
        with autocast:
            embeddings = pooled(model, ids, mask)
        half = len(embeddings) // 2
        scores = embeddings[:half] @ embeddings[half : 2 * half].T / 0.05
        torch.nn.functional.cross_entropy(scores, torch.arange(half)).backward()
        optimizer.step()
        optimizer.zero_grad()

    def forward(ids, mask):
        with torch.no_grad(), autocast:
            pooled(model, ids, mask)

    step = train if args.mode == "train" else forward
    model.train(args.mode == "train")
    for _ in range(2):
        step(*batches[0])
    times = []
    for ids, mask in batches:
        begin = time.perf_counter()
        step(ids, mask)
        times.append(time.perf_counter() - begin)
    tokens = sum(int(mask.sum()) for _, mask in batches)
    if args.mode == "embed":
        middle = sum(times)
    else:
        middle = statistics.median(times) if args.texts is None else sum(times) / len(times)
    print(json.dumps({
        "ms": 1000 * middle,
        "seconds": sum(times),
        "tokens_per_second": tokens / sum(times),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


if __name__ == "__main__":
    main()

"""Embeddings and prompt-tuning steps of a decoder in PyTorch and transformers, for comparison.

An embedding is the hidden state of the last token behind the last norm, divided by its length. A step embeds a batch of
texts and one of labels behind the same soft prompt, takes the cross-entropy of every text's label among the batch's
(cosines by 0.05), and changes the prompt by AdamW. Weights are frozen, in bf16; batches are padded to their longest text;
for embeddings long texts come first, so that little is padded. Prints one JSON object; padding is not counted as tokens.
"""

import argparse
import json
import resource
import time

import torch
from transformers import AutoModel


def read(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def cpu():
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def embed(model, rows, prompt):
    """Rows of ids behind a prompt [n, h]; [b, h] of length 1."""
    longest, n = max(map(len, rows)), len(prompt)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    ends = torch.tensor([n + len(row) for row in rows])
    mask = (torch.arange(n + longest) < ends[:, None]).long()
    inputs = model.get_input_embeddings()(ids)
    front = prompt.to(inputs.dtype).expand(len(rows), n, -1)
    hidden = model(inputs_embeds=torch.cat([front, inputs], 1), attention_mask=mask, use_cache=False).last_hidden_state
    return torch.nn.functional.normalize(hidden[torch.arange(len(rows)), ends - 1].float())


def encode(args, model, texts):
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    prompt = torch.zeros(0, model.config.hidden_size)
    with torch.no_grad():
        embed(model, [texts[i] for i in order[: args.batch]], prompt)  # warms up
        begin, begin_cpu = time.perf_counter(), cpu()
        for start in range(0, len(order), args.batch):
            embed(model, [texts[i] for i in order[start : start + args.batch]], prompt)
    return begin, begin_cpu, sum(map(len, texts)), {}


def step(args, model, texts):
    labels = read(args.labels)
    prompt = torch.nn.Parameter(model.get_input_embeddings().weight[1 : args.prompt + 1].detach().float().clone())
    optimizer = torch.optim.AdamW([prompt], lr=1e-3, weight_decay=0.01)
    losses, tokens = [], 0
    begin, begin_cpu = time.perf_counter(), cpu()
    for start in range(0, min(len(texts), args.batch * args.steps) - args.batch + 1, args.batch):
        rows = [side[start : start + args.batch] for side in (texts, labels)]
        x, y = (embed(model, side, prompt) for side in rows)
        loss = torch.nn.functional.cross_entropy(x @ y.T / 0.05, torch.arange(args.batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        tokens += sum(len(row) for side in rows for row in side)
    return begin, begin_cpu, tokens, {"losses": losses}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["encode", "step"])
    parser.add_argument("model")
    parser.add_argument("--ids", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1 << 30)
    parser.add_argument("--prompt", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AutoModel.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
    model.requires_grad_(False)
    work = encode if args.verb == "encode" else step
    begin, begin_cpu, tokens, report = work(args, model, read(args.ids))
    seconds, cpu_seconds = time.perf_counter() - begin, cpu() - begin_cpu
    print(json.dumps({
        **report, "tokens": tokens, "seconds": seconds, "cpu_seconds": cpu_seconds,
        "tokens_per_second": tokens / seconds, "tokens_per_cpu_second": tokens / cpu_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


if __name__ == "__main__":
    main()

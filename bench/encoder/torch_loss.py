#!/usr/bin/env python3
"""The loss over all labels in PyTorch: scores, decoupled softmax, gradients of texts and labels.

    torch_loss.py [--texts 256] [--labels 131072] [--dim 384] [--dtype f32|bf16] [--threads 2] [--repeat 5]

The twin of `cargo bench -p xmc-nn --bench loss`: same sizes, same positives. Gradients are written by hand, which
spares the copies that autograd keeps (`--autograd` shows what these cost); one matrix [texts, labels] is unavoidable.
Prints one line of JSON: median and smallest milliseconds, peak resident memory."""

import argparse
import json
import resource
import statistics
import time

import torch


def by_hand(x, y, rows, cols, n, tau):
    """Loss and gradients; `rows`, `cols` name the positives, `n` counts them in each row."""
    scores = (x / tau) @ y.T  # [b, l]
    positive = scores[rows, cols].float()
    scores[rows, cols] = float("-inf")
    m = torch.logsumexp(scores, 1).float()  # [b]
    above = m[rows] - positive
    share = 1.0 / (n[rows] * len(x))
    loss = (share * torch.nn.functional.softplus(above)).sum()
    pull = share * torch.sigmoid(above)
    factor = torch.zeros_like(m).index_add_(0, rows, pull)  # [b]
    # factor e^(s - m) = e^(s - m + ln factor): one sweep less.
    scores.sub_((m - factor.log())[:, None].to(scores.dtype)).exp_()
    scores[rows, cols] = -pull.to(scores.dtype)
    return loss, (scores @ y) / tau, scores.T @ (x / tau)


def by_autograd(x, y, rows, cols, n, tau):
    """The same, left to autograd."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    scores = (x @ y.T) / tau
    positive = scores[rows, cols].float()
    negatives = scores.index_put((rows, cols), torch.tensor(float("-inf"), dtype=scores.dtype))
    above = torch.logsumexp(negatives, 1).float()[rows] - positive
    loss = (torch.nn.functional.softplus(above) / (n[rows] * len(x))).sum()
    loss.backward()
    return loss.detach(), x.grad, y.grad


def unit_rows(rows, dim, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, dim, generator=generator)
    return torch.nn.functional.normalize(values).to(dtype)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--labels", type=int, default=131072)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--autograd", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    x, y = (unit_rows(n, args.dim, seed, dtype) for n, seed in ((args.texts, 1), (args.labels, 2)))
    places = torch.arange(args.texts * 5)
    rows, cols = places // 5, places * 7919 % args.labels
    n = torch.full((args.texts,), 5.0)
    step = by_autograd if args.autograd else by_hand
    seconds = []
    with torch.set_grad_enabled(args.autograd):
        for _ in range(args.repeat):
            start = time.perf_counter()
            loss, dx, dy = step(x, y, rows, cols, n, 0.05)
            seconds.append(time.perf_counter() - start)
            assert torch.isfinite(dx).all()
            del dx, dy
    print(json.dumps({
        "torch": torch.__version__, "dtype": args.dtype, "threads": args.threads, "autograd": args.autograd,
        "ms": round(statistics.median(seconds) * 1e3, 1), "min_ms": round(min(seconds) * 1e3, 1),
        "loss": round(loss.item(), 6),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times exact search with PyTorch (products and topk, f32 and bf16) and faiss (IndexFlatIP).

Usage: torch_search.py [--queries 2449] [--labels 113595] [--dim 384] [--k 100] [--threads 2] [--data Q.npy L.npy]

The counterpart of `cargo bench -p xmc --bench search`. Queries go in blocks, so that the scores of a block and not of
all queries are held; the block size is the fastest of --blocks. PyTorch's bf16 answers are not exact: their share of
the f32 answers is printed.
"""

import argparse
import statistics
import time

import numpy as np


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--queries", type=int, default=2449)
    parser.add_argument("--labels", type=int, default=113595)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--blocks", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--data", nargs=2, help="embeddings of queries and labels instead of Gaussian rows")
    parser.add_argument("--programs", default="torch-f32,torch-bf16,faiss")
    return parser.parse_args()


def data(args):
    if args.data:
        return tuple(np.ascontiguousarray(np.load(path), dtype=np.float32) for path in args.data)
    random = np.random.default_rng(1)
    made = (random.standard_normal((rows, args.dim), dtype=np.float32) for rows in (args.queries, args.labels))
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in made)


def torch_search(queries, labels, args, dtype):
    """A function of the block size that returns ids `[queries, k]`, and one of a single query."""
    import torch

    torch.set_num_threads(args.threads)
    x, y = (torch.from_numpy(values).to(dtype) for values in (queries, labels))

    def search(x, block):
        with torch.inference_mode():
            return torch.cat([torch.mm(part, y.T).topk(args.k).indices for part in x.split(block)])

    return lambda block: search(x, block).numpy(), lambda i: search(x[i : i + 1], 1)


def faiss_search(queries, labels, args):
    import faiss

    faiss.omp_set_num_threads(args.threads)
    index = faiss.IndexFlatIP(labels.shape[1])
    index.add(labels)
    return lambda _: index.search(queries, args.k)[1], lambda i: index.search(queries[i : i + 1], args.k)


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def program(name, queries, labels, args):
    if name == "faiss":
        return faiss_search(queries, labels, args), [0]
    import torch

    dtype = torch.bfloat16 if name == "torch-bf16" else torch.float32
    return torch_search(queries, labels, args, dtype), args.blocks


def main():
    args = arguments()
    queries, labels = data(args)
    print(f"top {args.k} of {len(queries)} queries over {len(labels)} labels, d {labels.shape[1]}, {args.threads} threads")
    first = None
    for name in args.programs.split(","):
        (batch, single), blocks = program(name, queries, labels, args)
        best = None
        for block in blocks:
            batch(block)
            runs = [seconds(lambda: batch(block)) for _ in range(args.repeat)]
            median = statistics.median(time for time, _ in runs)
            if best is None or median < best[0]:
                best = (median, min(time for time, _ in runs), block, runs[0][1])
        median, least, block, ids = best
        if first is None:
            first = ids
        share = np.mean([len(np.intersect1d(a, b)) / args.k for a, b in zip(first, ids)])
        alone = sorted(seconds(lambda i=i: single(i))[0] for i in range(min(100, len(queries))))
        print(
            f"{name}: batch median {median:.4f} s, best {least:.4f} s (blocks of {block}); "
            f"single query p50 {alone[len(alone) // 2] * 1e3:.3f} ms, best {alone[0] * 1e3:.3f} ms; "
            f"same answers as the first program {share:.6f}"
        )


if __name__ == "__main__":
    main()

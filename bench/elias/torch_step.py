#!/usr/bin/env python3
"""A training step of ELIAS, stage 2, in PyTorch eager: what does it cost without kernels of its own?

Usage: torch_step.py FOLDER [--steps 5] [--threads 1], FOLDER made by `elias plant`

Embeddings [B, d] are given and get a gradient. As one would write it after the paper: softmax over all clusters, the
b + 5 best of them with the parents of the positives always in, softmax over the edges of each, paths sorted to drop
labels that come twice, the K best, their classifiers gathered [B, K, d], BCE plus shortlist loss, and dense AdamW over
clusters, edges and all labels. f32. Prints one JSON object; the losses are those of `elias step` on the same folder.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F


class Index(torch.nn.Module):
    """Clusters [C, d + 1], edges [C, kappa], classifiers [L + 1, d + 1]; label L is padding."""

    def __init__(self, folder, settings):
        super().__init__()
        self.settings = settings
        labels, dim = settings["labels"], settings["dim"]
        clusters = torch.from_numpy(np.load(folder / "clusters.npy"))
        self.cluster_weights = torch.nn.Parameter(clusters[:, :dim].contiguous())
        self.cluster_biases = torch.nn.Parameter(clusters[:, dim].clone())
        ids, logits = padded(folder / "graph.npz", fill=labels, value=torch.finfo(torch.float32).min)
        self.register_buffer("edge_ids", ids)
        self.edge_logits = torch.nn.Parameter(logits)
        weights = torch.zeros(labels + 1, dim)
        read_into(folder / "labels.npy", weights[:labels])
        self.label_weights = torch.nn.Parameter(weights)
        self.label_biases = torch.nn.Parameter(torch.full((labels + 1, 1), settings["bias"]))
        self.parents = self.best_clusters()

    @torch.no_grad()
    def best_clusters(self):
        """[L + 1]: the cluster from which the best edge leads to a label, the first one if several do."""
        flat = torch.softmax(self.edge_logits, 1).flatten()
        clusters = torch.arange(len(self.edge_ids)).repeat_interleave(self.edge_ids.shape[1])
        best = torch.full((self.settings["labels"] + 1,), -1.0)
        best.scatter_reduce_(0, self.edge_ids.flatten(), flat, "amax")
        is_best = flat == best[self.edge_ids.flatten()]
        parents = torch.full((self.settings["labels"] + 1,), len(self.edge_ids))
        parents.scatter_reduce_(0, self.edge_ids.flatten()[is_best], clusters[is_best], "amin")
        parents[parents == len(self.edge_ids)] = 0
        return parents

    def forward(self, x, positives):
        """Loss of embeddings `x [B, d]` with `positives [B, P]`, -1 where a row has fewer."""
        s = self.settings
        scores = (s["alpha"] * torch.softmax(F.linear(x, self.cluster_weights, self.cluster_biases), 1)).clamp(max=1)
        with torch.no_grad():
            ranks = scores.detach().clone()
            rows, columns = torch.nonzero(positives >= 0, as_tuple=True)
            ranks[rows, self.parents[positives[rows, columns]]] = 2.0
            chosen = ranks.topk(s["beam"] + 5, dim=1).indices
            # Best first, parents at their own place: what decides between paths of equal value.
            chosen = chosen.gather(1, scores.gather(1, chosen).argsort(1, descending=True))
        edges = (s["beta"] * torch.softmax(F.embedding(chosen, self.edge_logits), 2)).clamp(max=1)
        paths = (scores.gather(1, chosen)[:, :, None] * edges).flatten(1)
        ids = self.edge_ids[chosen].flatten(1)
        with torch.no_grad():
            kept, wanted = self.shortlist(paths, ids, positives)
        ids, paths = ids.gather(1, kept), paths.gather(1, kept) * wanted
        targets = (ids[:, :, None] == positives[:, None, :]).any(2) & wanted

        weights = F.embedding(ids, self.label_weights)
        margins = torch.bmm(weights, x[:, :, None])[:, :, 0] + F.embedding(ids, self.label_biases)[:, :, 0]
        probabilities = paths * torch.sigmoid(margins)
        classification = F.binary_cross_entropy(probabilities, targets.to(x.dtype), reduction="sum")
        classification = classification / (len(x) * s["shortlist"])
        reached = paths[targets]
        shortlist = -reached.log().sum() / (len(x) * positives.shape[1])
        return classification + s["loss_lambda"] * shortlist, classification, shortlist

    def shortlist(self, paths, ids, positives):
        """Places of the K best paths of a row and of its positives behind them, each label once, and which are real."""
        order = paths.argsort(dim=1, descending=True, stable=True)
        sorted_ids = ids.gather(1, order)
        by_id, places = sorted_ids.sort(dim=1, stable=True)
        again = torch.zeros_like(by_id, dtype=torch.bool)
        again[:, 1:] = by_id[:, 1:] == by_id[:, :-1]
        again |= by_id == self.settings["labels"]
        dropped = torch.empty_like(again).scatter_(1, places, again)
        kept = (~dropped).cumsum(1) <= self.settings["shortlist"]
        for column in positives.unbind(1):
            kept |= sorted_ids == column[:, None]
        ranks = torch.arange(paths.shape[1]).masked_fill(dropped | ~kept, paths.shape[1])
        most = min(self.settings["shortlist"] + positives.shape[1], paths.shape[1])
        ranks, kept = ranks.topk(most, dim=1, largest=False)
        return order.gather(1, kept), ranks < paths.shape[1]


def padded(path, fill, value):
    """Column ids and values of a CSR matrix as rows of equal length, the largest value first."""
    with np.load(path) as file:
        indptr, indices, data = file["indptr"].astype(np.int64), file["indices"], file["data"]
    lengths = np.diff(indptr)
    taken = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(taken.shape, fill, dtype=np.int64)
    values = np.full(taken.shape, value, dtype=np.float32)
    ids[taken], values[taken] = indices, data
    values, order = torch.from_numpy(values).sort(dim=1, descending=True, stable=True)
    return torch.from_numpy(ids).gather(1, order), values


def read_into(path, rows):
    """Fills `rows` from an npy file without a second copy in memory."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        assert shape == tuple(rows.shape) and dtype == np.float32, (path, shape, dtype)
        file.readinto(memoryview(rows.numpy()).cast("B"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed, after --warm-up")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-fused", action="store_true", help="AdamW as a chain of tensor operations")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = json.loads((args.folder / "settings.json").read_text())
    index = Index(args.folder, settings)
    x = torch.from_numpy(np.load(args.folder / "x.npy"))
    positives, _ = padded(args.folder / "y.npz", fill=-1, value=0.0)
    groups = [
        {"params": [index.cluster_weights], "lr": settings["cluster_lr"]},
        {"params": [index.cluster_biases], "lr": settings["cluster_lr"], "weight_decay": 0.0},
        {"params": [index.label_weights, index.edge_logits], "lr": settings["label_lr"]},
        {"params": [index.label_biases], "lr": settings["label_lr"], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings["weight_decay"], fused=not args.no_fused)

    cpu, wall, losses, dx_norm = [], [], [], None
    for step in range(args.warm_up + args.steps):
        rows = torch.arange(step * args.batch, (step + 1) * args.batch) % len(x)
        begin = time.process_time(), time.perf_counter()
        optimizer.zero_grad()
        batch = x[rows].requires_grad_(True)
        loss, classification, shortlist = index(batch, positives[rows])
        loss.backward()
        optimizer.step()
        losses.append([loss.item(), classification.item(), shortlist.item()])
        cpu.append(time.process_time() - begin[0])
        wall.append(time.perf_counter() - begin[1])
        dx_norm = batch.grad.norm().item() if dx_norm is None else dx_norm
    print(json.dumps({
        "side": "torch",
        "version": torch.__version__,
        "threads": args.threads,
        "cpu_s": statistics.median(cpu[args.warm_up :]),
        "wall_s": statistics.median(wall[args.warm_up :]),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": losses,
        "dx_norm": dx_norm,
    }))


if __name__ == "__main__":
    main()

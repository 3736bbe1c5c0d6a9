#!/usr/bin/env python3
"""Steps and searches of ELIAS beside PyTorch and brute force: the same work, in turn, on the same machine.

    compare.py check     losses and embedding gradients of both sides on a small index: the same numbers?
    compare.py step      CPU seconds and peak memory of a training step, 131,072 and 1,000,000 labels
    compare.py search    recall and microseconds of a search, beside brute force, 1,000,000 labels
    compare.py scale     steps with up to ten million labels: does their time depend on how many there are?

Planted data are made once and stay in --work. Every single figure goes to --log as one JSON object a line.
`--quick` takes smaller data and fewer rounds, to see that everything runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Idle threads of PyTorch must not spin, or their CPU seconds mean nothing.
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# How ours may keep classifiers: as PyTorch does, and as one would with a million labels.
TABLES = ["f32/element", "bf16/row"]


class Programs:
    """Runs both sides and logs what they print."""

    def __init__(self, args):
        self.args = args

    def run(self, what, command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=ENVIRONMENT)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        with open(self.args.log, "a") as log:
            for figures in found:
                log.write(json.dumps({"case": what, **figures}) + "\n")
        return found

    def ours(self, verb, *more, threads=None):
        threads = self.args.threads if threads is None else threads
        return self.run(verb, [self.args.elias, verb, *more, "--threads", threads])

    def torch(self, *more):
        return self.run("step", [self.args.python, HERE / "torch_step.py", *more, "--threads", self.args.threads])[0]

    def planted(self, name, *settings):
        """The folder of that name, made if it is not there."""
        folder = self.args.work / name
        if not (folder / "settings.json").exists():
            self.ours("plant", folder, *settings, threads=os.cpu_count())
        return folder


def check(programs):
    """The first losses must agree to 1e-4. Later steps drift apart: ours decays untouched labels when it meets them."""
    folder = programs.planted("check", "--labels", 20000, "--dim", 64, "--kappa", 400, "--beam", 10, "--shortlist", 800,
                              "--alpha", 5, "--beta", 20, "--queries", 1024)
    how = ["--batch", 64, "--steps", 5, "--warm-up", 1]
    them = programs.torch(folder, *how)
    us = programs.ours("step", folder, *how, "--table", "f32/element")[0]
    print("| step | loss ours | PyTorch | classification ours | PyTorch | shortlist ours | PyTorch |")
    print("|---|---|---|---|---|---|---|")
    for step, (a, b) in enumerate(zip(us["losses"], them["losses"])):
        print(f"| {step} | " + " | ".join(f"{x:.7f} | {y:.7f}" for x, y in zip(a, b)) + " |")
    worst = max(abs(x - y) / abs(y) for x, y in zip(us["losses"][0], them["losses"][0]))
    gradient = abs(us["dx_norm"] - them["dx_norm"]) / them["dx_norm"]
    print(f"first step: losses differ by {worst:.1e} of their size, the norm of the embeddings' gradient by {gradient:.1e}")
    if worst > 1e-4 or gradient > 1e-3:
        sys.exit("they do not compute the same")


def step(programs):
    args = programs.args
    sizes = [20_000, 131_072] if args.quick else [131_072, 1_000_000]
    how = ["--steps", 3, "--warm-up", 1] if args.quick else ["--steps", 10, "--warm-up", 3]
    print("| labels | side | CPU s a step | wall s | peak MB | times faster | memory of theirs |")
    print("|---|---|---|---|---|---|---|")
    for labels in args.labels or sizes:
        folder = programs.planted(f"l{labels}", "--labels", labels)
        figures = {}
        for _ in range(1 if args.quick else args.rounds):
            for table in TABLES:
                figures.setdefault(table, []).append(programs.ours("step", folder, *how, "--table", table)[0])
            figures.setdefault("PyTorch", []).append(programs.torch(folder, *how))
        middle = {side: {key: statistics.median(f[key] for f in found) for key in ("cpu_s", "wall_s", "peak_rss_mb")}
                  for side, found in figures.items()}
        them = middle["PyTorch"]
        for side, found in middle.items():
            print(f"| {labels:,} | {side} | {found['cpu_s']:.3f} | {found['wall_s']:.3f} | {found['peak_rss_mb']:.0f} "
                  f"| {them['cpu_s'] / found['cpu_s']:.1f} | {found['peak_rss_mb'] / them['peak_rss_mb']:.2f} |",
                  flush=True)


def search(programs):
    args = programs.args
    for labels in args.labels or ([20_000] if args.quick else [1_000_000]):
        folder = programs.planted(f"l{labels}", "--labels", labels)
        index, *found = programs.ours("search", folder, "--passes", 2 if args.quick else 5)
        print(", ".join(f"{key} {value:.3g}" for key, value in index.items() if key != "what"))
        print(f"| {labels:,} labels | beam | recall@10 of paths | of classifiers | µs a query in a batch | µs alone | p95 "
              "| of brute force, batch | alone |")
        print("|---|---|---|---|---|---|---|---|---|")
        for figures in found:
            if figures["what"] == "exact":
                exact = figures
            print(f"| {figures['what']} {figures['dtype']} | {figures['beam'] or ''} | {figures['recall_of_paths']:.4f} "
                  f"| {figures['recall']:.4f} | {figures['batch_cpu_us']:.0f} | {figures['single_cpu_us']:.0f} "
                  f"| {figures['single_p95_us']:.0f} | 1/{exact['batch_cpu_us'] / figures['batch_cpu_us']:.1f} "
                  f"| 1/{exact['single_cpu_us'] / figures['single_cpu_us']:.1f} |", flush=True)
        torch = subprocess.run(
            [args.python, HERE.parent / "encoder/torch_search.py", "--data", folder / "q.npy", folder / "labels.npy",
             "--k", "10", "--threads", str(args.threads), "--repeat", "1" if args.quick else "3", "--blocks", "64",
             "256", "--programs", "torch-f32,torch-bf16"],
            capture_output=True, text=True, env=ENVIRONMENT, check=True)
        print(torch.stdout, flush=True)


def scale(programs):
    args = programs.args
    sizes = [20_000, 131_072] if args.quick else [131_072, 1_000_000, 3_000_000, 10_000_000]
    how = ["--steps", 5, "--warm-up", 2] if args.quick else ["--steps", 300, "--warm-up", 20]
    print("| labels | d | clusters | edges | CPU ms a step | wall ms | labels touched | search µs | loss first, last | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for dim in args.dims:
        for fixed in (False, True):
            for labels in args.labels or sizes:
                clusters = ["--clusters", args.clusters] if fixed else []
                found = programs.ours("scale", "--labels", labels, "--dim", dim, *clusters, *how)[0]
                print(f"| {labels:,} | {dim} | {found['clusters']:,} | {found['edges']:,} | {1e3 * found['cpu_s']:.0f} "
                      f"| {1e3 * found['wall_s']:.0f} | {found['touched']:,} | {found['search_us']:.0f} "
                      f"| {found['first_loss']:.4f}, {found['last_loss']:.4f} | {found['peak_rss_mb']:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "step", "search", "scale"])
    parser.add_argument("--elias", type=Path, required=True, help="the built example `elias` of xmc")
    parser.add_argument("--python", default="python3", help="interpreter that has torch")
    parser.add_argument("--work", type=Path, default=Path("planted"), help="folder for planted data")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--labels", type=int, nargs="*", help="other numbers of labels")
    parser.add_argument("--dims", type=int, nargs="+", default=[64], help="widths for scale")
    parser.add_argument("--clusters", type=int, default=8192, help="for scale with a fixed number of clusters")
    parser.add_argument("--log", default="elias.jsonl")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    {"check": check, "step": step, "search": search, "scale": scale}[args.what](Programs(args))


if __name__ == "__main__":
    main()

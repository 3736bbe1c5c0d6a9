"""Trains xmc XR-Transformer and measures it: the same figures under the same names as pecos_run.py.

Usage: xmc_run.py DATA OUT --settings FILE.toml --encoder DIR --xmc PROGRAM --bench-predict PROGRAM [--steps N] ...

CPU seconds are those of whole processes, start and end included. `step_cpu_s` is the difference between a training with
all steps and one with two steps a level, over the steps in between; the embedding is timed by such a difference too.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

FEW = 2  # steps of the short training


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--xmc", required=True, help="the binary")
    parser.add_argument("--bench-predict", required=True, help="the example of crates/xmc")
    parser.add_argument("--steps", type=int, help="steps of a level, in place of training.max_steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--embed-rows", type=int, default=256, help="test rows to time the embedding with; 0: none")
    parser.add_argument("--single-rows", type=int, default=50, help="test rows to time one by one; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def run(*command):
    """Runs a program: its output, its messages, and wall and CPU seconds and peak memory of its process."""
    start = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # What these programs print fits into the pipes, so they can end before it is read.
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    out, err = child.stdout.read(), child.stderr.read()
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(map(str, command))}\n{err}")
    return out, err, {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss_mb": usage.ru_maxrss / 1024}


def train(args, steps):
    """Trains with so many steps a level: seconds of every level that trained the encoder, and the whole."""
    shutil.rmtree(args.out / "model", ignore_errors=True)
    settings = [f"training.max_steps={steps}", f"precision={args.precision}"]
    _, err, used = run(
        args.xmc, "train", "xr-transformer", "--data", args.data, "--out", args.out / "model",
        "--config", args.settings, "--encoder", args.encoder, "--seed", args.seed, "--threads", args.threads,
        "--no-evaluation", *itertools.chain.from_iterable(("--set", setting) for setting in settings),
    )  # fmt: skip
    (args.out / "train.log").write_text(err)
    # The table at the end: stage, seconds, peak memory.
    stages = re.findall(r"^(\S+) +([\d.]+)  +[\d.]+ \w+$", err, re.MULTILINE)
    return [float(seconds) for name, seconds in stages if re.fullmatch(r"level\.\d+", name)], used


def embed(args, rows):
    """CPU seconds to embed the first test rows."""
    texts = args.out / "texts.txt"
    with open(args.data / "raw/tst_X.txt", encoding="utf-8", newline="\n") as lines:
        texts.write_text("".join(itertools.islice(lines, rows)), encoding="utf-8")
    options = ["--threads", args.threads, "--precision", args.precision]
    command = [args.xmc, "embed", "--encoder", args.out / "model", "--input", texts]
    return run(*command, "--output", args.out / "embeddings.npy", *options)[2]["cpu"]


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    settings = tomllib.loads(args.settings.read_text())
    steps = args.steps or settings["training"]["max_steps"]
    figures = {"steps": steps, "threads": args.threads, "precision": args.precision}
    # A training of all rows is made once, for its quality.
    short, short_used = train(args, FEW) if args.steps else (None, None)
    levels, used = train(args, steps)
    figures |= {
        "train_cpu_s": used["cpu"],
        "train_wall_s": used["wall"],
        "train_peak_rss_mb": used["rss_mb"],
        "model_mb": sum(f.stat().st_size for f in (args.out / "model").rglob("*") if f.is_file()) / 1e6,
    }
    if short:
        more = steps - FEW
        figures["step_cpu_s"] = (used["cpu"] - short_used["cpu"]) / (more * len(levels))
        figures["levels"] = [{"step_wall_s": (b - a) / more} for a, b in zip(short, levels)]
    if args.embed_rows:
        few = args.embed_rows // 8
        figures["embed_docs_per_cpu_s"] = (args.embed_rows - few) / (embed(args, args.embed_rows) - embed(args, few))
    out, _, used = run(
        args.bench_predict, args.out / "model", "--input", args.data / "raw/tst_X.txt", "--passes", 1,
        "--output", args.out / "predictions.npz", "--top-k", 10, "--beam", settings["ranker"]["beam_size"],
        "--threads", args.threads, "--precision", args.precision, "--rows", max(1, args.single_rows), "--warm-up", 5,
    )  # fmt: skip
    answers = json.loads(out.splitlines()[-1])
    figures["predict_docs_per_cpu_s"] = answers["docs_per_cpu_s"]
    if args.single_rows:
        figures |= {key: value for key, value in answers.items() if key.endswith("_ms")}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

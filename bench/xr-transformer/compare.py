#!/usr/bin/env python3
"""XR-Transformer of xmc beside that of libpecos: the same settings, features, encoder and steps, in turn.

Usage: compare.py DATA... --encoder DIR --python PYTHON --xmc PROGRAM --bench-predict PROGRAM [options]

PYTHON is an interpreter with libpecos, DATA a dataset folder for which settings/ has a file of its name. Without --full
every set is cut to its first rows and few steps are made: that tells speed and memory in minutes. With --full all rows
are learned with the steps of the settings file: that tells quality, in hours.

Every training is a process of its own; sides and precisions take turns, and the tables show medians over the rounds. All
figures go to --log too, one JSON object a line, and compare.py without DATA prints the tables of that file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"

# (name, figure of one record, whether more is better)
QUANTITIES = [
    ("training, documents per CPU s", lambda r: r["batch"] / step(r), True),
    ("training, tokens per CPU s", lambda r: r["batch"] * r["tokens_per_row"] / step(r), True),
    ("embedding, documents per CPU s", lambda r: r["embed_docs_per_cpu_s"], True),
    ("prediction, documents per CPU s", lambda r: r["predict_docs_per_cpu_s"], True),
    ("one document, CPU ms p50", lambda r: r["cpu_p50_ms"], False),
    ("one document, CPU ms p99", lambda r: r["cpu_p99_ms"], False),
    ("one document, wall ms p50", lambda r: r["wall_p50_ms"], False),
    ("one document, wall ms p99", lambda r: r["wall_p99_ms"], False),
    ("the same with a worker of libpecos, CPU ms p50", lambda r: r["forked_cpu_p50_ms"], False),
    ("whole training, CPU s", lambda r: r["train_cpu_s"], False),
    ("whole training, peak RSS MB", lambda r: r["train_peak_rss_mb"], False),
    ("model, MB", lambda r: r["model_mb"], False),
]
QUALITY = ["P@1", "P@3", "P@5", "PSP@1", "PSP@5", "nDCG@5"]


def step(record):
    """CPU seconds of a step, mean over the levels."""
    return record.get("step_cpu_s") or statistics.mean(level["step_cpu_s"] for level in record["levels"])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--python", help="interpreter that has libpecos")
    parser.add_argument("--xmc", help="target/release/xmc")
    parser.add_argument("--bench-predict", help="target/release/examples/bench_predict")
    parser.add_argument("--sides", default="libpecos,xmc")
    parser.add_argument("--precisions", default="f32,bf16")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="all rows and steps")
    parser.add_argument("--train", type=int, default=500, help="training rows without --full")
    parser.add_argument("--test", type=int, default=256, help="test rows without --full")
    parser.add_argument("--steps", type=int, default=10, help="steps of a level without --full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("xr-transformer.work"), help="folder for models")
    parser.add_argument("--log", type=Path, default=Path("xr-transformer.jsonl"))
    return parser.parse_args()


def call(*command):
    """Runs a script that prints one JSON object as its last line."""
    done = subprocess.run([str(word) for word in command], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def prepare(args, data):
    """The folder that both sides read: some or all rows, and the tf-idf of libpecos, as xmc makes its own."""
    made = args.work / data.name / ("full" if args.full else f"{args.train}-{args.test}")
    if not (made / "X.tst.npz").exists():
        source = data
        if not args.full:
            source = made.with_suffix(".cut")
            cut = [HERE / "subset.py", data, source, "--train", args.train, "--test", args.test]
            subprocess.run([args.python, *map(str, cut)], check=True)
        call(args.python, PEERS / "make_features.py", source, made)
    return made


def measure(args, data, side, precision, threads):
    out = args.work / data.parent.name / f"{side}-{precision}-{threads}"
    options = ["--settings", HERE / "settings" / f"{data.parent.name}.toml", "--encoder", args.encoder]
    options += ["--precision", precision, "--threads", threads, "--seed", args.seed]
    options += ["--embed-rows", args.test] + ([] if args.full else ["--steps", args.steps])
    if side == "libpecos":
        figures = call(args.python, HERE / "pecos_run.py", data, out, *options)
    else:
        programs = ["--xmc", args.xmc, "--bench-predict", args.bench_predict]
        figures = call(sys.executable, HERE / "xmc_run.py", data, out, *options, *programs)
    quality = call(args.python, PEERS / "metrics.py", data, out / "predictions.npz")
    return figures | {name: quality[name] for name in QUALITY}


def number(value):
    return "–" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def median(records, figure):
    try:
        return statistics.median(map(figure, records))
    except (KeyError, TypeError, statistics.StatisticsError):
        return None  # not measured


def table(records):
    """One table of a data set: both sides at both precisions, and how many times better xmc is."""
    columns = sorted({(r["precision"], r["threads"]) for r in records}, reverse=True)
    head, lines = ["quantity"], []
    for precision, threads in columns:
        head += [f"{side} {precision}, {threads} thr." for side in ("libpecos", "xmc")] + ["ratio"]
    quality = [(name, lambda r, name=name: r[name], None) for name in QUALITY]
    for name, figure, more_is_better in QUANTITIES + quality:
        cells = [name]
        for column in columns:
            mine = [r for r in records if (r["precision"], r["threads"]) == column]
            theirs, ours = (median([r for r in mine if r["side"] == side], figure) for side in ("libpecos", "xmc"))
            if theirs is None or ours is None:
                ratio = "–"
            elif more_is_better is None:
                ratio = f"{ours - theirs:+.2f}"
            else:
                ratio = f"{ours / theirs if more_is_better else theirs / ours:.2f}"
            cells += [number(theirs), number(ours), ratio]
        lines.append(cells)
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def tables(records):
    for data, full in dict.fromkeys((r["data"], r["full"]) for r in records):
        mine = [r for r in records if (r["data"], r["full"]) == (data, full)]
        # Texts and tokenizer are the same, so what libpecos counted holds for xmc.
        tokens = next((r["tokens_per_row"] for r in mine if "tokens_per_row" in r), None)
        mine = [{"tokens_per_row": tokens} | r for r in mine]
        steps = sorted({r["steps"] for r in mine})
        print(f"\n### {data}, {mine[0]['rows']:,} training rows, {'/'.join(map(str, steps))} steps a level\n")
        print(table(mine))


def main():
    args = arguments()
    args.work, args.log = args.work.resolve(), args.log.resolve()
    for name in ("python", "xmc", "bench_predict", "encoder"):
        path = getattr(args, name)
        setattr(args, name, path and os.path.abspath(path))
    for source in args.data:
        data = prepare(args, source.resolve())
        with open(data / "raw/trn_X.txt", "rb") as lines:
            rows = sum(1 for _ in lines)
        for _ in range(args.rounds):
            for threads in args.threads.split(","):
                for precision in args.precisions.split(","):
                    for side in args.sides.split(","):
                        key = {"data": source.name, "side": side, "full": args.full, "rows": rows, "batch": 32}
                        key |= {"at": time.strftime("%Y-%m-%d %H:%M"), "load_average": os.getloadavg()[0]}
                        record = key | measure(args, data, side, precision, threads)
                        with open(args.log, "a", encoding="utf-8") as log:
                            log.write(json.dumps(record) + "\n")
                        print(f"{source.name} {side} {precision} {threads}", file=sys.stderr)
    with open(args.log, encoding="utf-8") as log:
        tables([json.loads(line) for line in log])


if __name__ == "__main__":
    main()

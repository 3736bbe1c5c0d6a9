#!/usr/bin/env python3
"""Runs xmc and its peers side by side on data folders made by make_features.py and prints the tables.

Usage: compare.py DATA... [--threads 1,2] [--repeat 3] [--programs libpecos,xmc,...] [--xmc PATH] [--bench-predict PATH]

Every training and every prediction is a process of its own. Repeats go round all programs before they start
again, so that a slow minute of the machine hits all alike; the tables show medians. All figures are also appended
to --log as JSON lines, and `--log FILE` with no DATA prints the tables of an old log.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
LAYOUTS = [["--layout", name] for name in ("BINARY_SEARCH_CHUNKED", "HASH_CHUNKED", "CSC")]

# name: (environment, script, options of both modes, options of training, variants of prediction)
PROGRAMS = {
    "libpecos": ("libpecos", "run_libpecos.py", [], [], LAYOUTS),
    "omikuji-1": ("omikuji", "run_omikuji.py", ["--trees", "1"], [], [[]]),
    "omikuji-3": ("omikuji", "run_omikuji.py", ["--trees", "3"], [], [[]]),
    "napkinxc": ("napkinxc", "run_napkinxc.py", [], [], [[]]),
    "xmc": (None, "run_xmc.py", [], [], [[]]),
    "xmc-3": (None, "run_xmc.py", [], ["--set", "trees=3"], [[]]),
    "xmc-3-u8": (None, "run_xmc.py", [], ["--set", "trees=3", "ranker.weights=u8"], [[]]),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--xmc", default="xmc", help="the xmc binary")
    parser.add_argument("--bench-predict", help="target/release/examples/bench_predict")
    parser.add_argument("--environments", type=Path, default=HERE / ".venv", help="where ./setup put them")
    parser.add_argument("--log", type=Path, default=Path("peers.jsonl"))
    return parser.parse_args()


def call(args, environment, *command):
    """Runs a script in the environment of its program; its figures are the last line it prints."""
    python = str(args.environments / environment / "bin" / "python") if environment else sys.executable
    done = subprocess.run([python, *map(str, command)], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(args, data, program, threads, work):
    """One training and all its predictions; yields one record each."""
    environment, script, options, training, variants = PROGRAMS[program]
    if script == "run_xmc.py":
        options = ["--xmc", args.xmc] + (["--bench-predict", args.bench_predict] if args.bench_predict else [])
    options = ["--threads", threads, *options]
    key = {"data": Path(data).name, "program": program, "threads": threads, "load_average": os.getloadavg()[0]}
    model = work / f"{program}-{threads}"
    shutil.rmtree(model, ignore_errors=True)
    yield key | {"mode": "train"} | call(args, environment, script, "train", data, model, *options, *training)
    for variant in variants:
        output = work / "predictions.npz"
        output.unlink(missing_ok=True)
        figures = call(args, environment, script, "predict", data, model, "--output", output, *options, *variant)
        quality = call(args, "libpecos", "metrics.py", data, output)
        yield key | {"mode": "predict", "layout": variant[-1] if variant else ""} | figures | quality


def main():
    args = arguments()
    args.data = [str(Path(data).resolve()) for data in args.data]
    args.environments = args.environments.absolute()
    # The scripts run in this folder, so paths given by the caller must not depend on where it stands.
    args.xmc = os.path.abspath(shutil.which(args.xmc) or args.xmc)
    args.bench_predict = args.bench_predict and os.path.abspath(args.bench_predict)
    with tempfile.TemporaryDirectory() as work:
        for data in args.data:
            for _ in range(args.repeat):
                for threads in map(int, args.threads.split(",")):
                    for program in args.programs.split(","):
                        for record in measure(args, data, program, threads, Path(work)):
                            record["at"] = time.strftime("%Y-%m-%d %H:%M")
                            with open(args.log, "a", encoding="utf-8") as log:
                                log.write(json.dumps(record) + "\n")
                            print(f"{record['data']} {program} t{threads} {record['mode']}", file=sys.stderr)
    with open(args.log, encoding="utf-8") as log:
        print(table.tables([json.loads(line) for line in log]))


if __name__ == "__main__":
    main()

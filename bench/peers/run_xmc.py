"""Trains xmc or predicts with it, under the same command line as the peers.

The figures of a single process (load, throughput, single rows) come from `bench_predict`, an example of the
workspace that uses the library as a service would. It is called as
`bench_predict MODEL --input X.tst.npz --top-k K --beam B --threads T --rows 2000 --warm-up 50 --output P.npz`
and must print one JSON line with load_s, docs_per_wall_s, docs_per_cpu_s, wall_p50_ms, wall_p99_ms, cpu_p50_ms,
cpu_p99_ms, peak_rss_mb. Without it the predictions come from `xmc predict` and these figures stay empty.
"""

import json
import os
import resource
import subprocess
import time

import measure


def arguments():
    # peer.py would pull numpy into this process, and a child starts with the memory high-water mark of its parent.
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=["train", "predict"])
    parser.add_argument("data")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output")
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--xmc", default="xmc", help="the binary")
    parser.add_argument("--bench-predict", help="the example")
    parser.add_argument("--set", nargs=argparse.REMAINDER, default=[], help="settings as key=value")
    return parser.parse_args()


def run(command):
    """Wall and CPU seconds and peak memory of a child process, and its stdout."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        out, err = child.communicate()
        if child.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {child.returncode}\n{err}")
    wall = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return out, {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_rss_mb": usage.ru_maxrss / 1024}


def train(args):
    command = [args.xmc, "train", "xr-linear", "--quiet", "--no-evaluation", "--data", args.data, "--out", args.model]
    command += ["--threads", str(args.threads), "--set", "features=given"]
    command += [word for setting in args.set for word in ("--set", setting)]
    _, figures = run(command)
    measure.report(**figures, model_mb=measure.disk_mb(args.model))


def predict(args):
    test = os.path.join(args.data, "X.tst.npz")
    if args.bench_predict:
        command = [args.bench_predict, args.model, "--input", test, "--top-k", str(args.top_k), "--beam"]
        command += [str(args.beam), "--threads", str(args.threads), "--rows", str(measure.SINGLE_ROWS)]
        command += ["--warm-up", str(measure.WARM_UP), "--output", args.output]
        measure.report(**json.loads(run(command)[0].splitlines()[-1]))
    else:
        command = [args.xmc, "predict", args.model, "--quiet", "--input", test, "--top-k", str(args.top_k)]
        command += ["--beam", str(args.beam), "--threads", str(args.threads), "--format", "npz", "--output", args.output]
        measure.report(peak_rss_mb=run(command)[1]["peak_rss_mb"])


if __name__ == "__main__":
    args = arguments()
    (train if args.mode == "train" else predict)(args)

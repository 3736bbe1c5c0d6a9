"""The command line that all run_*.py share.

run_PEER.py train   DATA MODEL --threads T [--set OPTION...]
run_PEER.py predict DATA MODEL --threads T --output P.npz [--top-k 10] [--beam 10]

Both print one line of JSON. Training counts reading the data, learning and writing the model, but not starting
Python. `--set` takes all that follows it, in the peer's own words.
"""

import argparse

import numpy as np
import scipy.sparse as sp

from measure import disk_mb, peak_rss_mb, report


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("mode", choices=["train", "predict"])
    parser.add_argument("data")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="predictions as npz of scores")
    parser.add_argument("--top-k", type=int, default=10, help="more than 5, so that filtered pairs leave five")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--set", nargs=argparse.REMAINDER, default=[], help="settings of the peer")
    return parser


def run(parser, train, predict):
    args = parser.parse_args()
    (train if args.mode == "train" else predict)(args)


def report_training(args, clock):
    report(wall_s=clock.wall, cpu_s=clock.cpu, peak_rss_mb=peak_rss_mb(), model_mb=disk_mb(args.model))


def scores(rows, labels):
    """Lists of (label, score) as CSR `[n, L]`."""
    indptr = np.cumsum([0] + [len(row) for row in rows])
    pairs = [pair for row in rows for pair in row]
    indices, values = [p[0] for p in pairs], np.array([p[1] for p in pairs], dtype=np.float32)
    return sp.csr_matrix((values, indices, indptr), shape=(len(rows), labels))

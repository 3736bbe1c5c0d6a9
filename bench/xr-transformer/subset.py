"""Cuts a data folder down to its first rows, for measurements that take minutes.

Usage: subset.py DATA OUT [--train 500] [--test 100]

Labels keep their ids, those without a row left too.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

import folder  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=100)
    args = parser.parse_args()
    (args.out / "raw").mkdir(parents=True, exist_ok=True)
    for part, rows in (("trn", args.train), ("tst", args.test)):
        lines = folder.lines(args.data / f"raw/{part}_X.txt")[:rows]
        (args.out / f"raw/{part}_X.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        folder.save(args.out / f"Y.{part}.npz", folder.load(args.data, f"Y.{part}")[:rows])
    (args.out / "raw/Y.txt").write_bytes((args.data / "raw/Y.txt").read_bytes())


if __name__ == "__main__":
    main()

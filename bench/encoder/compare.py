#!/usr/bin/env python3
"""Encoder, loss and search of xmc beside PyTorch and faiss: the same work, in turn, on the same machine.

Every case is run `--rounds` times, ours and theirs in turn, each in a process of its own that prints one JSON object.
The median of the rounds goes into a table; every single figure goes to --log as one JSON object a line.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def cases(args):
    """(name, our arguments, their arguments) without threads and precision."""
    step = ["--encoder", args.encoder, "--steps", str(args.steps)]
    found = [("train, 32 x 128 random tokens", ["peer", "--mode", "train", *step],
              ["torch_step.py", "--mode", "train", *step])]
    for folder in args.data:
        texts = str(Path(folder) / "raw/trn_X.txt")
        name = Path(folder).name
        found.append((f"train, texts of {name}", ["peer", "--mode", "train", "--texts", texts, *step],
                      ["torch_step.py", "--mode", "train", "--texts", texts, *step]))
    for folder in args.data[:1]:
        for part, file in (("test texts", "tst_X.txt"), ("labels", "Y.txt")):
            texts = str(Path(folder) / "raw" / file)
            found.append((f"embed {part} of {Path(folder).name}", ["peer", "--mode", "embed", "--texts", texts, *step],
                          ["torch_step.py", "--mode", "embed", "--batch", "64", "--texts", texts, *step]))
    for how, more in (("by hand", []), ("autograd", ["--autograd"])):
        found.append((f"loss with gradients ({how} there), 256 x 131,072, d 384", ["loss"], ["torch_loss.py", *more]))
    return [case for case in found if args.only in case[0]]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="the built benchmark `peer` of xmc-nn")
    parser.add_argument("--loss", required=True, help="the built benchmark `loss` of xmc-nn")
    parser.add_argument("--python", default="python3", help="interpreter that has torch and transformers")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--data", nargs="*", default=[], help="dataset folders")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--steps", type=int, default=7, help="steps of a process after two that warm up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--log", default="encoder.jsonl")
    args = parser.parse_args()

    print("| case | threads | precision | ours ms | PyTorch ms | ratio | ours MB | PyTorch MB | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, ours, theirs in cases(args):
        for threads in args.threads.split(","):
            for precision in ("f32", "bf16"):
                figures = {"ours": [], "theirs": []}
                for _ in range(args.rounds):
                    for side, command in (
                        ("ours", [getattr(args, ours[0]), *ours[1:], "--precision", precision]),
                        ("theirs", [args.python, str(HERE / theirs[0]), *theirs[1:], "--dtype", precision]),
                    ):
                        found = run([*command, "--threads", threads])
                        figures[side].append(found)
                        with open(args.log, "a") as log:
                            log.write(json.dumps({"case": name, "threads": int(threads), "precision": precision,
                                                  "side": side, **found}) + "\n")
                middle = {side: {key: statistics.median(f[key] for f in found) for key in ("ms", "peak_rss_mb")}
                          for side, found in figures.items()}
                us, them = middle["ours"], middle["theirs"]
                print(f"| {name} | {threads} | {precision} | {us['ms']:.0f} | {them['ms']:.0f} "
                      f"| {them['ms'] / us['ms']:.2f} | {us['peak_rss_mb']:.0f} | {them['peak_rss_mb']:.0f} "
                      f"| {us['peak_rss_mb'] / them['peak_rss_mb']:.2f} |", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A decoder of xmc beside PyTorch and llama.cpp: the same work on the same weights and token ids, in turn, on one machine.

Every case is run `--rounds` times, ours and theirs in turn, each in a process of its own that prints one JSON object. Medians
go into a table; every single figure goes to --log as one JSON object a line. The first loss of a step must be theirs
to a hundredth, or the case counts for nothing. `--quick`: one round of little work, to see that everything runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parents[1] / "target/release/examples/decoder"


def cases(args, folder):
    """(name, our words, interpreter, their words)."""
    texts, labels = ["--ids", str(folder / "texts.jsonl")], ["--labels", str(folder / "labels.jsonl")]
    torch = [args.torch, str(HERE / "torch_decoder.py")]
    model, steps = str(args.prepared / "model"), ["--steps", "2" if args.quick else "8"]
    yield "encode", ["encode", *texts], [*torch, "encode", model, *texts]
    for batch in ("18", "32"):
        step = [*texts, *labels, *steps, "--batch", batch]
        yield f"step of {batch} pairs", ["step", *step], [*torch, "step", model, *step]
    new = ["--new", "32" if args.quick else "128"]
    for slots in ("1", "8"):
        prompts = ["--ids", str(folder / f"prompts-{slots}.jsonl"), "--slots", slots, *new]
        theirs = [args.llama, str(HERE / "llama_generate.py"), str(args.file), *prompts, *(["--no-repack"] if args.no_repack else [])]
        yield f"generate, {slots} at a time", ["generate", *prompts], theirs


def take(source, out, lines):
    out.write_text("".join(source.read_text().splitlines(keepends=True)[:lines]))


def run(command, threads):
    environment = {**os.environ, "RAYON_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def difference(ours, theirs):
    """What shows that both did the same."""
    if "losses" in ours:
        a, b = ours["losses"][0], theirs["losses"][0]
        return f"first losses {a:.4f}, {b:.4f}" + ("" if abs(a - b) <= 0.01 * abs(b) else " DIFFER")
    if "found" in ours:
        pairs = list(zip(ours["found"], theirs["found"]))
        same = [next((i for i, (x, y) in enumerate(zip(a["ids"], b["ids"])) if x != y), len(b["ids"])) for a, b in pairs]
        return f"equal for {statistics.median(same):.0f} tokens of {len(theirs['found'][0]['ids'])}"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the GGUF file")
    parser.add_argument("prepared", type=Path, help="folder that prepare.py made of it")
    parser.add_argument("--program", default=str(PROGRAM), help="the built example `decoder` of xmc-nn")
    parser.add_argument("--torch", default="python3", help="interpreter that has torch and transformers")
    parser.add_argument("--llama", default="python3", help="interpreter that has llama-cpp-python")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--no-repack", action="store_true", help="llama.cpp without AMX; see the README")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--log", default="decoder.jsonl")
    args = parser.parse_args()
    folder = args.prepared / ("quick" if args.quick else "all")
    folder.mkdir(exist_ok=True)
    for name in ("texts", "labels"):
        take(args.prepared / f"{name}.jsonl", folder / f"{name}.jsonl", 64 if args.quick else None)
    for slots in (1, 8):
        take(args.prepared / "prompts.jsonl", folder / f"prompts-{slots}.jsonl", slots if args.quick else 2 * slots)

    print("| case | threads | ours tokens/s | theirs | ratio | ours tokens/CPU s | theirs | ratio | ours MB | theirs | same? |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, ours, theirs in cases(args, folder):
        if args.only not in name:
            continue
        for threads in args.threads.split(","):
            figures = {"ours": [], "theirs": []}
            for _ in range(1 if args.quick else args.rounds):
                figures["ours"].append(run([args.program, ours[0], str(args.file), *ours[1:]], threads))
                figures["theirs"].append(run([*theirs, "--threads", threads], threads))
                with open(args.log, "a") as log:
                    for side, found in figures.items():
                        log.write(json.dumps({"case": name, "threads": int(threads), "side": side, **found[-1]}) + "\n")
            row = [name, threads]
            for key in ("tokens_per_second", "tokens_per_cpu_second"):
                us, them = (statistics.median(f[key] for f in found) for found in figures.values())
                row += [f"{us:.0f}", f"{them:.0f}", f"{us / them:.2f}"]
            row += [f"{statistics.median(f['peak_mb'] for f in found):.0f}" for found in figures.values()]
            print("| " + " | ".join([*row, difference(figures["ours"][-1], figures["theirs"][-1])]) + " |", flush=True)


if __name__ == "__main__":
    main()

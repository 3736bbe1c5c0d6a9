#!/usr/bin/env python3
"""What does filling in missing labels bring? Labels are hidden as a click log would hide them, and models that learn from
the log, from the log with propensity weights and from augmented logs are measured on the complete test.

Usage: compare.py DATA --encoder DIR --xmc PROGRAM --work DIR [--decoder FILE.gguf] [options]

DATA is a dataset folder with complete labels, DIR an encoder, PROGRAM target/release/xmc. Every matrix is made of the same
log: `log`, `propensity` (its pairs with inverse propensities as values), `complete-rows` (some of its rows have all their
labels), `extractive` and, with --decoder, `few-shot` (a language model that is shown five examples) and `tuned` (the same
model tuned on those complete rows), each with the threshold of the release and with a calibrated one. What lies in --work
already is not made again. Reports lie in --work as JSON; tables are printed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

HERE = Path(__file__).resolve().parent
METRICS = ["P@1", "P@5", "R@10", "R@100", "PSP@5"]
# Settings of the trainings, the same for every matrix of a method.
TRAINING = {
    "xr-linear": ["--set", "value=weight"],
    "dexml": ["--set", "validation=0", "--set", "tape_tokens=65536", "--set", "epochs=2", "--set", "positives=sample"],
}
# How propensities become costs of pairs; all other matrices keep the default of the method.
# Rows that somebody has labelled completely: what a language model is tuned on.
COMPLETE = 400
WEIGHTED = {"xr-linear": [], "dexml": ["--set", "value=weight"]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", required=True, type=Path)
    parser.add_argument("--decoder", type=Path)
    parser.add_argument("--xmc", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--methods", default="xr-linear,dexml")
    parser.add_argument("--matrices", default="log,propensity,extractive,extractive-calibrated,few-shot,few-shot-calibrated,complete-rows,tuned,tuned-calibrated")
    parser.add_argument("--template", type=Path, default=HERE / "few-shot.toml")
    parser.add_argument("--tau", default="0.8")
    return parser.parse_args()


class Work:
    """Runs commands, and keeps what they print and cost."""

    def __init__(self, args):
        self.args, self.dir = args, args.work
        self.dir.mkdir(parents=True, exist_ok=True)

    def run(self, name, *command):
        """The JSON that `xmc command` prints, with its costs; from an earlier call if there was one."""
        kept = self.dir / f"{name}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        print("xmc", *command, file=sys.stderr, flush=True)
        begin = time.monotonic()
        process = subprocess.Popen([self.args.xmc, *map(str, command), "--json"], stdout=subprocess.PIPE)
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"xmc {' '.join(map(str, command))}: exit code {process.returncode}")
        result = {
            "report": json.loads(printed),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": time.monotonic() - begin,
            "rss_mb": usage.ru_maxrss / 1024,
        }
        kept.write_text(json.dumps(result))
        return result

    def log(self):
        """The biased log."""
        out = self.dir / "log"
        self.run("bias", "augment", "simulate-bias", "--data", self.args.data, "--out", out, "--encoder", self.args.encoder, "--topk", 20, "--test-topk", 20)
        return out

    def complete(self):
        """Rows with all their labels, and these labels."""
        y = sp.load_npz(self.args.data / "Y.trn.npz").tocsr()
        rows = np.sort(np.random.default_rng(0).choice(y.shape[0], COMPLETE, replace=False))
        return rows, y

    def copy(self, out, y):
        """The log with other training labels."""
        (out / "raw").mkdir(parents=True)
        for path in self.log().glob("raw/*"):
            os.link(path, out / "raw" / path.name)
        os.link(self.log() / "Y.tst.npz", out / "Y.tst.npz")
        sp.save_npz(out / "Y.trn.npz", y)

    def complete_rows(self):
        """The log, but for the complete rows."""
        out = self.dir / "complete-rows"
        if not out.exists():
            rows, y = self.complete()
            log = sp.load_npz(self.log() / "Y.trn.npz").tolil()
            log[rows] = y[rows]
            self.copy(out, log.tocsr().astype(np.float32))
        return out

    def tuned(self):
        """The decoder, tuned on the complete rows."""
        out, examples = self.dir / "tuned-decoder", self.dir / "examples.jsonl"
        if not examples.exists():
            rows, y = self.complete()
            texts = (self.args.data / "raw/trn_X.txt").read_text().splitlines()
            names = (self.args.data / "raw/Y.txt").read_text().splitlines()
            lines = [
                {"prompt": f"Text: {texts[row]}\nSubjects:\n", "completion": "\n".join(names[l] for l in y[row].indices)}
                for row in rows
            ]
            examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
        learn = ["--decoder", self.args.decoder, "--examples", examples, "--out", out]
        learn += ["--set", "batch_size=16", "--set", "epochs=3"]
        self.run("tuned.finetune", "augment", "finetune", *learn, *(["--resume"] if out.exists() else []))
        return out

    def propensity(self):
        """The log with inverse propensities (A 0.55, B 1.5), their mean 1, as values."""
        out = self.dir / "propensity"
        if not out.exists():
            y = sp.load_npz(self.log() / "Y.trn.npz").tocsr().astype(np.float32)
            counts = np.asarray((y > 0).sum(axis=0)).ravel()
            c = (np.log(y.shape[0]) - 1) * 2.5**0.55
            inverse = 1 + c * (counts + 1.5) ** -0.55
            y.data = inverse[y.indices].astype(np.float32)
            y.data /= y.data.mean()
            self.copy(out, y)
        return out

    def augmented(self, generator, calibrated):
        """The log with new pairs; the threshold is the release's or a calibrated one."""
        run, sets = self.dir / f"run-{generator}", []
        if not run.exists():
            if generator != "extractive":
                tuned = generator == "tuned"
                decoder, template = (self.tuned(), "fields") if tuned else (self.args.decoder, str(self.args.template))
                sets = ["generator.kind=decoder", f"generator.path={json.dumps(str(decoder.resolve()))}"]
                sets += [f"generator.template={json.dumps(template)}", "generator.max_new_tokens=64"]
            sets += ["exclude_test=true"]
            sets.append(f"encoder.path={json.dumps(str(self.args.encoder.resolve()))}")
            more = [word for set in sets for word in ("--set", set)]
            self.run(f"{generator}.init", "augment", "init", "--direction", "instance", "--data", self.log(), "--out", run, *more)
        for stage in ["generate", "parse", "embed", "map"]:
            self.run(f"{generator}.{stage}", "augment", stage, "--run", run)
        tau, name = self.args.tau, generator
        if calibrated:
            tau = self.run(f"{generator}.calibrate", "augment", "calibrate", "--run", run)["report"]["tau"]
            name += "-calibrated"
        out = self.dir / f"filled-{name}"
        build = ["--run", run, "--set", f"build.tau={tau}"]
        self.run(f"{name}.build", "augment", "build", *build, "--out", out)
        hidden = self.log() / "hidden.trn.npz"
        self.run(f"{name}.validate", "augment", "validate", *build, "--hidden", hidden)
        return out

    def matrix(self, name):
        if name in ("log", "propensity", "complete-rows"):
            return getattr(self, name.replace("-", "_"))()
        generator, _, calibrated = name.partition("-calibrated")
        return self.augmented(generator, name.endswith("calibrated"))

    def measured(self, name, method):
        """Metrics on the complete and on the biased test."""
        data, model = self.matrix(name), self.dir / f"{name}.{method}.xmc"
        if not model.exists():
            sets = TRAINING[method] + (WEIGHTED[method] if name == "propensity" else [])
            if method == "dexml":
                sets = ["--encoder", self.args.encoder, *sets]
            command = [self.args.xmc, "train", method, "--data", data, "--out", model, *sets]
            print(*command, file=sys.stderr, flush=True)
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        biased = self.log() / "biased.tst.npz"
        return self.run(f"{name}.{method}.evaluate", "evaluate", model, "--data", data, "--biased", biased)["report"]

    def pairs(self, name):
        """New pairs, and which of the hidden ones are among them."""
        kept = self.dir / f"{name}.validate.json"
        if not kept.exists():
            return None
        return next(r for r in json.loads(kept.read_text())["report"]["recovery"] if r["hiding"] == "given")

    def costs(self, generator):
        """Seconds of each stage."""
        for stage in ["finetune", "generate", "parse", "embed", "map", "calibrate", "build", "validate"]:
            kept = self.dir / f"{generator}.{stage}.json"
            if kept.exists():
                cost = json.loads(kept.read_text())
                yield f"| {generator} | {stage} | {cost['cpu_s']:.1f} | {cost['wall_s']:.1f} | {cost['rss_mb']:.0f} |"


def main():
    work = Work(arguments())
    matrices = work.args.matrices.split(",")
    lines = ["| method | matrix | " + " | ".join(METRICS) + " | macro F1@10 | biased P@1 | biased R@10 |", "|---" * 10 + "|"]
    for method in work.args.methods.split(","):
        for name in matrices:
            report = work.measured(name, method)
            values = [report["unbiased"][metric] for metric in [*METRICS, "macroF1@10"]]
            values += [report["biased"][metric] for metric in ["P@1", "R@10"]]
            lines.append(f"| {method} | {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    lines += ["", "| matrix | new pairs | hidden pairs found | recall | random | propagation | precision |", "|---" * 7 + "|"]
    for name in matrices:
        if found := work.pairs(name):
            shares = [found[key] for key in ["recall", "random", "propagation", "precision"]]
            lines.append(f"| {name} | {found['added']} | {found['found']} | " + " | ".join(f"{x:.4f}" for x in shares) + " |")
    lines += ["", "| generator | stage | CPU s | wall s | peak RSS MB |", "|---" * 5 + "|"]
    for generator in sorted({name.removesuffix("-calibrated") for name in matrices} - {"log", "propensity", "complete-rows"}):
        lines += work.costs(generator)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

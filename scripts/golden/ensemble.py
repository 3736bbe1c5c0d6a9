"""Makes crates/xmc-data/tests/golden/ensemble.json: predictions of three models merged by every rule, in numpy.

    pip install numpy
    python scripts/golden/ensemble.py

The formulas are those of PECOS' CsrEnsembler, on dense rows in 64 bits.
"""
import json
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[2] / "crates/xmc-data/tests/golden/ensemble.json"
MODELS, ROWS, LABELS = 3, 6, 15


def random_models(rng):
    """[model][row] of (label, score), best first; one row is empty, lengths differ."""
    models = []
    for m in range(MODELS):
        rows = []
        for i in range(ROWS):
            labels = rng.choice(LABELS, 0 if (m, i) == (1, 2) else rng.integers(2, 8), replace=False)
            scores = np.sort(rng.normal(0, 2, len(labels)).round(3))[::-1]
            rows.append([(int(l), float(np.float32(s))) for l, s in zip(labels, scores)])
        models.append(rows)
    return models


def dense(row, values):
    out = np.zeros(LABELS)
    for (label, _), value in zip(row, values):
        out[label] = value
    return out


def merge(rows, longest, rule):
    """rows: one of each model."""
    n, total = len(rows), np.zeros(LABELS)
    for i, row in enumerate(rows):
        s = np.array([score for _, score in row])
        rank = longest - np.arange(len(row))
        if rule == "average":
            total += dense(row, s)
        elif rule == "rank-average":
            total += dense(row, rank)
        elif rule == "sigmoid-average":
            total += dense(row, 1 / (1 + np.exp(-s)))
        elif rule == "softmax-average":
            total += dense(row, np.exp(s) / np.exp(s).sum())
        elif rule == "round-robin":
            total = np.maximum(total, dense(row, rank + (n - i) / (n + 1)))
    total /= n
    labels = sorted({label for row in rows for label, _ in row})
    return sorted(((l, float(total[l])) for l in labels), key=lambda e: (-np.float32(e[1]), e[0]))


def main():
    models = random_models(np.random.default_rng(3))
    longest = max(len(row) for rows in models for row in rows)
    rules = ["average", "rank-average", "sigmoid-average", "softmax-average", "round-robin"]
    merged = {rule: [merge(rows, longest, rule) for rows in zip(*models)] for rule in rules}
    OUT.write_text(json.dumps(dict(models=models, merged=merged)) + "\n")
    print(OUT)


if __name__ == "__main__":
    main()

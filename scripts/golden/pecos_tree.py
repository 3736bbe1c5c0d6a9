"""Makes crates/xmc-linear/tests/golden/pecos_tree.json: label trees of libpecos.

    pip install libpecos==1.2.8 "numpy<2" "scipy<1.14"
    python scripts/golden/pecos_tree.py

`shapes`: widths of all levels for many numbers of labels and settings. `codes`: groups of random rows, one thread.
Groups depend on sums in 32 bits, so the rows are few enough that no score is a near tie.
balanced_kmeans.json beside it comes from the specification: straight numpy, not made here.
"""
import itertools
import json
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from pecos.xmc import Indexer

OUT = Path(__file__).resolve().parents[2] / "crates/xmc-linear/tests/golden/pecos_tree.json"
SIZES = [2, 3, 4, 7, 10, 16, 33, 50, 64, 101, 250, 513, 1000, 1601, 3000, 5000]
SETTINGS = list(itertools.product([1, 2, 10, 100], [2, 3, 16, 32], [None, 1, 8]))


def chain(rows, **settings):
    """Matrices [children, parents] from the root down; None where libpecos refuses."""
    try:
        return Indexer.gen(sp.csr_matrix(rows), "hierarchicalkmeans", threads=1, **settings)
    except ValueError:
        return None


def shapes():
    cases = []
    for labels in SIZES:
        rows = np.random.default_rng(labels).normal(size=(labels, 4)).astype(np.float32)
        for max_leaf, splits, min_codes in SETTINGS:
            found = chain(rows, max_leaf_size=max_leaf, nr_splits=splits, min_codes=min_codes, kmeans_max_iter=1)
            widths = found and [c.shape[0] for c in found]
            cases.append([labels, max_leaf, splits, min_codes or 0, widths])
    return cases


def codes():
    cases = []
    for labels, features, max_leaf, spherical, seed in [
        (30, 6, 4, True, 0), (64, 8, 8, True, 7), (100, 12, 7, False, 1), (257, 10, 10, True, 123456789), (300, 10, 3, False, 5),
    ]:
        rng = np.random.default_rng(labels)
        rows = rng.normal(size=(labels, features)) * (rng.random((labels, features)) < 0.6)
        rows = rows.round(3).astype(np.float32)
        found = chain(rows, max_leaf_size=max_leaf, spherical=spherical, seed=seed)
        cases.append({
            "max_leaf_size": max_leaf, "spherical": spherical, "seed": seed,
            "rows": [[round(float(v), 3) for v in row] for row in rows],
            "codes": found[-1].tocsr().indices.tolist(),
        })
    return cases


def main():
    lines = ['{"shapes": [']
    lines.append(",\n".join(json.dumps(case) for case in shapes()))
    lines.append('], "codes": [')
    lines.append(",\n".join(json.dumps(case) for case in codes()))
    lines.append("]}")
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

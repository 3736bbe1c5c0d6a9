"""How good are predictions? One script for all programs: P, PSP and nDCG, in percent.

Usage: metrics.py DATA PREDICTIONS.npz

Rows without labels are skipped, filter pairs are dropped before ranking, ties go to the lower label id.
P@k = hits / k, mean over rows. nDCG@5 divides by the best DCG of min(5, labels of the row) hits.
PSP@k = sum over rows of gained 1/p, over sum of the best 1/p (a ratio of sums), with
p = 1 / (1 + C (n + B)^-A), C = (ln N - 1)(B + 1)^A, A = 0.55, B = 1.5, n = training rows of the label.
"""

import argparse

import numpy as np

import folder
import measure

A, B = 0.55, 1.5


def inverse_propensity(y_train):
    """1/p of every label, `[L]`."""
    counts = np.bincount(y_train.indices, minlength=y_train.shape[1])
    c = (np.log(y_train.shape[0]) - 1) * (B + 1) ** A
    return 1 + c * (counts + B) ** -A


def ranking(row, dropped):
    """Labels of a row of scores, best first, without those in `dropped`."""
    order = np.lexsort((row.indices, -row.data))
    return [label for label in row.indices[order] if label not in dropped]


def evaluate(predicted, y_test, y_train, pairs):
    weight = inverse_propensity(y_train)
    dropped = {}
    for row, label in pairs:
        dropped.setdefault(row, set()).add(label)
    discount = 1 / np.log2(np.arange(2, 7))
    precision, gained, best, ndcg = [], [], [], []
    for i in range(y_test.shape[0]):
        true = y_test.indices[y_test.indptr[i] : y_test.indptr[i + 1]]
        if not len(true):
            continue
        true_set = set(true)
        top = ranking(predicted[i], dropped.get(i, ()))[:5]
        hits = np.array([label in true_set for label in top] + [False] * (5 - len(top)))
        gain = np.zeros(5)
        gain[: len(top)] = weight[top]
        ideal = np.zeros(5)
        ideal[: min(5, len(true))] = np.sort(weight[true])[::-1][:5]
        precision.append(np.cumsum(hits) / np.arange(1, 6))
        gained.append(np.cumsum(hits * gain))
        best.append(np.cumsum(ideal))
        ndcg.append((hits * discount).sum() / discount[: min(5, len(true))].sum())
    p = 100 * np.mean(precision, axis=0)
    psp = 100 * np.sum(gained, axis=0) / np.sum(best, axis=0)
    figures = {f"P@{k}": float(p[k - 1]) for k in (1, 3, 5)}
    figures |= {f"PSP@{k}": float(psp[k - 1]) for k in (1, 3, 5)}
    return figures | {"nDCG@5": float(100 * np.mean(ndcg)), "rows": len(ndcg)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("predictions")
    args = parser.parse_args()
    measure.report(
        **evaluate(
            folder.load_path(args.predictions),
            folder.load(args.data, "Y.tst"),
            folder.load(args.data, "Y.trn"),
            folder.filter_pairs(args.data),
        )
    )

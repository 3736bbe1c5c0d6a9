"""Makes crates/xmc-data/tests/golden/metrics_{napkinxc,pyxclib}.json: random data scored by other people's code.

    pip install numpy scipy napkinxc          # 0.7.2
    python scripts/golden/metrics.py

napkinXC gives all metrics. pyxclib (repository kunaldahiya/pyxclib) has no package; its file is made only where
`import xclib` works. The committed one was made with its functions in xclib/evaluation/xc_metrics.py typed out again
outside this repository, with numpy in place of their compiled `topk`. pyxclib keeps nDCG in 32 bits, so it agrees to 1e-5 percent only.
metrics.json and propensity.json beside them come from the specification: straight numpy, not made here.
"""
import json
from pathlib import Path

import napkinxc.metrics as napkin
import numpy as np
import scipy.sparse as sp

OUT = Path(__file__).resolve().parents[2] / "crates/xmc-data/tests/golden"
KS = [1, 2, 3, 5, 10]
ROWS, LABELS, TRAIN, DEPTH = 60, 40, 300, 12


def skewed_rows(rng, n, low, high):
    """n sets of labels, label l with weight 1 / (1 + l)."""
    weights = 1 / (1 + np.arange(LABELS))
    sizes = rng.integers(low, high, n)
    return [sorted(rng.choice(LABELS, s, replace=False, p=weights / weights.sum()).tolist()) for s in sizes]


def random_case():
    rng = np.random.default_rng(5)
    train, truth = skewed_rows(rng, TRAIN, 1, 6), skewed_rows(rng, ROWS, 1, 8)
    truth[0] = [LABELS - 1]  # napkinXC's macro F1 divides by the largest label seen + 1
    predicted = []
    for y in truth:
        likely = rng.random(LABELS) + 0.8 * np.isin(np.arange(LABELS), y) * rng.random(LABELS)
        predicted.append(np.argsort(-likely, kind="stable")[: rng.integers(3, DEPTH + 1)].tolist())
    counts = np.bincount(np.concatenate(train), minlength=LABELS)
    return train, truth, predicted, counts.astype(int)


def of_napkinxc(train, truth, predicted):
    k = max(KS)
    inverse = napkin.Jain_et_al_inverse_propensity(sp.csr_matrix(indicator(train)), A=0.55, B=1.5)
    by_k = {
        "P": napkin.precision_at_k(truth, predicted, k=k),
        "R": napkin.recall_at_k(truth, predicted, k=k),
        "nDCG": napkin.ndcg_at_k(truth, predicted, k=k),
        "PSP": napkin.psprecision_at_k(truth, predicted, inverse, k=k),
        "PSnDCG": napkin.psndcg_at_k(truth, predicted, inverse, k=k),
        "coverage": napkin.coverage_at_k(truth, predicted, k=k),
    }
    metrics = {f"{name}@{i}": 100 * float(values[i - 1]) for name, values in by_k.items() for i in KS}
    for i in KS:
        top = [p[:i] for p in predicted]
        metrics[f"microF1@{i}"] = 100 * float(napkin.f1_measure(truth, top, average="micro"))
        metrics[f"macroF1@{i}"] = 100 * float(napkin.f1_measure(truth, top, average="macro"))
    return metrics


def indicator(rows):
    y = np.zeros((len(rows), LABELS))
    for i, labels in enumerate(rows):
        y[i, labels] = 1
    return y


def of_pyxclib(train, truth, predicted):
    import xclib.evaluation.xc_metrics as xc

    k = max(KS)
    inverse = xc.compute_inv_propesity(sp.csr_matrix(indicator(train)), 0.55, 1.5)
    y = sp.csr_matrix(indicator(truth))
    scores = sp.lil_matrix((len(truth), LABELS))
    for i, labels in enumerate(predicted):
        scores[i, labels] = np.arange(len(labels), 0, -1)
    scores = scores.tocsr()
    by_k = {
        "P": xc.precision(scores, y, k=k),
        "R": xc.recall(scores, y, k=k),
        "nDCG": xc.ndcg(scores, y, k=k),
        "PSP": xc.psprecision(scores, y, inverse, k=k),
        "PSnDCG": xc.psndcg(scores, y, inverse, k=k),
    }
    return {f"{name}@{i}": 100 * float(np.ravel(values)[i - 1]) for name, values in by_k.items() for i in KS}


def write(name, train, truth, predicted, counts, metrics):
    case = dict(num_labels=LABELS, num_train=len(train), train_counts=counts.tolist(), truth=truth, predicted=predicted)
    (OUT / name).write_text(json.dumps(dict(case, ks=KS, metrics=metrics)) + "\n")
    print(OUT / name)


def main():
    train, truth, predicted, counts = random_case()
    write("metrics_napkinxc.json", train, truth, predicted, counts, of_napkinxc(train, truth, predicted))
    try:
        metrics = of_pyxclib(train, truth, predicted)
    except ImportError as missing:
        print(f"metrics_pyxclib.json stays as it is: {missing}")
    else:
        write("metrics_pyxclib.json", train, truth, predicted, counts, metrics)


if __name__ == "__main__":
    main()

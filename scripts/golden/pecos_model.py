"""Tiny XR-Linear models of libpecos 1.2.8 and what it predicts with them.

Run in an environment with libpecos (bench/peers/setup makes one), from the root of the repository:
    python scripts/golden/pecos_model.py

Writes crates/xmc-linear/tests/golden/pecos/{X.npz, NAME/ (a model folder), NAME.json (predictions)}, and
NAME_mmap/, the same model in libpecos' memory-mapped form, for two of them.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from pecos.utils.cluster_util import ClusterChain
from pecos.xmc.base import HierarchicalKMeans, Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear.model import XLinearModel

OUT = Path("crates/xmc-linear/tests/golden/pecos")
ROWS, QUERIES, FEATURES, LABELS = 400, 6, 100, 84


def data(rng):
    """Every label owns a few features; a row mixes those of its labels with noise."""
    own = [rng.choice(FEATURES, 5, replace=False) for _ in range(LABELS)]
    x, y = np.zeros((ROWS, FEATURES), np.float32), np.zeros((ROWS, LABELS), np.float32)
    for i in range(ROWS):
        for label in {i % LABELS, *rng.integers(0, LABELS, 2).tolist()}:
            y[i, label] = 1
            x[i, rng.choice(own[label], 4)] += rng.random(4).astype(np.float32) + 0.2
        x[i, rng.integers(0, FEATURES, 3)] += 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return sp.csr_matrix(x), sp.csc_matrix(y)


def queries(x, rng):
    """Rows like those of the training part, one without features, one with a single feature."""
    rows = x[rng.choice(ROWS, QUERIES, replace=False)].tolil()
    rows[3] = 0
    rows[4] = 0
    rows[4, 7] = 1.0
    rows = rows.tocsr().astype(np.float32)
    rows.eliminate_zeros()
    return rows


def tree(x, y, seed=0, **shape):
    z = LabelEmbeddingFactory.create(y, x, method="pifa")
    settings = {"spherical": True, "seed": seed, "threads": 1, **shape}
    return Indexer.gen(z, train_params=HierarchicalKMeans.TrainParams.from_dict(settings))


def scattered(rng):
    """Two levels whose children are neighbours in neither; a node of the first level has a single child."""
    top = rng.permutation(np.arange(12) % 4)
    top[top == 3] = 0
    top[5] = 3
    leaf = rng.permutation(np.arange(LABELS) % 12)

    def matrix(parent, width):
        ones = np.ones(len(parent), np.float32)
        return sp.csc_matrix((ones, (np.arange(len(parent)), parent)), shape=(len(parent), width))

    return [matrix(np.zeros(4, int), 1), matrix(top, 4), matrix(leaf, 12)]


def train(x, y, chain, bias=1.0, post_processor="l3-hinge", threshold=0.5):
    if isinstance(chain, list):
        chain = ClusterChain(chain)
    settings = {"threads": 1, "bias": bias, "threshold": threshold}
    stored = {"beam_size": 10, "only_topk": 20, "post_processor": post_processor}
    return XLinearModel.train(x, y, C=chain, pred_kwargs=stored, **settings)


def rows(matrix):
    """Per row `[[label, score], ...]` in the order in which libpecos ranked them."""
    ends = zip(matrix.indptr, matrix.indptr[1:])
    return [[[int(j), float(f"{v:.9g}")] for j, v in zip(matrix.indices[a:b], matrix.data[a:b])] for a, b in ends]


def expected(folder, x, selected):
    """Predictions of the stored model for several beams and k, and of given (row, label) pairs."""
    model = XLinearModel.load(str(folder), is_predict_only=True)
    flat = XLinearModel.load(str(folder), is_predict_only=True, weight_matrix_type="CSC")
    top = [
        {"beam": beam, "k": k, "rows": rows(model.predict(x, beam_size=beam, only_topk=k, threads=1))}
        for beam, k in ((1, 5), (5, 10), (10, 5), (50, 10))
    ]
    stored = rows(model.predict(x, threads=1))
    pairs = rows(flat.predict(x, selected_outputs_csr=selected, threads=1))
    return {"stored_settings": stored, "top": top, "selected": pairs}


def main():
    rng = np.random.default_rng(20)
    x, y = data(rng)
    test = queries(x, rng)
    selected = sp.random(QUERIES, LABELS, density=0.04, format="csr", dtype=np.float32, random_state=3)
    selected.data[:] = 1
    deep = {"nr_splits": 2, "min_codes": 2, "max_leaf_size": 6}
    wide = {"nr_splits": 4, "min_codes": 4, "max_leaf_size": 10}
    models = {
        "default": train(x, y, tree(x, y, **wide)),
        "sigmoid_deep": train(x, y, tree(x, y, **deep), post_processor="sigmoid"),
        "noop": train(x, y, tree(x, y, seed=1, **wide), post_processor="noop"),
        "no_bias": train(x, y, tree(x, y, **wide), bias=-1.0, threshold=0.7),
        "half_bias_log": train(x, y, tree(x, y, **wide), bias=0.5, post_processor="log-l3-hinge"),
        "one_level": train(x, y, None),
        "scattered": train(x, y, scattered(rng)),
        "pruned": train(x, y, tree(x, y, **wide)),
    }
    # Takes single labels away, and all labels of some inner nodes.
    models["pruned"].set_output_constraint([label for label in range(LABELS) if label % 3 and label > 30])

    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    sp.save_npz(OUT / "X.npz", test, compressed=False)
    for name, model in models.items():
        model.save(str(OUT / name))
        keep = selected
        if name == "pruned":
            alive = np.zeros(LABELS, bool)
            alive[model.model.model_chain[-1].C.indices] = True
            keep = (selected @ sp.diags(alive.astype(np.float32))).tocsr()
            keep.eliminate_zeros()  # libpecos crashes when asked for a label that was pruned
        answer = expected(OUT / name, test, keep)
        (OUT / f"{name}.json").write_text(json.dumps(answer, separators=(",", ":")) + "\n", encoding="utf-8")
        if name in ("scattered", "pruned"):
            XLinearModel.compile_mmap_model(str(OUT / name), str(OUT / f"{name}_mmap"))
        print(name, [m.W.shape for m in model.model.model_chain], [m.W.nnz for m in model.model.model_chain])


if __name__ == "__main__":
    main()

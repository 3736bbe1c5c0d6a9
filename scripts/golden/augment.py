"""Writes arrays and matrices of an augmentation as numpy and scipy save them.

npy/{i4,f4,i8}.npy and npy/tokens.dat for crates/xmc-data/src/formats/npy/arrays.rs, and augment/ for
crates/xmc/src/augment: the worked example of 6 rows and 3 labels, with the matrix that scipy computes for it by the rule
clip(Y + A, 0, 1), A[target, source] = max (cosine + 1) / 2 of those that are at least tau = 0.8, k = 3.
"""

import pathlib

import numpy as np
import scipy.sparse as sp

CRATES = pathlib.Path(__file__).resolve().parents[2] / "crates"
NPY = CRATES / "xmc-data/tests/golden/npy"
AUGMENT = CRATES / "xmc/tests/augment"


def arrays():
    NPY.mkdir(parents=True, exist_ok=True)
    np.save(NPY / "i4.npy", np.array([[0, 7, -1], [2**31 - 1, 2, -1]], np.int32))
    np.save(NPY / "f4.npy", np.array([[0.9, 0.7, 0.0], [1.0, 0.6, -0.25]], np.float32))
    np.save(NPY / "i8.npy", np.array([0, 2, 2, 5_000_000_000], np.int64))
    tokens = np.memmap(NPY / "tokens.dat", np.int64, "w+", shape=(2, 4))
    tokens[:] = [[101, 7, 102, 0], [101, 30_000, 8, 102]]
    tokens.flush()


def worked_example():
    AUGMENT.mkdir(parents=True, exist_ok=True)
    starts = np.array([0, 2, 2, 5])
    ids = np.array([[0, 1, 2], [1, 3, 0], [4, 5, 0], [5, 4, 2], [2, 0, 1]], np.int32)
    cosines = np.array([[0.9, 0.7, 0.2], [0.8, 0.61, 0.5], [0.6, 0.59, 0.1], [0.95, 0.3, 0.2], [0.1, 0, -0.2]], np.float32)
    y = sp.csr_matrix((np.ones(5, np.float32), ([0, 1, 2, 3, 4], [0, 0, 1, 2, 2])), shape=(6, 3))
    dense = y.toarray()
    sigma = (cosines + np.float32(1)) / np.float32(2)
    a = np.zeros_like(dense)
    for source in range(3):
        for text in range(starts[source], starts[source + 1]):
            for target, value in zip(ids[text], sigma[text]):
                if value >= np.float32(0.8):
                    a[target, source] = max(a[target, source], value)
    np.save(AUGMENT / "start_indices.npy", starts)
    np.save(AUGMENT / "ngbr_indices_mat.npy", ids)
    np.save(AUGMENT / "ngbr_scores_mat.npy", cosines)
    sp.save_npz(AUGMENT / "trn_X_Y.npz", y)
    sp.save_npz(AUGMENT / "trn_X_Y_skim.npz", sp.csr_matrix(np.clip(dense + a, 0, 1)))
    (AUGMENT / "raw_rewrites.txt").write_text("first\nsecond\nthird\nfourth\nfifth\n")


if __name__ == "__main__":
    arrays()
    worked_example()

"""Where are the rows, labels and filter pairs of a data folder?"""

import zipfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp


def load(folder, name):
    """Matrix `name` (`X.trn`, `Y.tst`, ...) of a data folder."""
    return load_path(Path(folder) / f"{name}.npz")


def load_path(path):
    """A scipy npz file as sorted f32 CSR."""
    matrix = sp.load_npz(path).tocsr().astype(np.float32)
    matrix.sort_indices()
    return matrix


def save(path, matrix):
    """Writes CSR as scipy does with `compressed=False`; every program here can map or read it directly."""
    sp.save_npz(path, matrix, compressed=False)
    with zipfile.ZipFile(path) as members:
        assert all(m.compress_type == zipfile.ZIP_STORED for m in members.infolist())


def filter_pairs(folder):
    """(row, label) pairs of the test part that must not count, `[pairs, 2]`."""
    path = Path(folder) / "filter_labels_test.txt"
    if not path.exists():
        return np.empty((0, 2), dtype=np.int64)
    return np.loadtxt(path, dtype=np.int64, ndmin=2)


def lines(path):
    """Lines of a text file, cut at \\n only: texts may hold other characters that Python takes for line ends."""
    with open(path, encoding="utf-8", newline="\n") as file:
        return [line.rstrip("\n") for line in file]

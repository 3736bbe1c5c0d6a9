"""Writes small sparse matrices in every way scipy and numpy save them, for crates/xmc-data/tests/npz_variants.rs.

Every file holds the same 4 x 5 matrix (or, named `bool`, its pattern), so the test needs one expected value:

    row 0: 1.5 in column 0, -2 in column 3
    row 1: empty
    row 2: 4 in column 1, 0.25 in column 2, 8 in column 4
    row 3: 3 in column 0
"""

import io
import pathlib
import sys
import zipfile

import numpy as np
import scipy.sparse as sp

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/xmc-data/tests/golden/npz"
ROW = np.array([0, 0, 2, 2, 2, 3])
COL = np.array([0, 3, 1, 2, 4, 0])
DATA = np.array([1.5, -2, 4, 0.25, 8, 3])
SHAPE = (4, 5)


def save(name, members, compressed=False):
    (np.savez_compressed if compressed else np.savez)(OUT / f"{name}.npz", **members)


def compressed_members(m, index=np.int32, data=np.float32, format=None):
    return {
        "indices": m.indices.astype(index),
        "indptr": m.indptr.astype(index),
        "format": m.format.encode("ascii") if format is None else format,
        "shape": m.shape,
        "data": m.data.astype(data),
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    coo = sp.coo_matrix((DATA, (ROW, COL)), shape=SHAPE)
    csr, csc = coo.tocsr(), coo.tocsc()

    # As scipy saves them: matrices and arrays, deflated and stored.
    for name, m in [("csr", csr), ("csc", csc), ("coo", coo)]:
        sp.save_npz(OUT / f"{name}_deflated.npz", m)
        sp.save_npz(OUT / f"{name}_stored.npz", m, compressed=False)
    sp.save_npz(OUT / "csr_array.npz", sp.csr_array(csr))

    # Types of indices and values.
    save("csr_i8_f4", compressed_members(csr, index=np.int64))
    save("csr_u4_f8", compressed_members(csr, index=np.uint32, data=np.float64))
    save("csc_i8_f8", compressed_members(csc, index=np.int64, data=np.float64))
    save("csr_bool", compressed_members(csr, data=bool))
    save("csr_int_values", compressed_members((csr * 4).tocsr(), data=np.int64))
    save("csr_big_endian", compressed_members(csr, index=">i4", data=">f4"))

    # The format as text and as bytes.
    save("csr_unicode_format", compressed_members(csr, format="csr"))
    save("csr_array_format", compressed_members(csr, format=np.array(["csr"])))

    # Rows in any order, entries repeated: they add up.
    unsorted = csr.copy()
    for r in range(SHAPE[0]):
        a, b = unsorted.indptr[r], unsorted.indptr[r + 1]
        unsorted.indices[a:b] = unsorted.indices[a:b][::-1].copy()
        unsorted.data[a:b] = unsorted.data[a:b][::-1].copy()
    save("csr_unsorted", compressed_members(unsorted))
    twice = sp.csr_matrix((np.repeat(DATA / 2, 2), np.repeat(csr.indices, 2), csr.indptr * 2), shape=SHAPE)
    save("csr_repeated", compressed_members(twice))
    half = {"row": np.tile(ROW[::-1], 2), "col": np.tile(COL[::-1], 2), "data": np.tile(DATA[::-1] / 2, 2)}
    save("coo_repeated", half | {"format": b"coo", "shape": SHAPE}, compressed=True)

    # Header of numpy's format 2.0, and a member order of its own.
    with zipfile.ZipFile(OUT / "csr_version2.npz", "w") as z:
        for name, array in reversed(compressed_members(csr).items()):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array), version=(2, 0))
            z.writestr(f"{name}.npy", buffer.getvalue())

    # Without entries.
    sp.save_npz(OUT / "empty.npz", sp.csr_matrix(SHAPE, dtype=np.float32))

    # What must be refused.
    sp.save_npz(OUT / "refused_dia.npz", csr.todia())
    sp.save_npz(OUT / "refused_bsr.npz", csr.tobsr())
    bad = compressed_members(csr)
    save("refused_negative", bad | {"indices": np.where(csr.indices == 1, -1, csr.indices).astype(np.int32)})
    save("refused_past_shape", bad | {"indices": np.where(csr.indices == 1, 5, csr.indices).astype(np.int32)})
    save("refused_nan", bad | {"data": np.where(csr.data == 4, np.nan, csr.data).astype(np.float32)})
    save("refused_complex", bad | {"data": csr.data.astype(np.complex64)})
    save("refused_float_indices", bad | {"indices": csr.indices.astype(np.float32)})
    save("refused_indptr_falls", bad | {"indptr": np.array([0, 2, 5, 2, 6], dtype=np.int32)})
    save("refused_indptr_short", bad | {"indptr": csr.indptr[:-1]})
    save("refused_values_short", bad | {"data": csr.data[:-1].astype(np.float32)})
    save("refused_shape_of_three", bad | {"shape": (4, 5, 1)})
    save("refused_negative_shape", bad | {"shape": (-4, 5)})
    save("refused_dense", {"arr_0": csr.toarray()})
    without = dict(bad)
    del without["indptr"]
    save("refused_no_indptr", without)
    save("refused_huge_rows", half | {"format": b"coo", "shape": (2**60, 5)})


if __name__ == "__main__":
    sys.exit(main())

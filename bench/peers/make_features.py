"""Makes the one feature matrix that every program reads.

Usage: make_features.py DATA OUT

Copies a data folder (raw/, Y.trn.npz, Y.tst.npz, filters) to OUT and adds X.trn.npz and X.tst.npz: tf-idf of
lower-cased word unigrams, min_df 2, at most 300,000 features, rows of unit l2 norm. Also writes trn.xmc.txt, the
training part as XMC-repository text, for programs that read nothing else. Prints what scikit-learn needed.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import folder
import measure


def write_xmc_text(path, x, y):
    """`rows features labels`, then `label,label feature:value ...` a row."""
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{x.shape[0]} {x.shape[1]} {y.shape[1]}\n")
        for i in range(x.shape[0]):
            labels = ",".join(map(str, y[i].indices))
            row = x[i]
            file.write(labels + "".join(f" {j}:{v:.7g}" for j, v in zip(row.indices, row.data)) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "raw").mkdir(exist_ok=True)
    for source in [*args.data.glob("raw/*"), *args.data.glob("Y.*.npz"), *args.data.glob("filter_labels_*.txt")]:
        shutil.copyfile(source, args.out / source.relative_to(args.data))

    train, test = (folder.lines(args.data / f"raw/{part}_X.txt") for part in ("trn", "tst"))
    vectorizer = TfidfVectorizer(min_df=2, max_features=300_000, dtype=np.float32)
    with measure.Clock() as fit:
        x_train = vectorizer.fit_transform(train)
    with measure.Clock() as transform:
        x_test = vectorizer.transform(test)
    for name, x in (("X.trn", x_train), ("X.tst", x_test)):
        x.sort_indices()
        folder.save(args.out / f"{name}.npz", x)
    write_xmc_text(args.out / "trn.xmc.txt", x_train, folder.load(args.out, "Y.trn"))
    measure.report(
        train_rows=len(train),
        test_rows=len(test),
        features=x_train.shape[1],
        train_nnz=int(x_train.nnz),
        sklearn_fit_cpu_s=fit.cpu,
        sklearn_transform_cpu_s=transform.cpu,
    )


if __name__ == "__main__":
    main()

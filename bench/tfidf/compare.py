"""CPU seconds of tf-idf, xmc beside scikit-learn's TfidfVectorizer, one thread each, turn about.

    cargo build --release -p xmc-data --example tfidf_cpu
    python bench/tfidf/compare.py target/release/examples/tfidf_cpu DATA/raw [ROUNDS]

needs scikit-learn 1.9. Prints the median of the rounds and of the ratios; both sides must find the same features.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from sklearn.feature_extraction.text import TfidfVectorizer

CONFIGS = {
    "words": {},
    "words and pairs": {"ngram_range": [1, 2]},
    "char_wb 2-4": {"analyzer": "char_wb", "ngram_range": [2, 4]},
}


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def sklearn_cpu(config, train, test):
    vectorizer = TfidfVectorizer(**{k: tuple(v) if k == "ngram_range" else v for k, v in config.items()})
    start = time.process_time()
    x = vectorizer.fit_transform(train)
    fitted = time.process_time()
    z = vectorizer.transform(test)
    done = time.process_time()
    return {"fit": fitted - start, "transform": done - fitted, "features": x.shape[1], "stored": x.nnz + z.nnz}


def xmc_cpu(binary, config, folder):
    command = [binary, folder / "trn_X.txt", folder / "tst_X.txt", json.dumps(config)]
    return json.loads(subprocess.check_output(command, env={**os.environ, "RAYON_NUM_THREADS": "1"}))


if __name__ == "__main__":
    binary, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    train, test = lines(folder / "trn_X.txt"), lines(folder / "tst_X.txt")
    print("| features | step | texts | scikit-learn CPU s | xmc CPU s | ratio | xmc texts per CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name, config in CONFIGS.items():
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(sklearn_cpu(config, train, test))
            ours.append(xmc_cpu(binary, config, folder))
        for key in ("features", "stored"):
            assert theirs[0][key] == ours[0][key], (name, key, theirs[0][key], ours[0][key])
        for step, texts in (("fit", len(train)), ("transform", len(test))):
            a, b = (statistics.median(run[step] for run in runs) for runs in (theirs, ours))
            ratio = statistics.median(x[step] / y[step] for x, y in zip(theirs, ours))
            print(f"| {name} | {step} | {texts} | {a:.2f} | {b:.3f} | {ratio:.1f} | {texts / b:,.0f} |")

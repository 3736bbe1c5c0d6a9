"""Makes data/packages.csv.gz: the bundled training rows of at most 220 characters, as a table of texts and tags.

    pip install scipy
    python scripts/packages_csv.py

needs zstdcat. The README walks through this file.
"""
import csv
import gzip
import io
import subprocess
from pathlib import Path

import scipy.sparse as sp

DATA = Path(__file__).resolve().parents[1] / "data"
LONGEST = 220

folder = DATA / "debian-debtags"
names = (folder / "raw/Y.txt").read_text().splitlines()
tags = sp.load_npz(folder / "Y.trn.npz").tocsr()
packed = folder / "raw/trn_X.txt.zst"
texts = subprocess.run(["zstdcat", packed], capture_output=True, text=True, check=True).stdout.split("\n")

table = io.StringIO()
rows = csv.writer(table, lineterminator="\n")
rows.writerow(["text", "tags"])
for i in range(tags.shape[0]):
    if len(texts[i]) <= LONGEST:
        rows.writerow([texts[i], "; ".join(names[label] for label in tags[i].indices)])
# No time stamp, so that the same rows give the same bytes.
(DATA / "packages.csv.gz").write_bytes(gzip.compress(table.getvalue().encode(), 9, mtime=0))

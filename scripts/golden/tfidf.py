"""Expected tf-idf features, from scikit-learn and libpecos.

    python scripts/golden/tfidf.py crates/xmc-data/tests/golden/text

needs scikit-learn 1.9 and libpecos 1.2.8. Rows are written as {term: value} (hashing: {column: value}); zeros that
libpecos stores are left out.
"""
import json
import pathlib
import sys
import tempfile

from pecos.utils.featurization.text.vectorizers import Tfidf
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer

TRAIN = [
    "The sea and the mountain: the sea, the SEA!",
    "A mountain is no sea; rivers run to the sea",
    "rivers_run 2 the x-ray of x y z, e.g. U.S.A.",
    "Der Fluß fließt in die große See, GROẞE STRAẞE",
    "İstanbul ve ISPARTA, ılık ığdır İ I i",
    "ΟΔΟΣ ΣΟΦΙΑΣ, ὈΔΥΣΣΕΎΣ Ο ΣΟΦΌΣ Σ ΑΣ' ΑΣ'Α",
    "海と山 中文字 の 東京 2024年",
    "أرقام ٣٤٥ و ۱۲ बिल्ली हिन्दी ไทย",
    "cafe\u0301 café CAFÉ naïve naive Ångström ﬁne ﬂow",
    "emoji 😀 mountain🏔sea _under_score __ _ a_b",
    "tabs\tand  two   spaces\u00a0no-break\u2003em\x1cfs",
    "½ cup ² ³ Ⅷ ⅷ ™ ℡ ①② Ⓐⓑ ªº µm",
    "",
    "a",
    "   ",
    "ab cd",
    "ab",
    "the the the the rivers rivers sea",
    "don't can't it's 'quoted' o’clock l·l",
    "ДОМ дом Дома ёлка ЁЛКА ĲSSEL ǅ ß ẞ ŉ",
    "x" * 40 + " " + "longword" * 4 + " mountain pass",
    "sea sea sea mountain mountain river river river river",
]
TEST = [
    "A new SEA with the old mountain and the sea",
    "nothing-known-here, qqq",
    "ΣΟΦΙΑΣ İstanbul Straße STRASSE café ٣٤٥ 中文字 中文",
    "ab  cd\tab",
    "",
    "the rivers run, rivers_run 😀 x-ray",
]

SKLEARN = [
    ("word", {}, {}),
    ("words_and_pairs", {"ngram_range": [1, 2]}, {}),
    ("pairs_and_triples", {"ngram_range": [2, 3]}, {}),
    ("char", {"analyzer": "char", "ngram_range": [2, 3]}, {}),
    ("char_single", {"analyzer": "char"}, {}),
    ("char_wb", {"analyzer": "char_wb", "ngram_range": [2, 4]}, {}),
    ("char_wb_long", {"analyzer": "char_wb", "ngram_range": [4, 6]}, {}),
    ("sublinear", {"sublinear_tf": True}, {}),
    ("binary", {"binary": True}, {}),
    ("sublinear_binary", {"sublinear_tf": True, "binary": True, "ngram_range": [1, 2]}, {}),
    ("min_df_count", {"min_df": 2}, {}),
    ("min_df_share", {"min_df": 0.1}, {}),
    ("max_df_count", {"max_df": 3}, {}),
    ("max_df_share", {"max_df": 0.15, "min_df": 2}, {}),
    ("max_features", {"max_features": 4}, {}),
    ("strip_accents", {"strip_accents": True}, {"strip_accents": "unicode"}),
    ("strip_accents_char", {"strip_accents": True, "analyzer": "char", "ngram_range": [3, 3]},
     {"strip_accents": "unicode"}),
    ("case_kept", {"lowercase": False}, {}),
    ("l1", {"norm": "l1"}, {}),
    ("no_norm", {"norm": "none"}, {"norm": None}),
    ("no_idf", {"idf": "none"}, {"use_idf": False, "idf": None}),
    ("idf_not_smoothed", {"smooth_idf": False}, {}),
    ("stop_words", {"stop_words": ["the", "and", "сафе"], "ngram_range": [1, 2]}, {}),
]
HASHING = [
    ("hashing", {"n_features": 1024}),
    ("hashing_odd", {"n_features": 37, "ngram_range": [1, 2]}),
    ("hashing_unsigned", {"n_features": 64, "alternate_sign": False, "norm": "l1"}),
    ("hashing_binary", {"n_features": 4096, "binary": True, "analyzer": "char_wb", "ngram_range": [3, 3]}),
]
PECOS = [
    ("word", {}, {}),
    ("words_and_pairs", {"ngram_range": [1, 2]}, {}),
    ("limits", {"ngram_range": [1, 2], "min_df": 2, "max_df": 4}, {"min_df_cnt": 2, "max_df_cnt": 4}),
    ("max_features", {"ngram_range": [1, 2], "max_features": 9}, {"max_feature": 9}),
    ("max_features_char", {"analyzer": "char", "ngram_range": [1, 3], "max_features": 30}, {"max_feature": 30}),
    ("truncated", {"truncate_length": 3}, {}),
    ("sublinear_l1", {"sublinear_tf": True, "norm": "l1"}, {}),
    ("binary_plus_one", {"binary": True, "add_one_idf": True}, {}),
    ("not_smoothed", {"smooth_idf": False}, {}),
    ("no_idf", {"idf": "none"}, {"use_idf": False}),
    ("char", {"analyzer": "char", "ngram_range": [1, 2]}, {}),
]


def rows(x, names):
    x.sort_indices()
    return [
        {str(names[j]): float(f"{v:.9g}") for j, v in zip(x.indices[a:b], x.data[a:b]) if v != 0}
        for a, b in zip(x.indptr, x.indptr[1:])
    ]


def known(config, changes, unknown):
    kwargs = {k: tuple(v) if k == "ngram_range" else v for k, v in config.items()}
    kwargs.update(changes)
    return {k: v for k, v in kwargs.items() if k not in unknown}


def sklearn_case(name, config, changes):
    vectorizer = TfidfVectorizer(**known(config, changes, {"idf"}))
    x = vectorizer.fit_transform(TRAIN)
    names = vectorizer.get_feature_names_out()
    return {"name": name, "config": config, "train": rows(x, names), "test": rows(vectorizer.transform(TEST), names)}


def hashing_case(name, config):
    vectorizer = HashingVectorizer(**known(config, {}, set()))
    columns = range(config["n_features"])
    config = {"kind": "hashing", **config}
    return {"name": name, "config": config, "train": rows(vectorizer.transform(TRAIN), columns),
            "test": rows(vectorizer.transform(TEST), columns)}


def pecos_case(name, config, changes):
    unknown = {"min_df", "max_df", "max_features", "idf"}
    model = Tfidf.train(TRAIN, {**known(config, changes, unknown), "threads": 1})
    config = {"preset": "libpecos", **config}
    names = pecos_names(model, config.get("analyzer", "word"))
    return {"name": name, "config": config, "train": rows(model.predict(TRAIN, threads=1), names),
            "test": rows(model.predict(TEST, threads=1), names)}


def pecos_names(model, analyzer):
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        base = pathlib.Path(folder) / "0.base"
        vocab = (base / "tokenizer" / "vocab.txt").read_bytes().decode("utf-8").split("\n")[1:]
        words = dict(line.split("\t", 1) for line in vocab if line)
        names = {}
        lines = (base / "vectorizer" / "tfidf-model.txt").read_text().split("\n")[1:]
        for line in filter(None, lines):
            column, _, _, tokens = line.split("\t")
            names[int(column)] = (" " if analyzer == "word" else "").join(words[t] for t in tokens.split())
    return names


def write(path, cases):
    document = {"train": TRAIN, "test": TEST, "cases": cases}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "sklearn.json", [sklearn_case(*case) for case in SKLEARN] + [hashing_case(*case) for case in HASHING])
    write(out / "libpecos.json", [pecos_case(*case) for case in PECOS])

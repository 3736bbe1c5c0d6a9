"""Makes crates/xmc-nn/tests/golden/tokenizer/: a tiny WordPiece tokenizer, 200 varied texts and their ids.

    pip install transformers
    python scripts/golden/tokenizer.py [ENCODER]

ENCODER is a folder with all-MiniLM-L6-v2 (scripts/fetch-encoder); with it the ids of 50 of the texts under its
tokenizer are made too (minilm.json).
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, BertTokenizerFast

OUT = Path(__file__).resolve().parents[2] / "crates/xmc-nn/tests/golden/tokenizer"
MAX_LEN = 24
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the of and sea moun river law tax water food trade europe market council agree ment animal health fish fishery
import export regul ation milk wine price forest energy nuclear coal steel train label query text data learn ing er est
große strasse muller cafe naive""".split()


def vocabulary():
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = SPECIAL + list(letters + "0123456789.,;:!?-'\"()/&%+#@") + ["##" + c for c in letters + "0123456789"]
    pieces += WORDS + ["##" + w for w in ("tain", "ment", "ation", "ing", "er", "est", "s", "ed", "ly", "ery")]
    pieces += list("海山川法律水の東京") + ["ß", "##ß", "я", "##я", "вода", "α", "##α"]
    return list(dict.fromkeys(pieces))


def texts():
    odd = [
        "", " ", "\t\n\r", "a", "A", "The SEA and the Mountain.", "agreement-regulation", "Café NAÏVE Müller Straße",
        "cafe\u0301 nai\u0308ve", "海山川法律", "水の law 東京tax", "вода Вода ВОДА", "😀 sea 🏔️ mountain 👩‍👩‍👧", "🇪🇺europe",
        "\u0000null\u0001byte", "zero\u200bwidth", "non\u00a0breaking", "soft\u00adhyphen", "right\u202eleft", "\ufeffbom",
        "[CLS] inside [SEP] of [MASK] text [UNK] [PAD]", "[cls] [Sep]", "a" * 99, "a" * 100, "a" * 101, "sea" * 300,
        "ΑΣ ας ΑΣΣ", "İstanbul ı I i", "ﬁsh ﬂow", "½ ² ℃ Ⅷ", "१२३ ٣٤", "مرحبا بالعالم", "שלום", "ภาษาไทย", "한국어 조선",
        "....", "!?!?", "a.b,c;d", "e-mail@example.org", "100%+5#7", "don't 'quote' \"it\"", "C++ & C#", "\\ / | ~ ^ `",
        "sea\u2028line\u2029paragraph", "\ufffdreplacement", "tab\tbetween\twords", "x\u0300\u0301\u0302y", "ｆｕｌｌ ｗｉｄｔｈ",
        "\U0001d54f\U0001d550 math", "豈 compat", "\U00020000 extension",
    ]
    rng = random.Random(7)
    syllables = WORDS + odd[4:16] + ["tion", "q", "xyz", "42", ",", ".", "—", "é", "ß", "水"]
    joins = ["", " ", "  ", "-"]
    while len(odd) < 195:
        n = rng.choice([1, 3, 6, 12, 25])
        odd.append("".join(rng.choice(syllables) + rng.choice(joins) for _ in range(n)))
    # Longer than is looked at first, with and without enough words there.
    odd += [" ".join(rng.choice(WORDS) for _ in range(4000)), "x" * 5000 + " sea and tax", " " * 3000 + "sea"]
    odd += ["海" * 2000, ("a" * 150 + " ") * 40 + "the sea and the river"]
    return odd


def dump(path, value):
    rows = ",\n".join(json.dumps(row, ensure_ascii=True) for row in value)
    path.write_text(f"[\n{rows}\n]\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    vocab = {piece: i for i, piece in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.decoder = decoders.WordPiece()
    # As released models do: padding and another length are stored, and must not matter.
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(40)
    tokenizer.save(str(OUT / "tokenizer.json"))
    (OUT / "vocab.txt").write_text("\n".join(vocab) + "\n")

    lines = texts()
    dump(OUT / "texts.json", lines)
    hf = BertTokenizerFast(tokenizer_file=str(OUT / "tokenizer.json"))
    dump(OUT / "ids.json", [hf(line, truncation=True, max_length=MAX_LEN)["input_ids"] for line in lines])
    cased = Tokenizer.from_file(str(OUT / "tokenizer.json"))
    cased.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    cased.no_padding()
    cased.enable_truncation(MAX_LEN)
    dump(OUT / "cased.json", [cased.encode(line).ids for line in lines])
    if len(sys.argv) > 1:
        minilm = AutoTokenizer.from_pretrained(sys.argv[1])
        chosen = lines[:45] + lines[-5:]
        dump(OUT / "minilm.json", [minilm(line, truncation=True, max_length=64)["input_ids"] for line in chosen])


if __name__ == "__main__":
    main()

"""Makes crates/xmc-nn/tests/golden/quantised.json: blocks of every format with the weights that others unpack.

    pip install gguf numpy
    python scripts/golden/quantised.py

Blocks of GGUF are random bytes with small scales, unpacked by the package gguf. What gguf packs itself is packed from
random weights too, so that our codes can be compared with its. NF4 is written out here after the paper and the layout
of bitsandbytes, in numpy.
"""
import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

OUT = Path(__file__).resolve().parents[2] / "crates/xmc-nn/tests/golden/quantised.json"
RNG = np.random.default_rng(6)
# Name, bytes of a block, weights of a block, where f16 scales are.
BLOCKS = [
    ("Q8_0", T.Q8_0, 34, 32, [0]),
    ("Q4_0", T.Q4_0, 18, 32, [0]),
    ("Q4_1", T.Q4_1, 20, 32, [0, 2]),
    ("Q4_K", T.Q4_K, 144, 256, [0, 2]),
    ("Q6_K", T.Q6_K, 210, 256, [208]),
]
LEVELS = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], dtype=np.float32)


def bits(values):
    """f32 as their bits, which JSON keeps."""
    return np.asarray(values, np.float32).view(np.uint32).ravel().tolist()


def dynamic():
    levels = []
    for e in range(7):
        bounds = np.linspace(0.1, 1, 2**e + 1, dtype=np.float32)
        middles = (bounds[:-1] + bounds[1:]) / 2
        levels += (10.0 ** (e - 6) * middles.astype(np.float64)).tolist()
        levels += (-(10.0 ** (e - 6)) * middles.astype(np.float64)).tolist()
    return np.sort(np.array(levels + [0.0, 1.0])).astype(np.float32)


def nearest(levels, x):
    return np.abs(x[..., None] - levels).argmin(-1)


def nf4(weights):
    """Codes, scales, and both as they come back with double quantisation."""
    blocks = weights.reshape(-1, 64)
    scale = np.abs(blocks).max(1)
    codes = nearest(LEVELS, blocks / scale[:, None])
    offset = np.float32(scale.astype(np.float64).mean())
    rest = scale - offset
    outer = np.array([np.abs(part).max() for part in np.split(rest, range(256, len(rest), 256))], np.float32)
    each = np.repeat(outer, 256)[: len(rest)]
    again = dynamic()[nearest(dynamic(), rest / each)] * each + offset
    single, double = LEVELS[codes] * scale[:, None], LEVELS[codes] * again[:, None]
    flat = codes.ravel()
    return (flat[0::2] << 4 | flat[1::2]).tolist(), bits(single), bits(double)


def main():
    result = {"blocks": [], "packed": []}
    for name, kind, size, weights, scales in BLOCKS:
        count = 2 if weights == 256 else 4
        raw = RNG.integers(0, 256, (count, size), dtype=np.uint8)
        for at in scales:
            raw[:, at:at + 2] = RNG.normal(0, 0.02, count).astype(np.float16).view(np.uint8).reshape(count, 2)
        values = quants.dequantize(raw.reshape(1, -1), kind)
        result["blocks"].append(
            {"format": name, "cols": count * weights, "bytes": raw.ravel().tolist(), "bits": bits(values)})
    weights = RNG.normal(0, 0.05, 4 * 64).astype(np.float32)
    weights[32:64] = 0
    weights[70] = -0.0
    for name, kind, *_ in BLOCKS[:3]:
        raw = quants.quantize(weights.reshape(1, -1), kind)
        result["packed"].append({"format": name, "bytes": raw.ravel().tolist()})
    result["weights"] = bits(weights)
    # A formula that both sides can compute, so that 300 scales of blocks need not be stored with their weights.
    i = np.arange(64 * 300, dtype=np.uint64)
    uniform = ((i * 2654435761 % 2**32) >> 8).astype(np.float32) / np.float32(2**24) - np.float32(0.5)
    many = uniform * (1 + i // 64 % 7).astype(np.float32)
    codes, single, double = nf4(many)
    result["nf4"] = {"codes": codes[:64] + codes[-64:], "single": single[:64], "double": double[:64] + double[-64:]}
    result["dynamic"] = bits(dynamic())
    OUT.write_text(json.dumps(result) + "\n")


main()

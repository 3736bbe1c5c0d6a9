#!/usr/bin/env python3
"""Golden files for crates/xmc-nn/tests/encoders.rs: small random encoders of every family and pooling in PyTorch.

    python scripts/golden/encoders.py                      # writes crates/xmc-nn/tests/golden/encoders/*.safetensors
    python scripts/golden/encoders.py --encoder DIR        # also DIR/golden_embeddings.safetensors, of a real encoder

Needs torch, transformers and safetensors (made with 2.15, 5.23 and 0.8). Each file holds config.json as metadata and

    param.NAME   parameters in the names of the family          ids, lengths   the packed batch
    grad.NAME    gradients of loss = sum(weight * embeddings)    embeddings     [b, p], pooled, projected, normalised
    step.NAME    parameters after three AdamW steps              weight         [b, p]

Sequences are padded and masked here and packed there: equal numbers mean that padding was never needed.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (BertConfig, BertModel, DistilBertConfig, DistilBertModel, MPNetConfig, MPNetModel,
                          RobertaConfig, RobertaModel)

GOLDEN = Path(__file__).parents[2] / "crates/xmc-nn/tests/golden/encoders"
LENGTHS = [5, 1, 12, 3, 40, 7]
VOCAB, HIDDEN, HEADS, INNER = 60, 32, 4, 48
BERT = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=HEADS,
            intermediate_size=INNER, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def families():
    """(name, model, pooling, width of the projection or 0)"""
    return [
        ("bert", BertModel(BertConfig(max_position_embeddings=48, **BERT), add_pooling_layer=False), "mean", 0),
        ("distilbert",
         DistilBertModel(DistilBertConfig(vocab_size=VOCAB, dim=HIDDEN, n_layers=2, n_heads=HEADS, hidden_dim=INNER,
                                          max_position_embeddings=48, dropout=0.0, attention_dropout=0.0)), "cls", 0),
        ("roberta",
         RobertaModel(RobertaConfig(max_position_embeddings=50, type_vocab_size=1, pad_token_id=1,
                                    layer_norm_eps=1e-5, **BERT), add_pooling_layer=False), "cls", 20),
        ("mpnet",
         MPNetModel(MPNetConfig(max_position_embeddings=50, pad_token_id=1, layer_norm_eps=1e-5, **BERT),
                    add_pooling_layer=False), "mean", 20),
        ("pooler", BertModel(BertConfig(max_position_embeddings=48, **BERT)), "pooler", 20),
    ]


def embed(model, projection, pooling, ids, mask):
    output = model(input_ids=ids, attention_mask=mask)
    hidden = output.last_hidden_state
    if pooling == "cls":
        pooled = hidden[:, 0]
    elif pooling == "pooler":
        pooled = output.pooler_output
    else:
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    if projection is not None:
        pooled = projection(pooled)
    return pooled / pooled.norm(dim=1, keepdim=True).clamp(min=1e-12)


def parameters(model, projection):
    named = dict(model.named_parameters())
    if projection is not None:
        named |= {f"bottleneck.{name}": p for name, p in projection.named_parameters()}
    return named


def golden(name, model, pooling, width):
    model.train()
    generator = torch.Generator().manual_seed(7)
    projection = torch.nn.Linear(HIDDEN, width) if width else None
    named = parameters(model, projection)
    with torch.no_grad():  # larger than fresh weights, so that nothing is nearly linear
        for p in named.values():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.2 if p.dim() > 1 else 0.1))
        for key, p in named.items():
            if "orm.weight" in key:
                p.add_(1.0)
    pad = model.config.pad_token_id
    rows = [torch.randint(4, VOCAB, (n,), generator=generator) for n in LENGTHS]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).float()
    weight = torch.randn(len(LENGTHS), width or HIDDEN, generator=generator)

    out = {f"param.{key}": p.detach().clone() for key, p in named.items()}
    embeddings = embed(model, projection, pooling, ids, mask)
    (weight * embeddings).sum().backward()
    out |= {f"grad.{key}": p.grad.clone() for key, p in named.items()}
    # A large eps: key biases have no gradient but rounding, which must not become steps.
    optimizer = torch.optim.AdamW(named.values(), lr=1e-3, betas=(0.9, 0.999), eps=1e-4, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        (weight * embed(model, projection, pooling, ids, mask)).sum().backward()
        optimizer.step()
    out |= {f"step.{key}": p.detach().clone() for key, p in named.items()}
    out |= {"embeddings": embeddings, "weight": weight,
            "ids": torch.cat(rows).int(), "lengths": torch.tensor(LENGTHS).int()}
    if name == "mpnet":
        far = torch.arange(-300, 301)
        out["buckets"] = model.encoder.relative_position_bucket(far, num_buckets=32).int()
    model.config.architectures = [type(model).__name__]
    metadata = {"config": json.dumps(model.config.to_dict()), "pooling": pooling}
    out = {key: value.detach().contiguous() for key, value in out.items()}
    save_file(out, GOLDEN / f"{name}.safetensors", metadata)


def real(folder):
    """Embeddings of 32 sequences of tokens, mean pooled, by an encoder of a folder."""
    from transformers import AutoModel
    model = AutoModel.from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(7)
    lengths = [1 + 4 * i for i in range(32)]
    rows = [torch.randint(1000, model.config.vocab_size, (n,), generator=generator) for n in lengths]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).float()
    with torch.no_grad():
        embeddings = embed(model, None, "mean", ids, mask)
    out = {"ids": torch.cat(rows).int(), "lengths": torch.tensor(lengths).int(), "embeddings": embeddings.contiguous()}
    save_file(out, Path(folder) / "golden_embeddings.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="folder of a real encoder")
    arguments = parser.parse_args()
    torch.manual_seed(7)
    torch.set_num_threads(1)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for family in families():
        golden(*family)
    if arguments.encoder:
        real(arguments.encoder)


main()

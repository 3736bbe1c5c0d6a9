#!/usr/bin/env python3
"""Golden file for crates/xmc-nn/tests/loss_active.rs: losses over a few active labels of each text in PyTorch.

    python scripts/golden/active_loss.py          # writes crates/xmc-nn/tests/golden/active_loss.json

Needs torch (made with 2.15). Weights and biases are rows of an embedding, as in the original program; rows are not
padded but divided by their own number of active labels. The third row has none.
"""

import json
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

GOLDEN = Path(__file__).parents[2] / "crates/xmc-nn/tests/golden/active_loss.json"
HIDDEN, LABELS = 6, 9
ACTIVE = [[0, 3, 4, 8], list(range(LABELS)), [], [2], [1, 3, 5, 6, 7]]


def criterion(name, z, target, count):
    """Losses [A] of the margins z of one row."""
    if name == "cross-entropy":
        return binary_cross_entropy_with_logits(z, (target > 0).float(), weight=count, reduction="none")
    missing = torch.clamp(1 - torch.where(target > 0, 1.0, -1.0) * z, min=0)
    return count * (missing if name == "hinge" else missing ** 2)


def case(name, weighted, x, weights, targets):
    x = x.clone().requires_grad_()
    head = torch.nn.Embedding(LABELS, HIDDEN + 1, _weight=weights.clone())
    loss = 0
    for row, (ids, target) in enumerate(zip(ACTIVE, targets)):
        if ids:
            w = head(torch.tensor(ids))
            z = w[:, :-1] @ x[row] + w[:, -1]
            count = target.clamp(min=1) if weighted else torch.ones_like(target)
            loss = loss + criterion(name, z, target, count).mean()
    loss = loss / len(ACTIVE)
    loss.backward()
    return {"criterion": name, "weighted": weighted, "loss": loss.item(), "dx": x.grad.flatten().tolist(),
            "dw": head.weight.grad.flatten().tolist()}


def main():
    torch.manual_seed(7)
    x, weights = torch.randn(len(ACTIVE), HIDDEN), torch.randn(LABELS, HIDDEN + 1) * 0.5
    targets = [torch.randint(0, 2, (len(ids),)).float() * torch.randint(1, 5, (len(ids),)) for ids in ACTIVE]
    indptr = [sum(map(len, ACTIVE[:i])) for i in range(len(ACTIVE) + 1)]
    cases = [case(name, weighted, x, weights, targets)
             for name in ("squared-hinge", "hinge", "cross-entropy") for weighted in (False, True)]
    golden = {"hidden": HIDDEN, "x": x.flatten().tolist(), "weights": weights.flatten().tolist(), "indptr": indptr,
              "ids": sum(ACTIVE, []), "targets": torch.cat(targets).tolist(), "cases": cases}
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()

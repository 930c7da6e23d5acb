"""What a defence minimises: named terms of a batch and of the network's answers to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ddid.metric.losses import batch_hard_triplet
from ddid.model import Heads

Terms = dict[str, Tensor]
"""Scalars by name."""


@dataclass(frozen=True)
class Batch:
    """B images that are learnt from together; the attacked ones come with the attack."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    labels: Tensor  # (B,) class indices
    targets: Tensor  # (B, C) rows that sum to 1
    attacked: Tensor | None = None  # as `images`
    attacked_targets: Tensor | None = None  # as `targets`

    def take(self, rows: Tensor) -> "Batch":
        """Some of the rows."""
        rows = rows.to(self.labels.device)
        some: dict[str, Any] = {n: v[rows] for n, v in vars(self).items() if v is not None}
        return Batch(**some)


def forward_both(
    forward: Callable[..., Heads], batch: Batch, *, on_clean: bool = True
) -> tuple[Heads | None, Heads | None]:
    """Outputs for clean and attacked images, which share the statistics of BatchNorm."""
    if batch.attacked is None:
        return forward(batch.images, heads=True), None
    if not on_clean:
        return None, forward(batch.attacked, heads=True)
    together = forward(torch.cat([batch.images, batch.attacked]), heads=True)
    clean, attacked = zip(*(output.chunk(2) for output in together), strict=True)
    return Heads(*clean), Heads(*attacked)


def identity_terms(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """ℓ = L_cls + L_tri on clean and attacked images, each where there are such [summary]."""
    kinds = {"clean": (clean, batch.targets), "attacked": (attacked, batch.attacked_targets)}
    terms = {}
    for kind, (heads, targets) in kinds.items():
        if heads is not None and targets is not None:
            terms[f"{kind}_cls"] = functional.cross_entropy(heads.logits, targets)
            terms[f"{kind}_tri"] = batch_hard_triplet(heads.feature, batch.labels)
    return terms

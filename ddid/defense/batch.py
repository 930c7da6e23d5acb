"""One training batch, and what the network answers to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ddid.model import Heads

Rows = tuple[Tensor, Tensor]
"""Row numbers of the two halves of a batch, on the host."""


@dataclass(frozen=True)
class Batch:
    """Rows belong together; the attacked half of it comes with the attack."""

    images: Tensor
    """(B, 3, H, W) in [0, 1]."""
    labels: Tensor
    """(B,) class indices."""
    targets: Tensor
    """(B, C) rows that sum to 1."""
    attacked: Tensor | None = None
    attacked_targets: Tensor | None = None
    pool: Tensor | None = None
    """(B,) which rows may meet in a triplet; all if None."""

    def take(self, rows: Tensor) -> "Batch":
        """Some of the rows."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        rows = rows.to(self.labels.device)
        return replace(self, **{n: v[rows] for n, v in own.items() if v is not None})


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


def in_order(parts: Sequence[Any], halves: Rows) -> Any:
    """Put what came of the two halves back into the batch's order: tensors, or tuples of them."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        order = torch.cat(halves).argsort().to(first.device)
        return torch.cat(list(parts))[order]
    joined = [in_order(values, halves) for values in zip(*parts, strict=True)]
    return type(first)(*joined) if isinstance(first, Heads) else tuple(joined)

"""Cosine distance, the paper's at test time [summary], and what may be measured by it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ddid.errors import require

Embed = Callable[[Tensor], Tensor]
"""Any callable from images in [0, 1], (B, 3, H, W), to embeddings (B, D)."""


def normalize(embeddings: Tensor) -> Tensor:
    """Scale each row of (..., D) to unit length; a zero row stays zero."""
    return functional.normalize(embeddings, dim=-1)


def check_embeddings(embeddings: Tensor, name: str) -> None:
    """Raise InputError unless `embeddings` is a finite floating-point matrix (N, D)."""
    require(isinstance(embeddings, Tensor), f"{name} embeddings are no tensor: give (N, D)")
    require(
        embeddings.ndim == 2 and embeddings.is_floating_point(),
        f"{name} embeddings are {embeddings.dtype} {tuple(embeddings.shape)}: give floats (N, D)",
    )
    # One sum costs a fraction of testing each entry; it is finite if all are (and do not overflow).
    require(
        bool(embeddings.sum(dtype=torch.float32).isfinite()),
        f"{name} embeddings hold NaN or infinity: check the model's weights and input",
    )

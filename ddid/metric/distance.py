"""Distances between embeddings."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ddid.errors import require

Metric = Literal["cosine", "euclidean"]

Embed = Callable[[Tensor], Tensor]
"""Any callable from images in [0, 1], (B, 3, H, W), to embeddings (B, D)."""


def normalize(embeddings: Tensor) -> Tensor:
    """Scale each row of (..., D) to unit length; a zero row stays zero."""
    return functional.normalize(embeddings, dim=-1)


def on_metric(embeddings: Tensor, metric: Metric) -> Tensor:
    """Map embeddings to the space where `metric` is a function of the Euclidean distance."""
    known = metric in ("cosine", "euclidean")
    require(known, f"metric is {metric!r}: choose 'cosine' or 'euclidean'")
    return normalize(embeddings) if metric == "cosine" else embeddings


def pairwise(query: Tensor, gallery: Tensor, metric: Metric = "cosine") -> Tensor:
    """Distances (Q, G) between query (Q, D) and gallery (G, D) embeddings.

    "cosine" is one minus the cosine, in [0, 2], the paper's test distance [summary].
    """
    check_embeddings(query, "query")
    check_embeddings(gallery, "gallery")
    query, gallery = on_metric(query, metric), on_metric(gallery, metric)
    if metric == "cosine":
        return 1 - query @ gallery.T
    return torch.cdist(query, gallery, compute_mode="donot_use_mm_for_euclid_dist")


def check_embeddings(embeddings: Tensor, name: str) -> None:
    """Raise InputError unless `embeddings` is a finite floating-point matrix (N, D)."""
    require(isinstance(embeddings, Tensor), f"{name} embeddings are no tensor: give (N, D)")
    require(
        embeddings.ndim == 2 and embeddings.is_floating_point(),
        f"{name} embeddings have shape {tuple(embeddings.shape)} and type {embeddings.dtype}: "
        "give one floating-point row per image, (N, D)",
    )
    # One sum costs a fraction of testing each entry; it is finite if all are (and do not overflow).
    require(
        bool(embeddings.sum(dtype=torch.float32).isfinite()),
        f"{name} embeddings hold NaN or infinity: check the model's weights and input",
    )

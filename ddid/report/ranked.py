"""Ranked lists: which gallery images a query gets to see first, and whether they are right."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded, is_match


@dataclass(frozen=True)
class RankedList:
    """The nearest k gallery images of each of Q queries, (Q, k) each."""

    index: Tensor  # rows of the gallery, nearest first
    right: Tensor  # whether they are right answers
    distance: Tensor  # 1 less the cosine


def ranked_list(query: Embedded, gallery: Embedded, k: int = 10) -> RankedList:
    """The first `k` answers to each query, fewer in a small gallery, by the rules of
    `ddid.metric.ranking` but for ties: the query's identity in its own camera never appears."""
    distances = 1 - normalize(query.embeddings) @ normalize(gallery.embeddings).T
    same = (query.pids[:, None] == gallery.pids) & (query.pids[:, None] != 0)
    cameras = None if query.camids is None else query.camids[:, None]
    right = is_match(gallery.pids, gallery.camids, query.pids[:, None], cameras)
    ignored = same & ~right
    k = min(k, len(gallery.pids) - int(ignored.sum(1).max()))
    nearest = distances.masked_fill(ignored, torch.inf).topk(k, largest=False)
    return RankedList(nearest.indices, right.gather(1, nearest.indices), nearest.values)

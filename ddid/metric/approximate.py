"""Approximate ranking for galleries beyond exact reach, its error measured (optional faiss)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddid.errors import InputError, require
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded, Ranking, rank, right_answers, score_counts


@dataclass(frozen=True)
class Approximation:
    """An approximate ranking and its error: mean and largest |AP - exact AP| in percent points,
    measured on `checked` queries that were also ranked exactly."""

    ranking: Ranking
    mean_error: float
    largest_error: float
    checked: int


def rank_approximate(
    query: Embedded,
    gallery: Embedded,
    *,
    neighbors: int = 1000,
    probes: int = 32,
    checked: int = 100,
) -> Approximation:
    """Rank by cosine through an inverted file of 8-bit features, a quarter of the gallery's size.

    A right answer beyond the first `neighbors` is taken to come last, so AP is a lower bound up to
    the features' rounding. `probes` of the inverted lists are read per query. Works on the CPU.
    Raises InputError where faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "approximate ranking needs faiss: pip install 'ddid[faiss]', or use the exact rank()"
        ) from error
    require(neighbors > 0 and probes > 0, "neighbors and probes must be at least 1")
    features = normalize(gallery.embeddings.float()).cpu().numpy()
    lists = max(1, int(4 * len(features) ** 0.5))
    lists = min(lists, max(1, len(features) // 39))  # fewer images a list train it badly
    inner = faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(features.shape[1], f"IVF{lists},SQ8", inner)
    index.train(features[:: max(1, len(features) // (256 * lists))])
    index.add(features)
    index.nprobe = probes
    deepest = int(right_answers(query, gallery, any_camera=False)[1].shape[1])
    depth = min(max(neighbors, deepest), len(features))
    _, found = index.search(normalize(query.embeddings.float()).cpu().numpy(), depth)
    ranking = rank_found(torch.from_numpy(found), query, gallery)
    sample = torch.arange(0, len(query.pids), max(1, len(query.pids) // checked))
    exact = rank(query[sample], gallery)
    gap = 100 * (ranking.ap[sample] - exact.ap).abs()[exact.valid]
    return Approximation(ranking, float(gap.mean()), float(gap.max()), len(gap))


def rank_found(found: Tensor, query: Embedded, gallery: Embedded) -> Ranking:
    """Score gallery rows (Q, K) that a search returned in order; -1 pads what it did not find.

    A right answer that is missing is taken to come last of all.
    """
    _, relevant = right_answers(query, gallery, any_camera=False)
    count = relevant.sum(1)
    same = (gallery.pids[found] == query.pids[:, None]) & (found >= 0)
    right = same
    if query.camids is not None and gallery.camids is not None:
        cameras = query.camids[:, None]
        right = same & ~((gallery.camids[found] == cameras) & (cameras >= 0))
    first = right.int().argsort(dim=1, descending=True, stable=True)[:, : int(count.max())]
    wrong = (~same).cumsum(1).gather(1, first)
    place = torch.arange(1, wrong.shape[1] + 1)
    wrong[place > right.sum(1, keepdim=True)] = len(gallery.pids)
    return score_counts(wrong, count, query.pids)

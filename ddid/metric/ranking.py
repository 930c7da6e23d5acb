"""The ReID protocol, exactly: who is a right answer, who is ignored, and at which rank each comes.

A gallery image of the query's identity is a right answer, unless it was also taken by the query's
camera: then it is ignored (an unknown camera, -1, equals no camera). Every other image is a wrong
answer; so identity 0, the distractors of Market-1501, only pushes ranks down, and identity -1 has
no place here: the reader drops it. AP is the sum of the precisions at the right answers over
their number (not the trapezoidal variant). A query without a right answer is left out.

Ties count against the model [ours: an order by file name would be luck, and a model that maps all
images to one point would look good].

No row is sorted: the rank of a right answer is its place among the right answers plus the number
of wrong ones that are at least as close.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ddid.errors import require
from ddid.metric.counting import count_at_least
from ddid.metric.distance import Metric, check_embeddings, normalize


class Labelled(Protocol):
    """Images with identities and cameras, both int64 (N,)."""

    pids: Tensor
    camids: Tensor


CHUNK = 2**22  # scores held at once (16 MB): beyond it nothing gets faster


@dataclass(frozen=True)
class Embedded:
    """Images as a metric sees them: embeddings (N, D), pids (N,), camids (N,) or None (unknown)."""

    embeddings: Tensor
    pids: Tensor
    camids: Tensor | None = None

    def __post_init__(self) -> None:
        check_embeddings(self.embeddings, "given")
        for name, labels in (("pids", self.pids), ("camids", self.camids)):
            require(
                labels is None or labels.shape == self.embeddings.shape[:1],
                f"{len(self.embeddings)} embeddings came with {name} of shape "
                f"{None if labels is None else tuple(labels.shape)}: give one per image",
            )

    def to(self, device: torch.device) -> "Embedded":
        """Move everything to one device."""
        if self.embeddings.device == self.pids.device == device:
            return self
        camids = None if self.camids is None else self.camids.to(device)
        return Embedded(self.embeddings.to(device), self.pids.to(device), camids)

    def __getitem__(self, index: Tensor) -> "Embedded":
        camids = None if self.camids is None else self.camids[index]
        return Embedded(self.embeddings[index], self.pids[index], camids)


@dataclass(frozen=True)
class Ranking:
    """How each of Q queries fared; entries where `valid` is False are 0 and left out of means.

    ap (Q,) average precision and inp (Q,) inverse negative penalty in [0, 1], float64; first_rank
    (Q,) place of the first right answer, from 1; valid (Q,) bool; pids (Q,) identity of the query.
    """

    ap: Tensor
    inp: Tensor
    first_rank: Tensor
    valid: Tensor
    pids: Tensor

    def __post_init__(self) -> None:
        require(
            bool(self.valid.any()),
            "no query has a right answer in the gallery: check that the identities agree and that "
            "matches come from other cameras (or count them with same_camera='count')",
        )

    def summary(self) -> dict[str, float]:
        """Mean AP, mean INP and Rank-1, -5, -10 over the valid queries, in percent."""
        first = self.first_rank[self.valid]
        cmc = {f"rank{k}": percent(first <= k) for k in (1, 5, 10)}
        return {"mAP": percent(self.ap[self.valid]), **cmc, "mINP": percent(self.inp[self.valid])}

    def per_identity(self) -> dict[int, float]:
        """Mean AP of each identity with a valid query, in percent."""
        pids, ap = self.pids[self.valid], self.ap[self.valid]
        return {int(pid): percent(ap[pids == pid]) for pid in pids.unique()}

    def spread(self) -> dict[str, float]:
        """How unequal identities are served, in percent: standard deviation of the per-identity AP
        and mean of its worst decile (at least one identity)."""
        means = torch.tensor(sorted(self.per_identity().values()), dtype=torch.float64)
        decile = means[: max(1, len(means) // 10)]
        return {"std": float(means.std(correction=0)), "worst_decile": float(decile.mean())}


@torch.no_grad()
def rank(
    query: Embedded,
    gallery: Embedded,
    *,
    metric: Metric = "cosine",
    same_camera: Literal["ignore", "count"] = "ignore",
    chunk: int = CHUNK,
) -> Ranking:
    """Rank the gallery for every query and score the order; see the module for the protocol.

    `same_camera="count"` is the single-camera variant: a match from the query's own camera is a
    right answer too. `chunk` bounds how many scores exist at once, whatever the sizes.
    """
    require(chunk > 0, f"chunk is {chunk}: hold at least one score at once")
    counts = len(query.pids), len(gallery.pids)
    require(
        min(counts) > 0, "{} queries against {} gallery images: nothing to rank".format(*counts)
    )
    require(
        query.embeddings.shape[1] == gallery.embeddings.shape[1],
        f"query embeddings are {query.embeddings.shape[1]}-d, gallery's "
        f"{gallery.embeddings.shape[1]}-d: embed both with one model",
    )
    device = query.embeddings.device
    query, gallery = query.to(device), gallery.to(device)
    matches, relevant = right_answers(query, gallery, same_camera == "count")
    rows, wrong = max(1, chunk // len(gallery.pids)), []
    scorer = Scorer(gallery.embeddings, metric, rows)
    for start in range(0, len(query.pids), rows):
        part = slice(start, start + rows)
        scores = scorer(query.embeddings[part])
        right = scores.gather(1, matches[part]).masked_fill_(~relevant[part], -torch.inf)
        scores.scatter_(1, matches[part], -torch.inf)
        wrong.append(count_at_least(scores, right.sort(1, descending=True).values))
    return score_counts(torch.cat(wrong).cpu(), relevant.sum(1).cpu(), query.pids.cpu())


class Scorer:
    """Closeness of queries to a gallery: larger is closer, in the order of `pairwise`.

    One matrix product into one buffer of `rows` rows, which each call overwrites; the gallery
    (G, D) is not copied.
    """

    def __init__(self, gallery: Tensor, metric: Metric, rows: int) -> None:
        self.metric, self.gallery = metric, gallery.float()
        squares = torch.einsum("nd,nd->n", self.gallery, self.gallery)
        self.offset, self.scale = -squares, squares.sqrt().clamp_min(1e-12).reciprocal()
        self.buffer = torch.empty(rows, len(gallery), device=gallery.device)

    def __call__(self, query: Tensor) -> Tensor:
        """Score queries (B, D), B at most `rows`: (B, G)."""
        out = self.buffer[: len(query)]
        if self.metric == "euclidean":
            return torch.addmm(self.offset, query.float(), self.gallery.T, alpha=2, out=out)
        return torch.mm(normalize(query.float()), self.gallery.T, out=out).mul_(self.scale)


def is_match(pids: Tensor, camids: Tensor | None, own: Tensor, cameras: Tensor | None) -> Tensor:
    """Whether gallery images (pids, camids) are right answers to queries (own, cameras), broadcast.

    The one rule of who matches: the same identity, no distractor, and not from the query's own
    camera; an unknown camera (-1, or None for all) equals no camera.
    """
    same = (pids == own) & (own != 0)
    if camids is None or cameras is None:
        return same
    return same & ((camids != cameras) | (cameras < 0))


def right_answers(query: Embedded, gallery: Embedded, any_camera: bool) -> tuple[Tensor, Tensor]:
    """Gallery rows of each query's identity (Q, M), padded by repetition, and which are right."""
    pids, order = gallery.pids.sort(stable=True)
    first = torch.searchsorted(pids, query.pids)
    stop = torch.searchsorted(pids, query.pids, right=True)
    place = first[:, None] + torch.arange(int((stop - first).max()), device=first.device)
    inside = place < stop[:, None]
    last = (stop - 1).clamp_min(0)
    matches = order[place.minimum(last[:, None])]
    cameras = None if any_camera or query.camids is None else query.camids[:, None]
    camids = None if gallery.camids is None else gallery.camids[matches]
    return matches, inside & is_match(gallery.pids[matches], camids, query.pids[:, None], cameras)


def has_matches(query: "Labelled", gallery: "Labelled") -> bool:
    """Whether some query has a right answer."""
    cells = [torch.stack([side.pids, side.camids], 1).unique(dim=0) for side in (query, gallery)]
    (own, cameras), (pids, camids) = (side.unbind(1) for side in cells)
    return bool(is_match(pids, camids, own[:, None], cameras[:, None]).any())


def score_counts(wrong: Tensor, relevant: Tensor, pids: Tensor) -> Ranking:
    """Turn counts into a Ranking.

    `wrong` (Q, M): wrong answers at least as close as the j-th closest right answer; `relevant`
    (Q,): right answers of each query, the first columns of its row.
    """
    place = torch.arange(1, wrong.shape[1] + 1)
    inside = place <= relevant[:, None]
    ranks, valid, count = place + wrong, relevant > 0, relevant.clamp_min(1)
    precision = (place / ranks.double()).masked_fill(~inside, 0)
    last = ranks.masked_fill(~inside, 0).amax(1) if wrong.shape[1] else relevant
    first = ranks[:, 0] if wrong.shape[1] else relevant
    return Ranking(
        ap=precision.sum(1) / count,
        inp=torch.where(valid, count / last.clamp_min(1).double(), 0),
        first_rank=torch.where(valid, first, 0),
        valid=valid,
        pids=pids,
    )


def percent(values: Tensor) -> float:
    """Mean of `values`, in percent."""
    return 100 * float(values.double().mean())


def single_shot(
    query: Embedded,
    gallery: Embedded,
    *,
    repeats: int = 10,
    seed: int = 0,
    metric: Metric = "cosine",
) -> dict[str, float]:
    """Single-gallery-shot summary: one random gallery image per identity, pooled over repeats.

    A query whose drawn match is ignored (own camera) sits that repeat out.
    """
    generator, pools = torch.Generator().manual_seed(seed), []
    for _ in range(repeats):
        shuffled = torch.randperm(len(gallery.pids), generator=generator).to(gallery.pids.device)
        pids, order = gallery.pids[shuffled].sort(stable=True)
        starts_identity = pids.diff(prepend=pids[:1] - 1) != 0
        pools.append(rank(query, gallery[shuffled[order[starts_identity]]], metric=metric))
    parts = {name: torch.cat([getattr(pool, name) for pool in pools]) for name in vars(pools[0])}
    return Ranking(**parts).summary()

"""The ReID protocol, exactly: who is a right answer, who is ignored, and at which rank each comes.

A gallery image of the query's identity is a right answer, or ignored if it is of the query's own
camera (`is_match`); junk (identity -1) is ignored; all others are wrong, so distractors (identity
0) only push ranks down. AP is the mean precision at the right answers (not the trapezoidal
variant); a query without any is left out. Ties count against the model [ours: or one that maps all
images to one point looks good].
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddid.errors import require
from ddid.metric.counting import count_at_least
from ddid.metric.distance import check_embeddings, normalize

CHUNK = 2**22  # scores held at once (16 MB): beyond it nothing gets faster
CAMERAS = 2**31  # more than there are numbers of cameras, so that it sets identities apart
SLACK = 1e-6  # a product's columns may round equal vectors differently: by less than this


@dataclass(frozen=True)
class Embedded:
    """Images as a metric sees them: embeddings (N, D), pids and camids (N,). Identity 0
    is a distractor's, -1 junk, which a gallery ignores; camera -1 is unknown."""

    embeddings: Tensor
    pids: Tensor
    camids: Tensor

    def __post_init__(self) -> None:
        check_embeddings(self.embeddings, "given")
        count = len(self.embeddings)
        for name, labels in (("pids", self.pids), ("camids", self.camids)):
            whole = isinstance(labels, Tensor) and not labels.is_floating_point()
            fits = whole and labels.shape == (count,)
            require(fits, f"{name} do not fit {count} embeddings: give one whole number each, (N,)")

    def to(self, device: torch.device) -> "Embedded":
        """Move everything to one device."""
        return Embedded(*(part.to(device) for part in vars(self).values()))

    def __getitem__(self, index: Tensor | slice) -> "Embedded":
        return Embedded(*(part[index] for part in vars(self).values()))


@dataclass(frozen=True)
class Ranking:
    """How each of Q queries fared, (Q,) each."""

    ap: Tensor  # average precision in [0, 1], float64
    inp: Tensor  # inverse negative penalty, likewise
    first_rank: Tensor  # place of the first right answer, from 1
    valid: Tensor  # bool; where False, entries are 0 and left out of means
    pids: Tensor  # identity of the query

    def __post_init__(self) -> None:
        require(
            bool(self.valid.any()),
            "no query has a right answer in the gallery: check identities and cameras",
        )

    def __getitem__(self, index: Tensor) -> "Ranking":
        """The same of some queries."""
        return Ranking(*(part[index] for part in vars(self).values()))

    def summary(self) -> dict[str, float]:
        """Mean AP, mean INP and Rank-1, -5, -10 over the valid queries, in percent."""
        ranks = {f"rank{k}": self.first_rank <= k for k in (1, 5, 10)}
        parts = {"mAP": self.ap, **ranks, "mINP": self.inp}
        return {n: 100 * float(part[self.valid].double().mean()) for n, part in parts.items()}

    def per_identity(self, rank1: bool = False) -> dict[int, float]:
        """Mean AP (or Rank-1) of each identity with a valid query, in percent."""
        pids, index = self.pids[self.valid].unique(return_inverse=True)
        scores = (self.first_rank == 1).double() if rank1 else self.ap.double()
        sums = torch.zeros(len(pids), dtype=torch.float64).index_add_(0, index, scores[self.valid])
        return dict(zip(pids.tolist(), (100 * sums / index.bincount()).tolist(), strict=True))

    def spread(self) -> dict[str, float]:
        """How unequal identities are served, in percent: standard deviation of the per-identity AP,
        mean of its worst decile (at least one identity), and standard deviation of Rank-1."""
        ap, first = (torch.tensor([*self.per_identity(r).values()]) for r in (False, True))
        decile = ap.sort().values[: max(1, len(ap) // 10)]
        return {
            "std": float(ap.double().std(correction=0)),
            "worst_decile": float(decile.double().mean()),
            "rank1_std": float(first.double().std(correction=0)),
        }


def is_match(pids: Tensor, camids: Tensor, own: Tensor, cameras: Tensor) -> Tensor:
    """Whether gallery images (pids, camids) are right answers to queries (own, cameras), broadcast:
    the same known identity, no distractor, another camera, as an unknown one (-1) is."""
    return (pids == own) & (own > 0) & ((camids != cameras) | (cameras < 0))


def answerable(query: Any, gallery: Any) -> Tensor:
    """Which queries have a right answer, (Q,), by `is_match`; both have `pids` and `camids`."""
    views, asked = (side.pids.long() * CAMERAS + side.camids + 1 for side in (gallery, query))
    views, own = views.unique(), query.pids.long().contiguous()
    people = views // CAMERAS  # ascending: one row for each camera that somebody is seen by
    seen = torch.searchsorted(people, own, right=True) - torch.searchsorted(people, own)
    return (own > 0) & (seen > (torch.isin(asked, views) & (query.camids >= 0)).long())


@torch.no_grad()
def rank(query: Embedded, gallery: Embedded) -> Ranking:
    """Rank the gallery for every query by cosine and score the order, by the module's protocol:
    (Q,) on the CPU. InputError: an empty side, embeddings of two lengths, no right answer at all.
    """
    gallery = gallery[gallery.pids >= 0]
    (queries, length), (images, other) = query.embeddings.shape, gallery.embeddings.shape
    some = min(queries, images) > 0
    require(some, f"{queries} queries against {images} gallery images: none to rank")
    told = f"query embeddings are {length}-d, gallery's {other}-d"
    require(length == other, f"{told}: embed both with one model")
    gallery = gallery.to(query.embeddings.device)
    order = gallery.pids.sort(stable=True)
    points = normalize(gallery.embeddings.float())
    # No row is sorted: a right answer's rank is its place among the right ones plus the number of
    # wrong ones at least as close.
    rows, parts = max(1, CHUNK // images), []
    for start in range(0, queries, rows):
        part = query[slice(start, start + rows)].to(query.embeddings.device)
        found, relevant = right_answers(part, gallery, *order)
        scores = normalize(part.embeddings.float()) @ points.T
        right = scores.gather(1, found).masked_fill_(~relevant, -torch.inf)
        scores.scatter_(1, found, -torch.inf)
        wrong = count_at_least(scores, right.sort(1, descending=True).values - SLACK)
        parts.append(score_counts(wrong.cpu(), relevant.sum(1).cpu()))
    ap, inp, first, valid = (torch.cat(column) for column in zip(*parts, strict=True))
    return Ranking(ap, inp, first, valid, query.pids.cpu())


def right_answers(
    query: Embedded, gallery: Embedded, pids: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Gallery rows of each query's identity (B, M), padded by repetition, and which are right; pids
    and order (G,) are the gallery's identities, sorted, and the rows they come from."""
    first = torch.searchsorted(pids, query.pids)
    stop = torch.searchsorted(pids, query.pids, right=True)
    place = first[:, None] + torch.arange(max(1, int((stop - first).max())), device=first.device)
    found = order[place.minimum((stop - 1).clamp_min(0)[:, None])]
    own, cameras = query.pids[:, None], query.camids[:, None]
    right = is_match(gallery.pids[found], gallery.camids[found], own, cameras)
    return found, right & (place < stop[:, None])


def score_counts(wrong: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """AP, INP, first rank and validity of B queries. `wrong` (B, M): wrong answers at least as
    close as the j-th closest right one; `relevant` (B,): right answers, the first columns of a row.
    """
    place = torch.arange(1, wrong.shape[1] + 1)
    inside = place <= relevant[:, None]
    ranks, valid, count = place + wrong, relevant > 0, relevant.clamp_min(1)
    precision = (place / ranks.double()).masked_fill(~inside, 0)
    last = ranks.masked_fill(~inside, 0).amax(1).clamp_min(1)
    inp = torch.where(valid, count / last.double(), 0)
    return precision.sum(1) / count, inp, torch.where(valid, ranks[:, 0], 0), valid

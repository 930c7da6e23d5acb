"""What steers an attack (`Guides`), and what it raises: of embeddings (B, D) a value each (B,)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddid.errors import InputError, require
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded

Objective = Callable[[Tensor], Tensor]
"""Embeddings (B, D) to one value per image (B,), which the attack raises."""


@dataclass(frozen=True)
class Guides:
    """Clean features, of unit length, that steer the attack on B images. A sum of squared distances
    to n guides is n times the squared distance to their mean, plus a constant; so the mean and the
    count replace a (B, n, D) tensor without changing any gradient."""

    own: Tensor  # (B, D) clean feature of each image
    centroids: Tensor  # (P, D) mean clean feature of a reference identity
    counts: Tensor  # (P,) reference images of the identity
    pids: Tensor  # (P,) the identity
    identity: Tensor  # (B,) a row of `centroids` that is the image's own identity
    farthest: Tensor  # (B,) row of the other identity whose centroid is farthest from `own`

    @property
    def same(self) -> Tensor:
        """(B, D) mean feature of the image's own identity."""
        return self.centroids[self.identity]

    @property
    def far(self) -> Tensor:
        """(B, D) mean feature of the farthest other identity."""
        return self.centroids[self.farthest]

    @property
    def far_pid(self) -> Tensor:
        """(B,) the farthest other identity (a class index where labels were given as pids)."""
        return self.pids[self.farthest]

    @property
    def is_own(self) -> Tensor:
        """(B, P) booleans: which reference rows are the image's own identity."""
        return self.pids[self.identity][:, None] == self.pids


@torch.no_grad()
def find_guides(embeddings: Tensor, pids: Tensor, references: Embedded) -> Guides:
    """Guides of images with clean `embeddings` (B, D) and identities `pids` (B,).

    An attack on queries takes all queries as references, so an image is among its own guides, as
    in Bouniot et al. 2020; an attack on a gallery takes the queries too. Features have unit length,
    as those that are ranked [ours: Bouniot attacks raw features and ranks by cosine].
    """
    own = normalize(embeddings.detach())
    references = references.to(own.device)
    features = normalize(references.embeddings)
    names, rows, counts = torch.unique(references.pids, return_inverse=True, return_counts=True)
    require(len(names) > 1, "an attack needs guides from at least two identities, got one")
    centroids = own.new_zeros(len(names), own.shape[1]).index_add_(0, rows, features)
    centroids = centroids / counts[:, None]
    pids = pids.to(own.device)
    identity = torch.searchsorted(names, pids).clamp_max(len(names) - 1)
    lost = pids[names[identity] != pids]
    if len(lost):
        raise InputError(f"identity {int(lost[0])} has no guide: leave it out or give a reference")
    distances = torch.cdist(own, centroids).scatter_(1, identity[:, None], -1.0)
    return Guides(own, centroids, counts, names, identity, distances.argmax(1))


@torch.no_grad()
def guides_within(embeddings: Tensor, pids: Tensor) -> Guides:
    """Guides of a training batch among itself, a centroid for each image: no shape waits."""
    own = normalize(embeddings.detach())
    same = pids[:, None] == pids
    counts = same.sum(1)
    centroids = same.to(own.dtype) @ own / counts[:, None]
    distances = torch.cdist(own, centroids).masked_fill_(same, -1.0)
    rows = torch.arange(len(own), device=own.device)
    return Guides(own, centroids, counts, pids, rows, distances.argmax(1))


def fna(guides: Guides) -> Objective:
    """Furthest-negative attack (Bouniot et al. 2020): n distances to guides of the own identity
    pushed, one to the farthest identity pulled."""
    away, towards = ifgsm(guides), gap(guides.far)
    return lambda embeddings: away(embeddings) - towards(embeddings)


def ifgsm(guides: Guides) -> Objective:
    """Metric (I-)FGSM: away from all same-identity guides (Bai et al. 2019)."""
    count, distance = guides.counts[guides.identity], gap(guides.same)
    return lambda embeddings: count * distance(embeddings)


def sma(guides: Guides) -> Objective:
    """Self-metric attack: away from the image's own clean feature (Bouniot et al. 2020)."""
    return gap(guides.own)


def odfa(guides: Guides) -> Objective:
    """Opposite-direction feature attack: towards the negated clean feature."""
    distance = gap(-guides.own)
    return lambda embeddings: -distance(embeddings)


def misrank(guides: Guides, temperature: float = 0.2) -> Objective:
    """Smooth rank of the own identity: how many other centroids are nearer than its own [ours];
    `temperature` is a share of the mean squared distance to the centroids."""
    scale = temperature * torch.cdist(guides.own, guides.centroids).square().mean()

    def rank(embeddings: Tensor) -> Tensor:
        squares = torch.cdist(normalize(embeddings), guides.centroids).square()
        lead = (squares.gather(1, guides.identity[:, None]) - squares) / scale
        return torch.sigmoid(lead).masked_fill(guides.is_own, 0).sum(1)

    return rank


def gap(target: Tensor) -> Objective:
    """Squared distance of each embedding, at unit length, to its row of `target` (B, D)."""
    return lambda embeddings: (normalize(embeddings) - target).square().sum(1)

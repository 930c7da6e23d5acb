"""The features an attack pushes away from and pulls towards."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddid.errors import InputError, require
from ddid.metric.distance import Metric, check_embeddings, on_metric
from ddid.metric.ranking import Embedded


@dataclass(frozen=True)
class Guides:
    """Clean features, in the space of `metric`, that steer the attack on B images.

    own        (B, D) clean feature of each image
    centroids  (P, D) mean clean feature of a reference identity
    counts     (P,)   reference images of the identity
    pids       (P,)   the identity
    identity   (B,)   a row of `centroids` that is the image's own identity
    farthest   (B,)   row of the other identity whose centroid is farthest from `own`

    A sum of squared distances to n guides is n times the squared distance to their mean, plus a
    constant; so the mean and the count replace a (B, n, D) tensor without changing any gradient.
    """

    own: Tensor
    centroids: Tensor
    counts: Tensor
    pids: Tensor
    identity: Tensor
    farthest: Tensor
    metric: Metric = "cosine"

    @cached_property
    def same(self) -> Tensor:
        """(B, D) mean feature of the image's own identity."""
        return self.centroids[self.identity]

    @cached_property
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
def find_guides(
    embeddings: Tensor, pids: Tensor, references: Embedded, metric: Metric = "cosine"
) -> Guides:
    """Guides of images with clean `embeddings` (B, D) and identities `pids` (B,).

    An attack on queries takes all queries as references, so an image is among its own guides, as
    in Bouniot et al. 2020; an attack on a gallery takes the queries too. Guides follow the metric
    that scores the attack [ours: Bouniot attacks raw features and ranks by cosine].
    """
    check_embeddings(embeddings, "attacked")
    own = on_metric(embeddings.detach(), metric)
    references = references.to(own.device)
    features = on_metric(references.embeddings, metric)
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
    return Guides(own, centroids, counts, names, identity, distances.argmax(1), metric)


@torch.no_grad()
def guides_within(embeddings: Tensor, pids: Tensor, metric: Metric = "cosine") -> Guides:
    """Guides of a training batch among itself: one centroid row per image, identities repeated.

    The shapes depend on no label, so nothing waits for the device.
    """
    own = on_metric(embeddings.detach(), metric)
    same = pids[:, None] == pids
    counts = same.sum(1)
    centroids = same.to(own.dtype) @ own / counts[:, None]
    distances = torch.cdist(own, centroids).masked_fill_(same, -1.0)
    rows = torch.arange(len(own), device=own.device)
    return Guides(own, centroids, counts, pids, rows, distances.argmax(1), metric)

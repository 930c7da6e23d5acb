"""What an attack raises: functions of embeddings (B, D) that give one value per image (B,)."""

import torch
from torch import Tensor

from ddid.attack.guides import Guides
from ddid.attack.pgd import Objective
from ddid.metric.distance import on_metric


def fna(guides: Guides) -> Objective:
    """Furthest-negative attack: away from all same-identity guides, to the farthest identity.

    n squared distances pushed (n guides of the identity), one pulled, as in Bouniot et al. 2020.
    """
    away, towards = ifgsm(guides), gap(guides, guides.far)
    return lambda embeddings: away(embeddings) - towards(embeddings)


def ifgsm(guides: Guides) -> Objective:
    """Metric (I-)FGSM: away from all same-identity guides (Bai et al. 2019)."""
    count, distance = guides.counts[guides.identity], gap(guides, guides.same)
    return lambda embeddings: count * distance(embeddings)


def sma(guides: Guides) -> Objective:
    """Self-metric attack: away from the image's own clean feature (Bouniot et al. 2020)."""
    return gap(guides, guides.own)


def odfa(guides: Guides) -> Objective:
    """Opposite-direction feature attack: towards the negated clean feature."""
    distance = gap(guides, -guides.own)
    return lambda embeddings: -distance(embeddings)


def misrank(guides: Guides, temperature: float = 0.2) -> Objective:
    """Smooth rank of the own identity: how many other centroids are nearer than its own [ours].

    `temperature` is a share of the mean squared distance to the centroids, so that it means the
    same in both metrics.
    """
    with torch.no_grad():
        scale = temperature * torch.cdist(guides.own, guides.centroids).square().mean()

    def rank(embeddings: Tensor) -> Tensor:
        squares = torch.cdist(on_metric(embeddings, guides.metric), guides.centroids).square()
        lead = (squares.gather(1, guides.identity[:, None]) - squares) / scale
        return torch.sigmoid(lead).masked_fill(guides.is_own, 0).sum(1)

    return rank


def gap(guides: Guides, target: Tensor) -> Objective:
    """Squared distance of each embedding to its row of `target` (B, D), in the guides' metric."""
    return lambda embeddings: (on_metric(embeddings, guides.metric) - target).square().sum(1)

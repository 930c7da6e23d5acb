"""HM: hardness manipulation."""

import torch
from torch import Tensor
from torch.nn.functional import pairwise_distance

from ddid.attack.scene import Scene
from ddid.defense.losses import Batch, Terms, identity_terms
from ddid.defense.recipe import Recipe
from ddid.metric.distance import normalize
from ddid.model import Heads

CEILING = 0.2  # of the loss, and the easiest destination; the paper's
STRUCTURE = 0.5  # weight of the intra-class structure term; the paper's


def to_hardness(scene: Scene) -> Tensor:
    """Raise every triplet's hardness d(a, p) − d(a, n) to the destination and no further."""
    clean = scene.guides.own
    far, near = hardest(clean, scene.pids)
    loss = (hardness(clean, far, near) + CEILING).clamp(min=0).mean()
    destination = -loss.clamp(max=CEILING)

    def objective(embeddings: Tensor) -> Tensor:
        short = hardness(normalize(embeddings), far, near) - destination
        return -short.clamp(max=0).square()

    return scene.pgd(objective)


def hardest(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) rows of the farthest positive and of the nearest negative of each of (B, D) points."""
    distances, same = torch.cdist(points, points), labels[:, None] == labels
    far = distances.masked_fill(~same, -1).argmax(1)
    return far, distances.masked_fill(same, torch.inf).argmin(1)


def hardness(points: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(B,) d(a, p) − d(a, n) for points (B, D); above 0 the triplet is ranked wrongly."""
    to_positive = pairwise_distance(points, points[positive])
    return to_positive - pairwise_distance(points, points[negative])


def structured(batch: Batch, clean: Heads, attacked: Heads) -> Terms:
    """Identity terms on both kinds, and ½ max(0, d(a, â) − d(a, p)), mean over positives p."""
    own, moved = normalize(clean.embedding), normalize(attacked.embedding)
    positive = (batch.labels[:, None] == batch.labels).fill_diagonal_(False)
    excess = pairwise_distance(own, moved)[:, None] - pairwise_distance(own[:, None], own)
    mean = (excess.clamp(min=0) * positive).sum() / positive.sum().clamp(min=1)
    return identity_terms(batch, clean, attacked) | {"structure": STRUCTURE * mean}


RECIPES = [
    Recipe(
        "hm",
        paper="Zhou & Patel 2022, Enhancing Adversarial Robustness for Deep Metric Learning",
        idea="Attack triplets only up to a chosen hardness, which grows as training succeeds; keep "
        "an attacked image nearer to its clean one than a positive is.",
        ours="The destination follows this batch's clean triplet loss, not the last step's, so the "
        "loop keeps no state; its triplets take the farthest positive and nearest negative, the "
        "structure all positives.",
        craft=to_hardness,
        loss=structured,
    )
]

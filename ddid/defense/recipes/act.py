"""ACT: the anti-collapse triplet."""

import torch
from torch import Tensor

from ddid.attack.scene import Scene
from ddid.defense.batch import Batch
from ddid.defense.losses import Terms, both, same_identity
from ddid.defense.recipe import Card, Recipe
from ddid.metric.distance import normalize
from ddid.metric.losses import batch_hard_triplet, soft_cross_entropy
from ddid.model import Heads

CARD = Card(
    paper="Zhou et al. 2021, Adversarial Attack and Defense in Deep Ranking",
    idea="The attack makes positive and negative collapse onto each other; triplets with clean "
    "anchors must keep the two apart.",
    ours="Each image collapses onto its nearest negative; classification of clean and attacked "
    "images is kept, as ReID needs it.",
)


def collapse(scene: Scene) -> Tensor:
    """Move every image and its nearest negative towards each other."""
    clean = scene.guides.own
    near = torch.cdist(clean, clean).masked_fill(same_identity(scene.pids), torch.inf).argmin(1)

    def objective(embeddings: Tensor) -> Tensor:
        own = normalize(embeddings)
        return -(own - own[near]).square().sum(1)

    return scene.pgd(objective)


def anti_collapse(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """Clean anchors against attacked positives and negatives, beside classification."""
    clean, attacked = both(clean, attacked)
    return {
        "clean_cls": soft_cross_entropy(clean.logits, batch.targets),
        "attacked_cls": soft_cross_entropy(attacked.logits, batch.targets),
        "collapse_tri": batch_hard_triplet(
            clean.feature, batch.labels, references=attacked.feature, pool=batch.pool
        ),
    }


RECIPES = [Recipe("act", CARD, collapse, anti_collapse)]

"""ACT: the anti-collapse triplet."""

import torch
from torch import Tensor

from ddid.attack.scene import Scene
from ddid.defense.losses import Batch, Terms
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
    clean, same = scene.guides.own, scene.pids[:, None] == scene.pids
    near = torch.cdist(clean, clean).masked_fill(same, torch.inf).argmin(1)

    def objective(embeddings: Tensor) -> Tensor:
        own = normalize(embeddings)
        return -(own - own[near]).square().sum(1)

    return scene.pgd(objective)


def anti_collapse(batch: Batch, clean: Heads, attacked: Heads) -> Terms:
    """Clean anchors against attacked positives and negatives, beside classification."""
    anchors, references = clean.feature, attacked.feature
    return {
        "clean_cls": soft_cross_entropy(clean.logits, batch.targets),
        "attacked_cls": soft_cross_entropy(attacked.logits, batch.targets),
        "collapse_tri": batch_hard_triplet(
            anchors, batch.labels, references=references, pool=batch.pool
        ),
    }


RECIPES = [Recipe("act", CARD, collapse, anti_collapse)]

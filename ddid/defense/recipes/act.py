"""ACT: the anti-collapse triplet."""

import torch
from torch import Tensor

from ddid.attack.scene import Scene
from ddid.defense.recipe import Batch, Card, Crafted, Recipe, Terms, both, same_identity
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


def craft_collapse(scene: Scene) -> Crafted:
    """Move every image and its nearest negative towards each other."""
    clean = scene.guides.own
    distances = torch.cdist(clean, clean).masked_fill(same_identity(scene.pids), torch.inf)
    near = distances.argmin(1)

    def objective(embeddings: Tensor) -> Tensor:
        own = normalize(embeddings)
        return -(own - own[near]).square().sum(1)

    return Crafted(scene.pgd(objective), scene.pids[near])


def anti_collapse(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """Clean anchors against attacked positives and negatives, beside classification."""
    clean, attacked = both(clean, attacked)
    return {
        "clean_cls": soft_cross_entropy(clean.logits, batch.targets),
        "attacked_cls": soft_cross_entropy(attacked.logits, batch.targets),
        "collapse_tri": batch_hard_triplet(
            clean.feature, batch.labels, references=attacked.feature
        ),
    }


RECIPES = [Recipe("act", CARD, craft_collapse, anti_collapse)]

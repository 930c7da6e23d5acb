"""GOAT: guided online adversarial training."""

import torch
from torch import Tensor

from ddid.attack.scene import Scene
from ddid.defense.recipe import Card, Recipe
from ddid.metric.distance import normalize

CARD = Card(
    paper="Bouniot et al. 2020, Vulnerability of Person Re-Identification Models to Metric "
    "Adversarial Attacks",
    idea="Push from four random images of the identity, pull to one other; learn from attacked "
    "images only.",
    ours="Repaired: eps in pixels (the published code's 5/255 is in normalised units, about "
    "1.1/255), the pull guide is never of the own identity, and the attack meets the network in "
    "evaluation mode. Guides come from the batch; the budget is everybody's.",
)
GUIDES = 4


def guided(scene: Scene) -> Tensor:
    """Attack with random push guides and the farthest image of another identity."""
    clean, same = scene.guides.own, scene.pids[:, None] == scene.pids
    draw = torch.rand(same.shape, generator=scene.generator, device=scene.generator.device)
    draw = draw.to(same.device).masked_fill(~same, -1)
    chance, push = draw.topk(min(GUIDES, len(same)))
    far = torch.cdist(clean, clean).masked_fill(same, -1).argmax(1)

    def objective(embeddings: Tensor) -> Tensor:
        own = normalize(embeddings)
        away = (own[:, None] - clean[push]).square().sum(2) * (chance >= 0)
        return away.sum(1) - (own - clean[far]).square().sum(1)

    return scene.pgd(objective)


RECIPES = [Recipe("goat", CARD, guided, on_clean=False)]

"""Adversarial training of the classifier: what ReID would borrow from image classification."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ddid.attack.budget import Budget
from ddid.attack.pgd import pgd
from ddid.attack.scene import Scene
from ddid.defense.recipe import Card, Crafted, Recipe
from ddid.model import ReIDNet

CARD = Card(
    paper="Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks",
    idea="PGD on the classifier's cross-entropy; the classifier is dropped when it is scored.",
    ours="The loss sees clean images too, as all our recipes but GOAT do, and keeps the triplets.",
)


def attack_classifier(
    net: ReIDNet,
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD: raise the cross-entropy of the true classes `labels` (B,) of images (B, 3, H, W)."""

    def logits(points: Tensor) -> Tensor:
        return net(points, heads=True).logits

    def surprise(values: Tensor) -> Tensor:
        return functional.cross_entropy(values, labels, reduction="none")

    return pgd(logits, images, surprise, budget, generator)


def craft_on_logits(scene: Scene) -> Crafted:
    """PGD on the network in training."""
    net: Any = scene.embed  # in training it is the network, with its classifier
    return Crafted(attack_classifier(net, scene.images, scene.pids, scene.budget, scene.generator))


RECIPES = [Recipe("classifier_at", CARD, craft_on_logits)]

"""Adversarial training of the classifier: what ReID would borrow from image classification."""

from typing import Any

from torch import Tensor
from torch.nn import functional

from ddid.attack.pgd import pgd
from ddid.attack.scene import Scene
from ddid.defense.recipe import Card, Recipe

CARD = Card(
    paper="Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks",
    idea="PGD on the classifier's cross-entropy; the classifier is dropped when it is scored.",
    ours="The loss sees clean images too, as all our recipes but GOAT do, and keeps the triplets.",
)


def pgd_on_logits(scene: Scene) -> Tensor:
    """Raise the cross-entropy of the true classes, which are the scene's `pids`."""
    net: Any = scene.embed  # the network itself, with its classifier

    def logits(points: Tensor) -> Tensor:
        return net(points, heads=True).logits

    def surprise(values: Tensor) -> Tensor:
        return functional.cross_entropy(values, scene.pids, reduction="none")

    return pgd(logits, scene.images, surprise, scene.budget, scene.generator)


RECIPES = [Recipe("classifier_at", CARD, pgd_on_logits)]

"""Adversarial training of the classifier: what ReID would borrow from image classification."""

from torch import Tensor
from torch.nn import functional

from ddid.attack.loop import ascend
from ddid.defense.recipe import Card, Crafted, Recipe, Scene

CARD = Card(
    paper="Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks",
    idea="PGD on the classifier's cross-entropy; the classifier is dropped when it is scored.",
    ours="The loss sees clean images too, as all our recipes but GOAT do, and keeps the triplets.",
)


def craft_on_logits(scene: Scene) -> Crafted:
    """Raise the cross-entropy of the true class."""

    def logits(images: Tensor) -> Tensor:
        return scene.net(images, heads=True).logits

    def surprise(values: Tensor) -> Tensor:
        return functional.cross_entropy(values, scene.labels, reduction="none")

    return Crafted(ascend(logits, scene.images, surprise, scene.budget, scene.generator))


RECIPES = [Recipe("classifier_at", CARD, craft_on_logits)]

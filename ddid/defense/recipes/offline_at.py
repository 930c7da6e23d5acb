"""Offline adversarial training: learn from attacks on an undefended network."""

from torch import Tensor

from ddid.attack.scene import Scene
from ddid.attack.seen import ifgsm
from ddid.defense.recipe import Card, Recipe
from ddid.errors import InputError

CARD = Card(
    paper="Bai et al. 2021, Adversarial Metric Attack and Defense for Person Re-Identification",
    idea="Metric I-FGSM on a network trained beforehand; train a new one on clean and attacked.",
    ours="Attacks are crafted anew for every augmented batch instead of once for the data set.",
)


def on_source(scene: Scene) -> Tensor:
    """Attack the undefended network, not the one in training."""
    if scene.surrogate is None:
        raise InputError("offline adversarial training attacks an undefended network: give one")
    return ifgsm(scene.surrogate)


RECIPES = [Recipe("offline_at", CARD, on_source, needs_source=True)]

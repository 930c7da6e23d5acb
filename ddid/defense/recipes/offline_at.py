"""Offline adversarial training: learn from attacks on an undefended network."""

from ddid.attack.objectives import ifgsm
from ddid.attack.scene import Scene
from ddid.defense.recipe import Card, Crafted, Recipe, craft_with
from ddid.errors import InputError

CARD = Card(
    paper="Bai et al. 2021, Adversarial Metric Attack and Defense for Person Re-Identification",
    idea="Metric I-FGSM on a network trained beforehand; train a new one on clean and attacked.",
    ours="Attacks are crafted anew for every augmented batch instead of once for the data set.",
)


def craft_on_source(scene: Scene) -> Crafted:
    """Attack the undefended network, not the one in training."""
    if scene.surrogate is None:
        raise InputError("offline adversarial training attacks an undefended network: give one")
    return craft_with(ifgsm)(scene.surrogate)


RECIPES = [Recipe("offline_at", CARD, craft_on_source, needs_source=True)]

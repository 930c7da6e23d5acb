"""Dynamic budgets: a stronger attack on images that can bear it, a weaker one on the others."""

import torch
from torch import Tensor

from ddid.attack.scene import Scene
from ddid.defense.recipe import Card, Crafted, Recipe, craft_fna
from ddid.metric.distance import normalize

CARD = Card(
    paper="DAS, the dynamic-budget defence that Zhou et al. 2026 (arXiv 2511.09933) compare with",
    idea="Each training image gets the budget it can learn from.",
    ours="Everything but the idea, for no source at hand states more: FNA's perturbation is scaled "
    "by the image's margin over the batch's mean margin, within half and one and a half budgets.",
)
RANGE = (0.5, 1.5)


def craft_within_margin(scene: Scene) -> Crafted:
    """FNA, its perturbation shrunk or stretched image by image."""
    crafted = craft_fna(scene)
    scale = margin_share(scene).clamp(*RANGE)
    moved = torch.lerp(scene.images, crafted.images, scale.view(-1, 1, 1, 1))
    return Crafted(moved.clamp(0, 1), crafted.far)


def margin_share(scene: Scene) -> Tensor:
    """(B,) distance to the nearest other centroid less that to the own, over the batch's mean."""
    guides = scene.guides
    distances = torch.cdist(normalize(guides.own), normalize(guides.centroids))
    own = distances.gather(1, guides.identity[:, None])
    others = distances.masked_fill(guides.is_own, torch.inf)
    margin = (others.min(1).values - own.squeeze(1)).clamp(min=0)
    return margin / margin.mean().clamp(min=1e-6)


RECIPES = [Recipe("dynamic_budget", CARD, craft_within_margin)]

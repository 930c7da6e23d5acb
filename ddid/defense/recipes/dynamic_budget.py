"""Dynamic budgets: a stronger attack on images that can bear it, a weaker one on the others."""

import torch
from torch import Tensor
from torch.nn import functional

from ddid.attack.scene import Scene
from ddid.attack.seen import fna
from ddid.defense.recipe import Card, Recipe

CARD = Card(
    paper="DAS, the dynamic-budget defence that Zhou et al. 2026 (arXiv 2511.09933) compare with",
    idea="Each training image gets the budget it can learn from.",
    ours="Everything but the idea, for no source at hand states more: FNA's perturbation is scaled "
    "by the image's margin over the batch's mean margin, within half and one and a half budgets.",
)


def within_margin(scene: Scene) -> Tensor:
    """FNA, its perturbation shrunk or stretched image by image."""
    scale = margin_share(scene).clamp(0.5, 1.5).view(-1, 1, 1, 1)
    return torch.lerp(scene.images, fna(scene), scale).clamp(0, 1)


def margin_share(scene: Scene) -> Tensor:
    """(B,) distance to the nearest other centroid less that to the own, over the batch's mean."""
    guides = scene.guides
    distances = torch.cdist(guides.own, functional.normalize(guides.centroids))
    own = distances.gather(1, guides.identity[:, None]).squeeze(1)
    others = distances.masked_fill(guides.is_own, torch.inf)
    margin = (others.min(1).values - own).clamp(min=0)
    return margin / margin.mean().clamp(min=1e-6)


RECIPES = [Recipe("dynamic_budget", CARD, within_margin)]

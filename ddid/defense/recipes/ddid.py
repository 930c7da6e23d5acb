"""The paper's defence, its metric-AT base, and what halves of a batch alone are worth."""

from dataclasses import replace

from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Part, Recipe

PAPER = (
    "Zhou et al. 2026, Debiased Dual-Invariant Defense for Adversarially Robust Person "
    "Re-Identification (arXiv 2511.09933)"
)
METRIC_AT = Recipe(
    "metric_at", PAPER, "FNA on the network in training; classification and triplets on both kinds."
)
DDID = Recipe(
    "ddid",
    PAPER,
    "Metric AT with FNES, the discriminator's game and the self-meta step.",
    "All hyper-parameters; first-order meta gradient; unit-length features for D.",
    fnes=FNES(),
    discriminator=0.1,
    meta=Meta(),
)


def control(name: str, *parts: Part) -> Recipe:
    """Metric AT with these parts of the step kept within halves of the batch."""
    words = ", ".join(parts)
    idea = f"Batches count as two halves for {words}, as in self-meta learning; no look ahead."
    return replace(METRIC_AT, name=name, idea=idea, ours="A control of ours.", by_half=parts)


RECIPES = [
    METRIC_AT,
    control("half_batches", "guides", "statistics", "triplets"),
    control("half_statistics", "statistics"),
    control("half_triplets", "triplets"),
    DDID,
]

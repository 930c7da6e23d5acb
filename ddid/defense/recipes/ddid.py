"""The paper's defence, its metric-AT base, and self-meta learning that looks nowhere ahead."""

from dataclasses import replace

from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Recipe

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


HALF_BATCHES = replace(
    METRIC_AT,
    name="half_batches",
    idea="Metric AT on two halves of every batch that never meet: self-meta learning with α = 0.",
    ours="A control of ours.",
    meta=Meta(rate=0.0),
)
RECIPES = [METRIC_AT, HALF_BATCHES, DDID]

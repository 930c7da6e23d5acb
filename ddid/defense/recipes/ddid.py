"""The paper's defence, its metric-AT base, and the ablation rows between the two."""

from dataclasses import replace

from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Card, Recipe

PAPER = (
    "Zhou et al. 2026, Debiased Dual-Invariant Defense for Adversarially Robust Person "
    "Re-Identification (arXiv 2511.09933)"
)
WEIGHT = 0.1  # our choice: see tests/benchmarks/tuning.py

METRIC_AT = Recipe(
    "metric_at",
    Card(PAPER, "FNA on the network in training; classification and triplets on both kinds."),
)
DDID = Recipe(
    "ddid",
    Card(
        PAPER,
        "Metric AT with FNES, the discriminator's game and the self-meta step.",
        ours="All hyper-parameters; first-order meta gradient; unit-length features for D.",
    ),
    fnes=FNES(),
    discriminator=WEIGHT,
    meta=Meta(),
)
ROW = Card(PAPER, "Metric AT with one module of DDID switched on.")
RECIPES = [
    METRIC_AT,
    replace(METRIC_AT, name="metric_at+discriminator", card=ROW, discriminator=WEIGHT),
    replace(METRIC_AT, name="metric_at+meta", card=ROW, meta=Meta()),
    replace(METRIC_AT, name="metric_at+fnes", card=ROW, fnes=FNES()),
    DDID,
]

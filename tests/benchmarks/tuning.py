"""`python -m tests.benchmarks.tuning`: what each option of DDID is worth, on streets of its own.

Writes figures/results/tuning.csv.
"""

from dataclasses import replace
from itertools import product

import pandas as pd

from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Recipe
from ddid.defense.recipes import find_recipe
from ddid.defense.training import TrainConfig
from tests.benchmarks.streets import RESULTS, RUN, STEPS, STREETS, read_street, score, work_through

INNER = {
    "ddid, 1 inner step": {"attack_steps": 1, "attack_step": 8 / 255},
    "ddid, 6 inner steps": {"attack_steps": 6, "attack_step": 2 / 255},
}
"""Changes of the training's attack, which belongs to no recipe: 3 steps of 4/255 otherwise."""


def variants() -> dict[str, Recipe]:
    """The base, each module alone, the whole, and these with a setting changed: on all streets."""
    base, whole = find_recipe("metric_at"), find_recipe("ddid")
    return {
        "metric_at": base,
        "metric_at+meta": replace(base, meta=Meta()),
        "metric_at+meta, rate 0": replace(base, meta=Meta(rate=0.0)),
        "metric_at+meta, rate 0.1": replace(base, meta=Meta(rate=0.1)),
        "metric_at+meta, rate 0.5": replace(base, meta=Meta(rate=0.5)),
        "metric_at+fnes": replace(base, fnes=FNES()),
        "metric_at+fnes, gamma 1.25": replace(base, fnes=FNES(gamma=1.25)),
        "metric_at+discriminator": replace(base, discriminator=0.1),
        "metric_at+discriminator, weight 1": replace(base, discriminator=1.0),
        "ddid": whole,
        "ddid, gamma 1.25": replace(whole, fnes=FNES(gamma=1.25)),
        "ddid, no discriminator": replace(whole, discriminator=0.0),
    }


def options() -> dict[str, Recipe]:
    """The whole method with one choice changed: on the first street."""
    whole = find_recipe("ddid")
    return {
        "ddid, gamma 2": replace(whole, fnes=FNES(gamma=2.0, omega=(0.0, 0.5))),
        "ddid, no shift": replace(whole, fnes=FNES(shift=0.0)),
        "ddid, second order": replace(whole, meta=Meta(second_order=True)),
        "ddid, split by camera": replace(whole, meta=Meta(split="camera")),
        "ddid, split at random": replace(whole, meta=Meta(split="random")),
        "ddid, other attack": replace(whole, meta=Meta(other_attack=True)),
        "ddid, BatchNorm apart": replace(whole, statistics="apart"),
    } | dict.fromkeys(INNER, whole)


def measure(name: str, street: int) -> pd.DataFrame:
    """Train one variant on one street and score it: a row per attack."""
    recipe = (variants() | options())[name]
    config = replace(TrainConfig(steps=STEPS, seed=street), **INNER.get(name, {}))
    folder = RUN / f"street{street}" / name.replace(" ", "_")
    rows = score(recipe, read_street(street), config, folder)
    rows = rows[rows["metric"] == "mAP"].assign(variant=name, street=street, steps=STEPS)
    return rows[["variant", "street", "steps", "attack", "value"]]


def main() -> None:
    """Measure what is left, and write the table after each."""
    for street in STREETS:
        read_street(street)
    jobs = [*product(variants(), STREETS), *product(options(), STREETS[:1])]
    work_through(jobs, measure, RESULTS / "tuning.csv")


if __name__ == "__main__":
    main()

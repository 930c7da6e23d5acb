"""`python -m tests.benchmarks.tuning`: what each option of DDID is worth, on a street of its own.

The people and cameras of street 90 appear in no result: neither the demo nor the bench uses it.
Trainings and attacks that are done are not done again. Writes figures/results/tuning.csv.
"""

import sys
from dataclasses import replace

import pandas as pd
import torch

from ddid.data.loading import ImageSet
from ddid.data.manifest import query_gallery
from ddid.data.market import read_market
from ddid.data.street import StreetConfig, write_street
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Recipe
from ddid.defense.recipes import find_recipe
from ddid.defense.training import TrainConfig, train
from ddid.parameters import REPOSITORY
from ddid.report.robustness import Plan, evaluate
from ddid.report.subject import Subject
from ddid.run import atomic_write

STREET, STEPS, SIZE = 90, 200, (64, 32)
RUN = REPOSITORY / "runs" / "tuning"
TABLE = REPOSITORY / "figures" / "results" / "tuning.csv"


def variants() -> dict[str, Recipe]:
    """The base, each module alone, the whole, and the whole with one option changed."""
    base, whole = find_recipe("metric_at"), find_recipe("ddid")
    modules = ("discriminator", "meta", "fnes")
    return {
        "metric_at": base,
        "metric_at, BatchNorm apart": replace(base, statistics="apart"),
        **{f"metric_at+{name}": find_recipe(f"metric_at+{name}") for name in modules},
        "metric_at+meta, rate 0": replace(base, meta=Meta(rate=0.0)),
        "ddid": whole,
        "ddid, BatchNorm together": replace(whole, statistics="together"),
        "ddid, second order": replace(whole, meta=Meta(second_order=True)),
        "ddid, split by camera": replace(whole, meta=Meta(split="camera")),
        "ddid, split at random": replace(whole, meta=Meta(split="random")),
        "ddid, other attack": replace(whole, meta=Meta(other_attack=True)),
        "ddid, rate 0.05": replace(whole, meta=Meta(rate=0.05)),
        "ddid, gamma 1": replace(whole, fnes=FNES(gamma=1.0)),
        "ddid, gamma 2": replace(whole, fnes=FNES(gamma=2.0, omega=(0.0, 0.5))),
        "ddid, no shift": replace(whole, fnes=FNES(shift=0.0)),
        "ddid, discriminator 1": replace(whole, discriminator=1.0),
    }


def measure(name: str, recipe: Recipe, sides: dict[str, ImageSet]) -> pd.DataFrame:
    """Train one variant and score it: a row per attack."""
    folder = RUN / name.replace(" ", "_")
    net = train(recipe, sides["train"], TrainConfig(steps=STEPS), folder / "model")
    subject = Subject.of(net, sides["query"], sides["gallery"])
    rows = evaluate(subject, folder / "attacks", Plan(("fna", "sma", "ifgsm"))).rows()
    rows = rows[rows["metric"] == "mAP"]
    return rows.assign(variant=name, steps=STEPS)[["variant", "steps", "attack", "value"]]


def main(names: list[str]) -> None:
    """Measure the named variants, all by default, and write the table after each."""
    torch.set_num_threads(1)
    street = write_street(RUN / "street", StreetConfig(seed=STREET))
    frame = read_market(street).manifest
    query, gallery = query_gallery(frame)
    parts = {"train": frame[frame["split"] == "train"], "query": query, "gallery": gallery}
    sides = {name: ImageSet.read(rows, SIZE) for name, rows in parts.items()}
    tables = []
    for name, recipe in variants().items():
        if name in names or not names:
            tables.append(measure(name, recipe, sides))
            with atomic_write(TABLE) as temporary:
                pd.concat(tables).to_csv(temporary, index=False, float_format="%.4g")
            sys.stdout.write(f"{tables[-1].to_string(index=False, header=False)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])

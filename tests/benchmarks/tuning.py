"""`python -m tests.benchmarks.tuning`: what each option of DDID is worth, on streets of its own.

The people and cameras of these streets appear in no result: neither the demo nor the bench uses
them. Trainings and attacks that are done are not done again. Writes figures/results/tuning.csv.
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product

import pandas as pd

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
from ddid.sweep import enter_worker

STREETS, STEPS, SIZE = (90, 91), 300, (64, 32)
RUN = REPOSITORY / "runs" / "tuning"
TABLE = REPOSITORY / "figures" / "results" / "tuning.csv"
ATTACKS = ("fna", "sma", "ifgsm")
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
    root, recipe = RUN / f"street{street}", (variants() | options())[name]
    folder = root / name.replace(" ", "_")
    sides = read_sides(street)
    config = replace(TrainConfig(steps=STEPS, seed=street), **INNER.get(name, {}))
    subject = Subject.of(
        train(recipe, sides["train"], config, folder / "model"), sides["query"], sides["gallery"]
    )
    rows = evaluate(subject, folder / "attacks", Plan(ATTACKS)).rows()
    rows = rows[rows["metric"] == "mAP"].assign(variant=name, street=street, steps=STEPS)
    return rows[["variant", "street", "steps", "attack", "value"]]


def read_sides(street: int) -> dict[str, ImageSet]:
    """Training, query and gallery images of a street, written once."""
    config = StreetConfig(seed=street, height=SIZE[0], width=SIZE[1])
    frame = read_market(write_street(RUN / f"street{street}" / "images", config)).manifest
    query, gallery = query_gallery(frame)
    parts = {"train": frame[frame["split"] == "train"], "query": query, "gallery": gallery}
    return {name: ImageSet.read(rows, SIZE) for name, rows in parts.items()}


def main() -> None:
    """Measure what is left, and write the table after each."""
    for street in STREETS:
        read_sides(street)
    jobs = [*product(variants(), STREETS), *product(options(), STREETS[:1])]
    tables: dict[tuple[str, int], pd.DataFrame] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn, enter_worker) as pool:
        running = {pool.submit(measure, *job): job for job in jobs}
        for future in as_completed(running):
            job = running[future]
            tables[job] = future.result()
            with atomic_write(TABLE) as temporary:
                ordered = pd.concat([tables[job] for job in jobs if job in tables])
                ordered.to_csv(temporary, index=False, float_format="%.4g")
            cells = " ".join(f"{a} {v:.1f}" for a, v in tables[job][["attack", "value"]].to_numpy())
            sys.stdout.write(f"{job[0]} on street {job[1]}: {cells}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

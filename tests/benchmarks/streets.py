"""Streets whose people and cameras appear in no result: neither the demo nor the bench uses them.

What `tuning` and `gate` share. Trainings and attacks that are done are not done again.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd

from ddid.data import Data, read_data
from ddid.defense.recipe import Recipe
from ddid.defense.training import TrainConfig, train
from ddid.files import atomic_write
from ddid.notebook import REPOSITORY
from ddid.report.robustness import Plan, evaluate
from ddid.report.subject import Subject
from ddid.street.street import StreetConfig, write_street
from ddid.sweep import enter_worker

STREETS, STEPS, SIZE = (90, 91), 300, (64, 32)
RUN = REPOSITORY / "runs" / "tuning"
RESULTS = REPOSITORY / "figures" / "results"
ATTACKS = ("fna", "sma", "ifgsm")


def config_of(street: int) -> StreetConfig:
    """The street itself."""
    return StreetConfig(seed=street, height=SIZE[0], width=SIZE[1])


def read_street(street: int) -> pd.DataFrame:
    """The manifest of a street, written once."""
    return read_data(write_street(RUN / f"street{street}" / "images", config_of(street))).manifest


def score(
    recipe: Recipe, manifest: pd.DataFrame, config: TrainConfig, folder: Path
) -> pd.DataFrame:
    """Train on a manifest's train rows and attack: tidy rows of every metric."""
    train_set, *sides = Data(manifest).images(size=SIZE)
    subject = Subject.of(train(recipe, train_set, config, folder / "model"), *sides)
    return evaluate(subject, folder / "attacks", Plan(ATTACKS)).rows()


def work_through(
    jobs: Sequence[tuple], measure: Callable[..., pd.DataFrame], table: Path
) -> pd.DataFrame:
    """`measure(*job)` in as many processes as there are cores; write the table after each job."""
    tables: dict[tuple, pd.DataFrame] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn, enter_worker) as pool:
        running = {pool.submit(measure, *job): job for job in jobs}
        for future in as_completed(running):
            tables[running[future]] = future.result()
            found = pd.concat([tables[job] for job in jobs if job in tables])
            with atomic_write(table) as temporary:
                found.to_csv(temporary, index=False, float_format="%.4g")
            sys.stdout.write(f"{len(tables)} of {len(jobs)}: {running[future]}\n")
            sys.stdout.flush()
    return found

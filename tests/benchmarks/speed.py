"""`make bench-speed`: every ratio in one run, printed and kept in figures/results/speed.csv."""

import importlib
import sys
from pathlib import Path

import pandas as pd

from ddid.files import atomic_write
from tests.benchmarks.timing import hardware

MODULES = ("data", "memory", "ranking", "attack_step", "training_step", "diffusion")
TABLE = Path(__file__).resolve().parents[2] / "figures" / "results" / "speed.csv"


def measure(modules: tuple[str, ...] = MODULES) -> pd.DataFrame:
    """Run benchmarks: what, measured, floor, ratio, hardware."""
    rows = [
        row
        for name in modules
        for row in importlib.import_module(f"tests.benchmarks.{name}").rows()
    ]
    return pd.DataFrame(rows).assign(hardware=hardware())


if __name__ == "__main__":
    table = measure()
    with atomic_write(TABLE) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    sys.stdout.write(f"{table.to_string(index=False, float_format='%.3f')}\n{TABLE}\n")

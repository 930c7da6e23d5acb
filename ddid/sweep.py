"""The experiment: every recipe, several seeds, every attack, two domains, in one tidy table.

Cells run in worker processes with one thread each and leave `rows.json`, so a sweep that was
interrupted goes on where it stopped.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pandas as pd
import torch

from ddid.attack import find_attack
from ddid.balance.strategies import STRATEGIES
from ddid.defense.recipes import find_recipe
from ddid.errors import InputError, require
from ddid.experiment import (
    HOME,
    Cell,
    Sweep,
    cells_of,
    finished,
    prepare_seed,
    run_cell,
    settings,
)
from ddid.files import atomic_write, read_json
from ddid.notebook import resolve
from ddid.progress import Progress

COLUMNS = ["recipe", "seed", "domain", "attack", "metric", "value", "profile", "hardware"]


def run_sweep(
    sweep: Sweep,
    out: str | Path = "",
    csv: str | Path = "",
    workers: int = 0,
    *,
    shape: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run the cells that are left, and write one table of all cells when they are there.

    After each, the finished ones are in `out/so_far.csv`: a table in figures/results is whole.

    Args:
        sweep: what to compare.
        out: folder of the cells, `runs/PROFILE/defenses` if empty; relative to the repository.
        csv: where the tidy table with `COLUMNS` goes at the end, `out/defenses.csv` if empty.
        workers: processes, one thread each; all cores if 0, one where a GPU does the work.
        shape: what is done to the table before it is written, say `by_strategy`.
        progress: told the cells done.

    Raises:
        InputError: unknown recipe, attack or profile, or a cell that failed on bad input.
    """
    root = resolve(out or f"runs/{sweep.profile}/defenses")
    csv = resolve(csv) if csv else root / "defenses.csv"
    cells = cells_of(sweep, root)
    _check(sweep)
    done = [cell for cell in cells if finished(cell)]
    left = [cell for cell in cells if cell not in done]
    try:
        for cell in _run(sweep, root, left, workers or _processes()):
            done.append(cell)
            collect(done, root / "so_far.csv", shape)
            if progress:
                progress("cells of the sweep", len(done), len(cells))
    except BrokenProcessPool as error:
        raise InputError(
            "a worker of the sweep died, perhaps for lack of memory: start again with fewer "
            "--workers; finished cells are kept"
        ) from error
    return collect(done, csv, shape)


def _run(sweep: Sweep, root: Path, cells: Sequence[Cell], workers: int) -> Iterator[Cell]:
    """Prepare every seed, then yield the cells as they finish; a failure cancels the waiting."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, enter_worker)
    try:
        list(pool.map(prepare_seed, [Cell(sweep, "", seed, root) for seed in sweep.seeds]))
        for future in as_completed([pool.submit(run_cell, cell) for cell in cells]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def collect(
    cells: Sequence[Cell], csv: Path, shape: Callable[[pd.DataFrame], pd.DataFrame] | None = None
) -> pd.DataFrame:
    """One table of the finished cells, in the sweep's order, also written to `csv`."""
    sweep = cells[0].sweep
    ordered = sorted(cells, key=lambda c: (sweep.recipes.index(c.recipe), c.seed))
    parts = [
        pd.DataFrame(read_json(cell.folder / "rows.json")["rows"]).assign(recipe=cell.recipe)
        for cell in ordered
    ]
    table = pd.concat(parts, ignore_index=True)[COLUMNS]
    table = shape(table) if shape else table
    with atomic_write(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    return table


def by_strategy(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a sweep over `BALANCING` at home, by strategy instead of recipe."""
    home = table[table["domain"] == HOME]
    strategies = [name.partition("@")[2] for name in home["recipe"]]
    return home.assign(strategy=strategies)[["strategy", *COLUMNS[1:2], *COLUMNS[3:]]]


def _check(sweep: Sweep) -> None:
    for cell in cells_of(sweep, Path()):
        find_recipe(cell.defense)
        known = f"choose one of {', '.join(STRATEGIES)}"
        require(cell.strategy in STRATEGIES, f"no strategy {cell.strategy!r}: {known}")
    for name in (*sweep.attacks, *sweep.unseen, *sweep.away):
        find_attack(name)
    require(bool(sweep.recipes and sweep.seeds), "a sweep needs a recipe and a seed at least")
    settings(sweep)


def _processes() -> int:
    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def enter_worker() -> None:
    """What a worker process does first: one thread for torch, and an eye on its parent.

    A parent that was killed cannot call its workers off; they would go on through the whole queue.
    """
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

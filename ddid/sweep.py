"""A study's runs on a Dask cluster: equal beginnings run once, killed workers' work again."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ddid.errors import InputError, refused, require
from ddid.files import atomic_write, from_here, lock
from ddid.gains import gains_of
from ddid.notebook import resolve
from ddid.pipeline import identities, run_notebooks
from ddid.profiles import Plans
from ddid.progress import Progress
from ddid.study import Cell, Study, cells_of

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES = 3  # our choice: of a notebook whose worker or kernel dies
DASK = {
    "distributed.scheduler.allowed-failures": TRIES - 1,
    "distributed.worker.profile.enabled": False,  # it and a tick of 20 ms took 13 % of a core
    "distributed.admin.tick.interval": "1s",
}
ONE = threading.Lock()  # one notebook at a time in a worker, whatever its threads


def run_study(
    study: Study,
    out: str | Path = "",
    csv: str | Path = "",
    *,
    settings: Mapping[str, Any] | None = None,
    scheduler: str = "",
    workers: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run what is left of a study and write its table; parameters in `settings` overrule its own.

    The folder `out`, or `runs/STUDY` beside `notebooks/`, gets `steps/IDENTITY` for every notebook
    executed, `runs/NAME` for every cell, `so_far.csv`, and the table unless `csv` says where; the
    gains, `…_gains.csv`, go beside it. InputError: a cell stopped, after all others were run.
    """
    root = from_here(out) if out else resolve(f"runs/{study.name}")
    csv = from_here(csv) if csv else root / f"{study.name}.csv"
    cells = {cell.name: cell for cell in cells_of(study, settings)}
    rows: dict[str, list[dict[str, Any]]] = {}
    with lock(root), connect(scheduler, workers) as client:
        for name, folder, stopped in _run(client, cells, root / "steps", progress):
            if stopped:
                sys.stderr.write(f"ddid: {name}: {stopped}\n")
                continue
            _link(root / "runs" / name, folder)
            rows[name] = list(cells[name].rows(study, folder))
            in_order = [row for name in cells for row in rows.get(name, [])]
            table = pd.DataFrame(in_order, columns=study.columns)
            _write(table, root / "so_far.csv")
    left = f"{len(cells) - len(rows)} of {len(cells)} runs of {study.name} stopped"
    require(rows.keys() == cells.keys(), f"{left}: mend that and start again, the others are kept")
    _write(table, csv)
    if study.gains:
        queries = pd.concat(c.queries(study.gains, root / "runs" / c.name) for c in cells.values())
        gains = gains_of(queries, study.columns[0], study.gains.over)
        _write(gains, csv.with_name(f"{csv.stem}_gains.csv"))
    return table


def _write(table: pd.DataFrame, csv: Path) -> None:
    with atomic_write(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def _run(
    client: "Client", cells: Mapping[str, Cell], steps: Path, progress: Progress | None
) -> Iterator[tuple[str, Path, str]]:
    """Run every notebook once; yield names of cells as they end, run folder, why it stopped."""
    from distributed import as_completed

    futures: dict[Path | None, Future] = {}
    ends: dict[str, list[tuple[str, Path]]] = {}
    for name, cell in cells.items():
        before: Path | None = None
        for notebook, identity in zip(cell.plans, identities(cell.plans), strict=True):
            root, plan = steps / identity[:16], {notebook: cell.plans[notebook]}
            if root not in futures:
                key = f"{Path(notebook).stem}-{root}"  # a scheduler may serve several studies
                given = plan, root, before, futures.get(before)
                # In the study's order, so that what is there of an unfinished one can be compared.
                how = {"key": key, "retries": TRIES - 1, "priority": -len(futures)}
                futures[root] = client.submit(run_step, *given, **how)
            before = root
        ends.setdefault(futures[root].key, []).append((name, root))
    for done, future in enumerate(as_completed(list(futures.values()), loop=client.loop), 1):
        error = future.exception()
        stopped = f"{type(error).__name__}: {error}" if error else future.result()
        for name, root in ends.get(future.key, []):
            yield name, root, stopped
        if progress:
            progress("notebooks of the study", done, len(futures))


def run_step(plan: Plans, root: Path, before: Path | None, stopped: str | None) -> str:
    """Run one notebook in a folder of links to what ran `before` it; why it or that stopped, or "".
    InputError if the kernel died, which another try may mend."""
    if stopped:
        return stopped
    # Dask sets it for its workers, whose kernels would spend a third of a training on page faults.
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "decoded").is_dir():  # what one step decodes is there for all
        (root.parents[1] / "decoded").mkdir(exist_ok=True)
        _link(root / "decoded", root.parents[1] / "decoded")
    for state in before.glob("*/state.json") if before else ():
        _link(root / state.parent.name, state.parent.resolve())
    plan = {notebook: {**parameters, "out": str(root)} for notebook, parameters in plan.items()}
    try:
        with ONE, (root / "printed.txt").open("a", encoding="utf-8") as stream:
            run_notebooks(plan, root, stream)
    except InputError as error:
        if type(error.__cause__).__name__ == "DeadKernelError":
            raise
        return str(error)
    return ""


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.resolve() == target.resolve()):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def dask_setup(_: object) -> None:
    """What a worker of ours begins with: Ctrl-C is for the sweep, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def connect(scheduler: str = "", workers: int = 0) -> "Client":
    """A client of the Dask cluster at an address, or of one on this machine while it is open:
    `workers` processes (one a core if 0) of one thread each, which leave with a killed parent."""
    import dask
    from distributed import Client

    require(workers >= 0, f"{workers} workers: give their number, or 0 for one a core")
    local = {
        "n_workers": workers or None,
        "threads_per_worker": 1,
        "preload": __name__,
        "memory_limit": 0,  # the work is in kernels, which Dask does not watch
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
    }
    where = {"address": scheduler} if scheduler else local
    told = f"no Dask scheduler answers at {scheduler}"
    with refused(told, OSError, ValueError), dask.config.set(DASK):
        return Client(**where, timeout=30, set_as_default=False)

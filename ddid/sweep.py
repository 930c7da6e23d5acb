"""A study's runs on a Dask cluster: equal notebooks run once, killed workers' work again."""

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ddid.errors import InputError, require
from ddid.files import atomic_write, lock, read_json
from ddid.gains import gains_of
from ddid.notebook import resolve
from ddid.pipeline import identities, run_notebooks
from ddid.progress import Progress
from ddid.study import Cell, Study, cells_of, flatten

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES = 3  # our choice: of a notebook whose worker or kernel dies, before its runs are given up


ONE = threading.Lock()  # a worker's threads share environment variables, notebooks must not


@dataclass(frozen=True)
class Step:
    """One notebook under its parameters, after those before it: run once for all cells it is in."""

    notebook: str
    parameters: Mapping[str, Any]
    root: Path
    before: Path | None
    """Run folder of the notebook before."""


def run_study(
    study: Study,
    out: str | Path = "",
    csv: str | Path = "",
    *,
    settings: Mapping[str, Any] | None = None,
    scheduler: str = "",
    workers: int = 0,
    partial: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run what is left of a study and write its table; what is there is in `out/so_far.csv`.

    Each notebook has a run folder `out/steps/IDENTITY`, in which those before it are links, so two
    runs that begin alike share their beginning; `out/runs/NAME` leads to a cell's whole run.

    Args:
        study: from `read_study`.
        out: folder of the runs; `runs/STUDY` beside `notebooks/` if empty. Workers elsewhere need
            it under the same path.
        csv: the tidy table with the study's columns, `out/STUDY.csv` if empty; its gains go beside
            it as `…_gains.csv`. Both are written when all cells are there.
        settings: parameters that overrule the study's.
        scheduler: address of a Dask cluster; one on this machine if empty.
        workers: processes of the local cluster, one thread each; one a core if 0.
        partial: write the table without the cells that failed.
        progress: told the notebooks done.

    Raises:
        InputError: a parameter the notebooks do not take, the folder is another sweep's, or a cell
            stopped on bad input (after all others were run).
    """
    root = Path(out).expanduser().absolute() if out else resolve(f"runs/{study.name}")
    cells = cells_of(study, settings)
    with lock(root):
        chains = {cell.name: _chain(cell, root) for cell in cells}
        with connect(scheduler, workers) as client:
            failed: dict[str, str] = {}
            for cell in _run(client, chains, failed, progress):
                _view(root / "runs" / cell, chains[cell][-1].root)
                done = [c for c in cells if (root / "runs" / c.name).exists()]
                collect(study, done, root, root / "so_far.csv")
        for sentence in dict.fromkeys(failed.values()):
            names = [name for name, other in failed.items() if other == sentence]
            sys.stderr.write(f"ddid: {', '.join(names)}: {sentence}\n")
        require(
            partial or not failed,
            f"{len(failed)} of {len(cells)} runs of {study.name} are missing: mend the above and "
            f"start again, the others are kept ({root / 'so_far.csv'}; --partial writes them)",
        )
        whole = [cell for cell in cells if cell.name not in failed]
        csv = Path(csv).absolute() if csv else root / f"{study.name}.csv"
        collect_gains(study, whole, root, csv.with_name(f"{csv.stem}_gains.csv"))
        return collect(study, whole, root, csv)


def _chain(cell: Cell, root: Path) -> list[Step]:
    steps: list[Step] = []
    for (notebook, parameters), name in zip(
        cell.plans.items(), identities(cell.plans), strict=True
    ):
        before = steps[-1].root if steps else None
        steps.append(Step(notebook, parameters, root / "steps" / name[:16], before))
    return steps


def _run(
    client: "Client",
    chains: Mapping[str, list[Step]],
    failed: dict[str, str],
    progress: Progress | None,
) -> Iterator[str]:
    """Submit every step once; yield the cells as they finish, note those that `failed`."""
    from distributed import as_completed

    futures: dict[Path, Future] = {}
    for steps in chains.values():
        for step in steps:
            if step.root not in futures:
                key = f"{Path(step.notebook).stem}-{step.root.name}"
                before = futures[step.before] if step.before else ""
                run = client.submit(run_step, step, before, key=key, retries=TRIES - 1)
                futures[step.root] = run
    cells: dict[Future, list[str]] = {}
    for cell, steps in chains.items():
        cells.setdefault(futures[steps[-1].root], []).append(cell)
    for done, future in enumerate(as_completed(list(futures.values()), loop=client.loop), 1):
        sentence = _sentence(future)
        for cell in cells.get(future, ()):
            if sentence:
                failed[cell] = sentence
            else:
                yield cell
        if progress:
            progress("notebooks of the study", done, len(futures))


def run_step(step: Step, before: str = "") -> str:
    """Run a step where it was not run yet, on a worker; returns why it stopped, if it did.

    Raises:
        InputError: the kernel died, which another try may mend.
    """
    if before:
        return before
    step.root.mkdir(parents=True, exist_ok=True)
    for notebook in step.before.glob("*/state.json") if step.before else ():
        _view(step.root / notebook.parent.name, notebook.parent.resolve())
    plan = {step.notebook: {**step.parameters, "out": str(step.root)}}
    try:
        with ONE, (step.root / "printed.txt").open("a", encoding="utf-8") as stream:
            run_notebooks(plan, step.root, stream)
    except InputError as error:
        if type(error.__cause__).__name__ == "DeadKernelError":
            raise
        return str(error)
    return ""


def collect(study: Study, cells: list[Cell], root: Path, csv: Path) -> pd.DataFrame:
    """One table of the cells that are there, in the study's order, written to `csv`."""
    rows = [row for cell in cells for row in _rows(study, cell, root / "runs" / cell.name)]
    table = pd.DataFrame(rows).reindex(columns=study.columns)
    _write(table, csv)
    return table


def collect_gains(study: Study, cells: list[Cell], root: Path, csv: Path) -> None:
    """What each thing compared gains over others, written to `csv`."""
    gains = study.gains
    if gains is None:
        return
    by, files = study.columns[0], [root / "runs" / cell.name / gains.file for cell in cells]
    parts = [
        pd.read_csv(file).assign(
            **{k: v for k, v in cell.chosen.items() if k in (by, *gains.paired)}
        )
        for cell, file in zip(cells, files, strict=True)
    ]
    _write(gains_of(pd.concat(parts), by, gains.over, gains.paired), csv)


def _rows(study: Study, cell: Cell, folder: Path) -> Iterator[dict[str, Any]]:
    for each in study.gather:
        notebook, *keys = each.record.split(".")
        record = read_json(folder / notebook / "metrics.json")
        for key in keys:
            require(key in record, f"{folder / notebook} recorded no {key}: see the study's gather")
            record = record[key]
        parameters = {name: v for plan in cell.plans.values() for name, v in plan.items()}
        common = (
            parameters
            | dict(cell.chosen)
            | each.columns
            | {
                "profile": study.profile,
                "hardware": read_json(folder / notebook / "environment.json")["hardware"],
            }
        )
        for row in flatten(record, each.levels):
            if all(row[level] in wanted for level, wanted in each.only.items()):
                yield common | row


def _write(table: pd.DataFrame, csv: Path) -> None:
    with atomic_write(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")


def _view(link: Path, target: Path) -> None:
    """Make `link` lead to `target`."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.resolve() == target.resolve()):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _sentence(future: "Future") -> str:
    """Why a step stopped; nothing if it did not."""
    error = future.exception()
    if error is None:
        return future.result()
    if type(error).__name__ == "KilledWorker":
        return f"a worker died {TRIES} times with it, perhaps for want of memory"
    return f"{type(error).__name__}: {error}"


@contextmanager
def connect(scheduler: str = "", workers: int = 0) -> Iterator["Client"]:
    """A client of the cluster at an address, or of one made on this machine for the while.

    Local workers are processes of one thread each, and leave with a parent that is killed.

    Raises:
        InputError: nobody answers at the address.
    """
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=30, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client
        return
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": TRIES - 1}),
        LocalCluster(
            n_workers=workers or None,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client

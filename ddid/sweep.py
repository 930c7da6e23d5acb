"""A study's runs on a Dask cluster: equal beginnings run once, killed workers' work again."""

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
from ddid.files import atomic_write, from_here, lock
from ddid.gains import gains_of
from ddid.notebook import resolve
from ddid.pipeline import identities, run_notebooks
from ddid.progress import Progress
from ddid.study import Cell, Study, cells_of

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES = 3  # our choice: of a notebook whose worker or kernel dies
ONE = threading.Lock()  # a worker's threads share environment variables, notebooks must not


@dataclass(frozen=True)
class Step:
    """One notebook under its parameters, after those before it."""

    notebook: str
    parameters: Mapping[str, Any]
    root: Path
    """Its run folder, in which the notebooks before it are links."""
    before: Path | None


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
    """Run what is left of a study and write its table.

    Args:
        study: from `read_study`.
        out: its folder, `runs/STUDY` beside `notebooks/` if empty: `steps/IDENTITY` for every
            notebook executed, `runs/NAME` for every cell, `so_far.csv`. Workers on other machines
            need it under the same path.
        csv: the table, `out/STUDY.csv` if empty; beside it its gains, `…_gains.csv`.
        settings: parameters that overrule the study's.
        scheduler: address of a Dask cluster; one on this machine if empty.
        workers: processes of the local cluster, one thread each; one a core if 0.
        partial: write the table without the cells that stopped.
        progress: told the notebooks done.
    """
    root = from_here(out) if out else resolve(f"runs/{study.name}")
    csv = Path(csv).absolute() if csv else root / f"{study.name}.csv"
    cells = {cell.name: cell for cell in cells_of(study, settings)}
    rows: dict[str, list[dict[str, Any]]] = {}
    stopped: dict[str, list[str]] = {}
    with lock(root):
        chains = {name: _chain(cell, root / "steps") for name, cell in cells.items()}
        with connect(scheduler, workers) as client:
            for name, sentence in _run(client, chains, progress):
                if sentence:
                    stopped.setdefault(sentence, []).append(name)
                    continue
                _link(root / "runs" / name, chains[name][-1].root)
                rows[name] = list(cells[name].rows(study, root / "runs" / name))
                _write(_table(study, rows, cells), root / "so_far.csv")
        _tell(stopped)
        require(
            partial or not stopped,
            f"{len(cells) - len(rows)} of {len(cells)} runs of {study.name} stopped: mend that and "
            "start again, the others are kept (or write their table with --partial)",
        )
        _write_gains(study, rows, cells, root, csv)
        return _write(_table(study, rows, cells), csv)


def _tell(stopped: Mapping[str, list[str]]) -> None:
    for sentence, names in stopped.items():
        sys.stderr.write(f"ddid: {', '.join(names)}: {sentence}\n")


def _write_gains(
    study: Study, rows: Mapping[str, list], cells: Mapping[str, Cell], root: Path, csv: Path
) -> None:
    if study.gains:
        queries = pd.concat([cells[n].queries(study.gains, root / "runs" / n) for n in rows])
        gains = gains_of(queries, study.columns[0], study.gains.over, study.gains.paired)
        _write(gains, csv.with_name(f"{csv.stem}_gains.csv"))


def _table(study: Study, rows: Mapping[str, list], cells: Mapping[str, Cell]) -> pd.DataFrame:
    found = [row for name in cells for row in rows.get(name, ())]
    return pd.DataFrame(found, columns=study.columns)


def _write(table: pd.DataFrame, csv: Path) -> pd.DataFrame:
    with atomic_write(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    return table


def _chain(cell: Cell, folder: Path) -> list[Step]:
    roots = [folder / identity[:16] for identity in identities(cell.plans)]
    steps = zip(cell.plans.items(), roots, [None, *roots], strict=False)
    return [Step(*plan, root, before) for plan, root, before in steps]


def _run(
    client: "Client", chains: Mapping[str, list[Step]], progress: Progress | None
) -> Iterator[tuple[str, str]]:
    """Run every step once; yield the cells as they end, with why they stopped if they did."""
    from distributed import as_completed

    futures: dict[Path | None, Future | str] = {None: ""}
    for step in (step for chain in chains.values() for step in chain):
        if step.root not in futures:
            key = f"{Path(step.notebook).stem}-{step.root.name}"
            before = futures[step.before]
            futures[step.root] = client.submit(run_step, step, before, key=key, retries=TRIES - 1)
    del futures[None]
    ended = as_completed(list(futures.values()), loop=client.loop)
    for done, future in enumerate(ended, 1):
        for name, chain in chains.items():
            if futures[chain[-1].root] is future:
                yield name, _sentence(future)
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
    for state in step.before.glob("*/state.json") if step.before else ():
        _link(step.root / state.parent.name, state.parent.resolve())
    plan = {step.notebook: {**step.parameters, "out": str(step.root)}}
    try:
        with ONE, (step.root / "printed.txt").open("a", encoding="utf-8") as stream:
            run_notebooks(plan, step.root, stream)
    except InputError as error:
        if type(error.__cause__).__name__ == "DeadKernelError":
            raise
        return str(error)
    return ""


def _sentence(future: "Future") -> str:
    error = future.exception()
    if error is None:
        return future.result()
    if type(error).__name__ == "KilledWorker":
        return f"a worker died {TRIES} times with it, perhaps for want of memory"
    return f"{type(error).__name__}: {error}"


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.resolve() == target.resolve()):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


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
            memory_limit=0,  # the work is in kernels, which Dask does not watch
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client

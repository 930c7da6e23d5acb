"""The notebooks in order, under one profile; those whose result stands are left alone."""

import csv
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO
from unittest.mock import patch

from ddid.errors import InputError, require
from ddid.files import from_here, full_disk_told, lock, read_json, walk, write_json
from ddid.identity import identity
from ddid.notebook import TOLD, code_cells, collect_metrics, notebook_path, resolve
from ddid.profiles import Plans, is_path, plan, plan_run
from ddid.progress import in_words, overall
from ddid.sources import code_of

STATE = "state.json"
TELLING = {".csv", ".jpg", ".json", ".npz", ".png", ".safetensors"}  # what later notebooks read
OF_THE_RUN = {STATE, "environment.json", "parameters.json"}


def run_profile(
    profile: str,
    out: str | Path = "",
    settings: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Execute the notebooks under a profile (name or YAML file) in the run folder `out`, or
    `runs/PROFILE` beside `notebooks/`, and return it.

    `settings` overrule the profile, `NAME=VALUE` or `NOTEBOOK.NAME=VALUE`; `only` holds numbers or
    names of notebooks, none for all. A folder that is not empty wants `resume`, which keeps what
    stands, or `overwrite`, which deletes the folders of an earlier run's notebooks, or of `only`.
    """
    told = "--resume keeps what an earlier run wrote, --overwrite deletes it: give one of the two"
    require(not (resume and overwrite), told)
    root = from_here(out) if out else resolve(f"runs/{Path(profile).stem}")
    plans = plan_run(profile, root, settings, only)
    with lock(root):
        chosen = [Path(path).stem for path in plans] if only else []
        inside = _within(root, plans) if overwrite else []
        told = f"--overwrite would delete {', '.join(inside)}, which the run is told to read"
        require(not inside, f"{told}: move it first")
        _make_way(root, chosen, resume=resume, overwrite=overwrite)
    run_notebooks(plans, root)
    return root


def _within(root: Path, plans: Plans) -> list[str]:
    """Parameters that name something within notebooks' folders of the run, each with its value."""
    ours = [folder.resolve() for folder in root.glob("[0-9][0-9]_*")]
    given = [item for own in plans.values() for item in own.items() if item[0] != "out"]
    named = [(name, resolve(value)) for name, value in given if is_path(name, value)]
    return [f"{name} {at}" for name, at in named if any(at.is_relative_to(own) for own in ours)]


def _make_way(root: Path, only: Sequence[str], *, resume: bool, overwrite: bool) -> None:
    occupied = any(path.name[0] != "." for path in root.iterdir())
    told = f"{root} is not empty: add --resume to go on, --overwrite, or choose another --out"
    require(resume or overwrite or bool(only) or not occupied, told)
    if occupied and overwrite:
        ours = [folder for folder in root.glob("[0-9][0-9]_*") if read_json(folder / STATE, {})]
        told = f"{root} is a run of a study, whose notebooks others share: choose another --out"
        require(not any(folder.is_symlink() for folder in ours), told)
        require(bool(ours), f"{root} holds no run of ddid: empty it or choose another --out")
        for folder in ours:
            if not only or folder.name in only:
                shutil.rmtree(folder)
        (root / "metrics.json").unlink(missing_ok=True)


def run_notebooks(plans: Plans, root: Path, console: TextIO | None = None) -> None:
    """Execute notebooks in order; those whose result stands are left alone.

    It stands while parameters, code, the data set's files, what earlier notebooks wrote and what it
    wrote itself are the same; images count by size and time of change. `console` is told what
    happens and what notebooks print. InputError: one stopped, or `root` is in use.
    """
    stream, clock = console or sys.stdout, _Clock(plans, root)
    with lock(root), overall(root / TOLD, stream, clock.headline) as say:
        for number, (path, parameters) in enumerate(plans.items(), 1):
            notebook = Path(path).stem
            title = f"[{number}/{len(plans)}] {notebook}"
            clock.begin(number)
            found = _written_before(root, notebook, parameters)
            stands = identity(own=_own(path, parameters), before=found)
            state = {"identity": stands, "settings": _settings(parameters), "finished": True}
            earlier = read_json(root / notebook / STATE, {})
            if state.items() <= earlier.items() and earlier.get("wrote") == _wrote(root / notebook):
                say(f"{title}: already done\n")
                continue
            say(f"{title} ...\n")
            write_json(root / notebook / STATE, earlier | state | {"finished": False})
            _execute(notebook_path(path), parameters, root / notebook, say)
            same = earlier.get("settings") == state["settings"]  # a resumed one takes less
            before = earlier.get("seconds", 0.0) if same else 0.0
            state["seconds"] = max(round(clock.seconds(), 1), before)
            state["wrote"] = _wrote(root / notebook)
            write_json(root / notebook / STATE, state)
            say(f"{title}: {in_words(clock.seconds())}\n")
        collect_metrics(root)


def identities(plans: Plans) -> list[str]:
    """Of each notebook, given those before it: equal ones write the same, whatever `out` is."""
    found = [""]
    for notebook, parameters in plans.items():
        found.append(identity(before=found[-1], own=_own(notebook, parameters)))
    return found[1:]


def _own(notebook: str, parameters: Mapping[str, Any]) -> str:
    """Identity of a notebook's cells, all code they may import, its parameters and its data."""
    settings = {name: value for name, value in parameters.items() if name != "out"}
    out = parameters.get("out", "")
    data = {n: _stamps(resolve(v), out) for n, v in settings.items() if is_path(n, v)}
    factories = [str(settings.get(name, "")) for name in ("audited_model", "audited_surrogate")]
    modules = [factory.partition(":")[0] for factory in factories]
    code = code_of(code_cells(notebook_path(notebook), parameters=False), modules)
    return identity(code=code, settings=settings, data=data)


def _stamps(root: Path, out: str = "") -> list[tuple[str, int, int]]:
    """Name, size and time of change of a data set's files, which tell edited ones cheaply; without
    the run's own, should its folder lie among them."""
    files = walk(root, out) if root.is_dir() else {str(root), *_listed(root)}
    return sorted((os.path.relpath(path, root), *_stamp(path)) for path in files)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # whoever reads it says so
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _listed(path: Path) -> set[str]:
    """Images that a file names, if it is a CSV manifest."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return set()
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            names = {row.get("path") for row in csv.DictReader(stream)}
        except csv.Error:  # whoever reads it says so
            return set()
    return {os.path.abspath(path.parent / name) for name in names if name}


def _written_before(root: Path, notebook: str, parameters: Mapping[str, Any]) -> str:
    """Identity of what a notebook may read in the run folder: what those before it left, lists and
    a model that its settings name, and images outside that lists name, by size and time."""
    folders = [f for f in sorted(root.glob("[0-9][0-9]_*")) if f.name < notebook]
    if any("@" in recipe for recipe in parameters.get("recipes", ())):
        folders.append(root / "strategies")
    if parameters.get("surrogate_model"):
        folders.append(root / parameters["surrogate_model"])
    files = {os.path.relpath(f, root): dict(_artefacts(f)) for f in folders}
    images = sorted({image for folder in folders for image in _outside(folder)})
    return identity(files=files, images=repr([_stamp(image) for image in images]))


def _outside(folder: Path) -> Iterator[str]:
    """Images that lists in a folder of a run name, where they lie outside that run."""
    run = f"{folder.resolve().parent}{os.sep}"
    for _, path in _artefacts(folder):
        yield from (image for image in _listed(path.resolve()) if not image.startswith(run))


def _wrote(folder: Path) -> str:
    """Identity of what a notebook left in its folder, which a damaged file changes, and of images
    outside the run that its lists name in vain, as they do when the run was moved."""
    lost = any(not os.path.exists(image) for image in _outside(folder))
    return identity(files=dict(_artefacts(folder)), lost=lost)


def _artefacts(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        aside = {"figures", "before"} & set(parts) or any(part[0] == "." for part in parts)
        if path.suffix in TELLING and path.name not in OF_THE_RUN and not aside:
            yield "/".join(parts), path


def _settings(parameters: Mapping[str, Any]) -> str:
    """What a notebook's time depends on: the same settings take about as long elsewhere."""
    return identity(**{n: v for n, v in parameters.items() if n not in ("out", "seed")})


class _Clock:
    """How far a run is, and how long the rest takes, as far as earlier runs tell."""

    def __init__(self, plans: Plans, root: Path) -> None:
        self.expected = [_seconds(root, path, own) for path, own in plans.items()]
        self.begin(1)

    def begin(self, number: int) -> None:
        """Notebook `number`, counted from 1, starts now."""
        self.number, self.began = number, time.monotonic()

    def seconds(self) -> float:
        """Since the notebook began."""
        return time.monotonic() - self.began

    def headline(self) -> str:
        """Say "notebook 3 of 6, about 6 minutes left"."""
        where = f"notebook {self.number} of {len(self.expected)}"
        known = [seconds for seconds in self.expected[self.number - 1 :] if seconds is not None]
        if len(known) <= len(self.expected) - self.number:
            return where  # how long the rest takes, only an earlier run could tell
        left = max(known[0] - self.seconds(), 0) + sum(known[1:])
        return f"{where}, about {in_words(left)} left"


def _seconds(root: Path, notebook: str, parameters: Mapping[str, Any]) -> float | None:
    """How long a notebook took under these settings, here or in a run folder beside this one, or
    else how long it says that the profile `demo` takes, if these are its settings."""
    wanted, name = _settings(parameters), Path(notebook).stem
    for folder in (root / name, *root.parent.glob(f"*/{name}")):
        try:
            state = read_json(folder / STATE, {})
        except InputError:  # another run's, and only a guess is asked for
            continue
        if state.get("settings") == wanted and "seconds" in state:
            return state["seconds"]
    text = notebook_path(notebook).read_text(encoding="utf-8")
    said = re.search(r"demo: about (\d+) (second|minute)", text)
    if said and wanted == _settings(plan([notebook], "demo", {})[notebook]):
        return int(said[1]) * {"second": 1, "minute": 60}[said[2]]
    return None


def _execute(
    path: Path, parameters: Mapping[str, Any], folder: Path, say: Callable[[str], None]
) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # frozen modules: a false alarm
    logging.getLogger("papermill").setLevel(logging.ERROR)
    output = folder / path.name
    try:
        # papermill would play a browser to widgets and take away what they print; and while a reply
        # is awaited nothing may be sent, which nbclient would miss now and then (its issue 312).
        opened = "on_comm_open_jupyter_widget"
        no_browser = patch.object(PapermillNotebookClient, opened, lambda _client, _message: None)
        with full_disk_told(output), no_browser:
            papermill.execute_notebook(
                path,
                output,
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                stdout_file=SimpleNamespace(write=say, flush=lambda: None),
                # No chatter of the kernel, and a file beside the data shadows no package.
                extra_arguments=[f"--IPKernelApp.{x}" for x in ("log_level=50", "ignore_cwd=True")],
            )
    except DeadKernelError as error:
        raise InputError(
            f"{path.stem} stopped: its kernel was killed, most likely for want of memory; give it "
            "more or ask for less, then start again with --resume"
        ) from error
    except papermill.PapermillExecutionError as error:
        reason = error.evalue if error.ename == "InputError" else f"{error.ename}: {error.evalue}"
        raise InputError(f"{path.stem} stopped: {reason} (executed so far: {output})") from error

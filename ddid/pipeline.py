"""The six notebooks in order, under one profile, with resume."""

import hashlib
import io
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO

import yaml

from ddid.errors import InputError, require
from ddid.files import full_disk_told, read_json, write_json
from ddid.notebook import (
    NOTEBOOKS,
    check_parameters,
    collect_metrics,
    declared_parameters,
    notebook_names,
    notebook_path,
    resolve,
)

PROFILES = NOTEBOOKS / "profiles"
STATE = "state.json"


def read_profile(name: str) -> dict[str, Any]:
    """Parameters of a profile: a name in `notebooks/profiles`, or a path to a YAML file.

    Raises:
        InputError: no such profile, or not a flat mapping of parameter names to values.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
    require(path.is_file(), f"no profile {name!r}: choose one of {known}, or give a YAML file")
    content = _yaml(path.read_bytes(), str(path))
    flat = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    require(flat, f"{path} should be lines of `parameter: value`")
    return content


def parse_overrides(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`notebook.parameter=value` texts → {notebook: {parameter: value}}; values are YAML.

    `01.seed=3` and `01_bias_analysis.seed=3` both name a notebook; `seed=3` names all that take it.

    Raises:
        InputError: no `=`, or no such notebook.
    """
    overrides: dict[str, dict[str, Any]] = {name: {} for name in notebook_names()}
    for setting in settings:
        target, equals, text = setting.partition("=")
        require(bool(equals), f"--set {setting}: write notebook.parameter=value")
        where, _, parameter = target.rpartition(".")
        chosen = [n for n in overrides if not where or where in (n, n[:2], n[3:])]
        require(bool(chosen), f"--set {setting}: no notebook {where!r}; {', '.join(overrides)}")
        for name in chosen:
            overrides[name][parameter] = _yaml(text, f"--set {setting}")
    return overrides


def _yaml(text: str | bytes, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def plan_run(profile: str, out: Path, settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Checked parameters of every notebook: profile, then overrides, then `out`.

    Everything is checked before anything runs, so a typing error costs no training.

    Raises:
        InputError: an unknown or mistyped parameter anywhere.
    """
    shared = read_profile(profile)
    overrides = parse_overrides(settings)
    plans = {}
    for notebook, own in overrides.items():
        plans[notebook] = check_parameters(notebook, shared | own | {"out": str(out)})
        for setting in own.keys() - declared_parameters(notebook).keys():
            named = sum(setting in other for other in overrides.values())
            require(named > 1, f"--set {notebook}.{setting}: this notebook takes no {setting}")
    return plans


def run_profile(
    profile: str,
    out: str | Path = "",
    settings: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Execute the notebooks in order; returns the run folder.

    Args:
        profile: name or YAML file.
        out: run folder, `runs/PROFILE` if empty; relative to the repository's root.
        settings: overrides, see `parse_overrides`.
        resume: go on with a run folder that exists. A notebook whose code, parameters and
            predecessors are unchanged is not executed again if it finished, and goes on if it was
            interrupted; one that changed starts afresh, its old folder moves to `replaced/`.
        overwrite: delete an existing run folder first.

    Raises:
        InputError: bad parameters, a run folder in the way, or a notebook that stopped on bad
            input.
    """
    root = resolve(out or f"runs/{Path(profile).stem}")
    plans = plan_run(profile, root, settings)
    _make_way(root, resume=resume, overwrite=overwrite)
    run_notebooks(plans, root)
    collect_metrics(root)
    return root


def identities(plans: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of each notebook, given those before it: equal ones write the same, whatever `out` is."""
    found = [""]
    for notebook, parameters in plans.items():
        found.append(_fingerprint(notebook, parameters, found[-1]))
    return found[1:]


def run_notebooks(
    plans: Mapping[str, Mapping[str, Any]], root: Path, console: TextIO | None = None
) -> None:
    """Execute notebooks in order; those unchanged since they finished are left alone.

    Args:
        plans: notebook (its name, or a path to its file) → its checked parameters, in the order of
            execution. Its folder in the run has its name.
        root: run folder.
        console: told what happens, and what the notebooks print; standard output by default.

    Raises:
        InputError: a notebook stopped.
    """
    say = partial(print, file=console or sys.stdout, flush=True)
    for number, (path, fingerprint) in enumerate(zip(plans, identities(plans), strict=True), 1):
        parameters, notebook = plans[path], Path(path).stem
        title = f"[{number}/{len(plans)}] {notebook}"
        state = _state(root / notebook)
        if state == {"fingerprint": fingerprint, "finished": True}:
            say(f"{title}: already done")
            continue
        if state and state["fingerprint"] != fingerprint:
            say(f"    made under other settings, moved to {_set_aside(root, notebook)}")
        say(f"{title} ...")
        begin = time.monotonic()
        write_json(root / notebook / STATE, {"fingerprint": fingerprint, "finished": False})
        _execute(notebook_path(path), parameters, root / notebook, console)
        write_json(root / notebook / STATE, {"fingerprint": fingerprint, "finished": True})
        say(f"{title}: {time.monotonic() - begin:.0f} s")


def _make_way(root: Path, *, resume: bool, overwrite: bool) -> None:
    occupied = root.is_dir() and any(root.iterdir())
    if occupied and overwrite:
        ours = any((root / name).is_dir() for name in notebook_names())
        require(ours, f"{root} holds no run of ddid: delete it yourself or choose another --out")
        shutil.rmtree(root)
    elif occupied:
        require(
            resume,
            f"{root} holds an earlier run: add --resume to go on with it, --overwrite to delete "
            "it, or choose another --out",
        )
    root.mkdir(parents=True, exist_ok=True)


def _fingerprint(notebook: str, parameters: Mapping[str, Any], before: str) -> str:
    """Hash of what a result depends on: library, notebook, its parameters, what came before.

    Not the data set: changed images under the same names are not noticed.
    """
    cells = json.loads(notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    settings = {name: value for name, value in parameters.items() if name != "out"}
    content = json.dumps([_library(), sources, settings, before], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@cache
def _library() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _state(folder: Path) -> dict[str, Any]:
    return read_json(folder / STATE) if (folder / STATE).is_file() else {}


def _set_aside(root: Path, notebook: str) -> Path:
    """Move a notebook's stale folder out of the way; long work is never deleted unasked."""
    number = len(list((root / "replaced").glob(f"{notebook}.*"))) + 1
    target = root / "replaced" / f"{notebook}.{number}"
    target.parent.mkdir(exist_ok=True)
    (root / notebook).rename(target)
    return target


def _execute(
    path: Path, parameters: Mapping[str, Any], folder: Path, console: TextIO | None
) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # frozen modules: a false alarm
    logging.getLogger("papermill").setLevel(logging.ERROR)
    notebook, output = path.stem, folder / path.name
    try:
        with full_disk_told(output):
            papermill.execute_notebook(
                path,
                output,
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                stdout_file=_Console(console),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # the kernel's own chatter
            )
    except DeadKernelError as error:
        raise InputError(
            f"{notebook} stopped: its kernel was killed, most likely for want of memory; give it "
            "more or ask for less, then start again with --resume"
        ) from error
    except papermill.PapermillExecutionError as error:
        reason = error.evalue if error.ename == "InputError" else f"{error.ename}: {error.evalue}"
        raise InputError(f"{notebook} stopped: {reason} (executed so far: {output})") from error


class _Console(io.StringIO):
    """Passes a notebook's standard output on as it comes."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream or sys.stdout

    def write(self, text: str) -> int:
        self.stream.write(text)
        self.stream.flush()
        return len(text)

"""A notebook's parameters, strictly checked, and its place in a run folder that explains itself.

A run is one folder (say `runs/demo`) with one folder per notebook. Notebooks never share memory:
each reads the artefacts of earlier ones from here and writes its own.
"""

import ast
import difflib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, ValidationError, create_model

from ddid.errors import InputError, require
from ddid.files import from_here, lock, read_json, write_figure, write_json
from ddid.progress import Progress, progress_bars

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

HOLDER = "DDID_RUN"  # environment variable: the run folder that the parent process holds


def _notebooks() -> Path:
    """The notebooks to use: of the folder one works in, else of the clone, else as installed."""
    package = Path(__file__).resolve().parents[1]
    shared = [Path(sysconfig.get_path("data")), package]
    places = [*Path.cwd().resolve().parents, package]
    folders = [Path.cwd().resolve() / "notebooks", *(place / "notebooks" for place in places)]
    folders += [place / "share" / "ddid" / "notebooks" for place in shared]
    return next((f for f in folders if (f / "profiles" / "demo.yaml").is_file()), folders[0])


NOTEBOOKS = _notebooks()
REPOSITORY = Path.cwd() if NOTEBOOKS.parts[-3:-1] == ("share", "ddid") else NOTEBOOKS.parent
"""What paths in notebooks and profiles are relative to: the folder that holds `notebooks/`."""

Literal = None | bool | int | float | str | list[Any] | dict[str, Any]


def notebook_names() -> list[str]:
    """Names of the notebooks without suffix, in reading order.

    Raises:
        InputError: there are no notebooks.
    """
    names = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    require(
        bool(names),
        f"no notebooks in {NOTEBOOKS}: copy them with `ddid init DIR` and work there",
    )
    return names


def copy_notebooks(folder: str | Path) -> Path:
    """Copy the notebooks with their profiles to work on; returns where they are.

    Raises:
        InputError: there are some already.
    """
    target = from_here(folder) / "notebooks"
    notebook_names()
    require(not target.exists(), f"{target} is there already: choose another folder")
    shutil.copytree(NOTEBOOKS, target, ignore=shutil.ignore_patterns(".*"))
    return target


def notebook_path(notebook: str) -> Path:
    """Where a notebook is: a name in `notebooks/` or `notebooks/studies/`, or a path to a file.

    Raises:
        InputError: no such notebook.
    """
    places = [NOTEBOOKS / f"{notebook}.ipynb", NOTEBOOKS / "studies" / f"{notebook}.ipynb"]
    path = next((p for p in (Path(notebook), *places) if p.suffix and p.is_file()), None)
    require(path is not None, f"no notebook {notebook}: choose of {', '.join(notebook_names())}")
    return path  # type: ignore[return-value]


def declared_parameters(notebook: str) -> dict[str, Literal]:
    """Default values in the cell tagged `parameters` of a notebook.

    Raises:
        InputError: no such notebook, no tagged cell, or a default that is not a literal.
    """
    path = notebook_path(notebook)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    require(len(tagged) == 1, f"{path} needs one cell tagged `parameters`, it has {len(tagged)}")
    return _assignments("".join(tagged[0]["source"]), str(path))


def injected_names(history: Iterable[str]) -> set[str]:
    """Names that papermill injected, read from IPython's input history `In`."""
    injected = [source for source in history if source.startswith("# Parameters\n")]
    return {name for source in injected for name in re.findall(r"^(\w+) = ", source, re.MULTILINE)}


def check_parameters(notebook: str, given: Mapping[str, Any]) -> dict[str, Literal]:
    """The declared parameters of `notebook` with `given` values, names and types checked.

    A name that another notebook declares is left out (profiles serve all notebooks at once).

    Raises:
        InputError: a name that no notebook declares, or a value of another type than its default.
    """
    declared = declared_parameters(notebook)
    _check_names(set(given) - set(declared))
    strict = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    fields: dict[str, Any] = {name: (_type(value), value) for name, value in declared.items()}
    model = create_model("Parameters", __config__=strict, **fields)
    try:
        return model(**{n: given[n] for n in declared.keys() & given.keys()}).model_dump()
    except ValidationError as error:
        raise InputError(_sentence(notebook, error.errors()[0], declared)) from error


def _assignments(source: str, where: str) -> dict[str, Literal]:
    values: dict[str, Literal] = {}
    for node in ast.parse(source).body:
        try:
            (target,) = node.targets  # type: ignore[attr-defined]
            values[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        except (AttributeError, ValueError) as error:
            line = ast.unparse(node).splitlines()[0]
            raise InputError(
                f"{where}: `{line}` is not `name = literal`; parameters are literals, one a line"
            ) from error
    return values


def _check_names(unknown: set[str]) -> None:
    if not unknown:
        return
    known = {name for notebook in notebook_names() for name in declared_parameters(notebook)}
    for name in sorted(unknown - known):
        hint = did_you_mean(name, known)
        raise InputError(f"unknown parameter `{name}`: no notebook takes it; {hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The parameter whose name is nearest, as the end of a sentence."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean `{close[0]}`?" if close else "see the `parameters` cells."


def _type(default: Literal) -> Any:
    """Type of a default; of a list, the type of its first item too."""
    return list[_type(default[0])] if isinstance(default, list) and default else type(default)  # type: ignore[misc]


def _sentence(notebook: str, error: Any, declared: Mapping[str, Any]) -> str:
    name, *item = error["loc"]
    default = declared[name][0] if item else declared[name]
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    wanted = kinds.get(type(default), f"a {type(default).__name__}")
    given, shown = error["input"], f"{name}[{item[0]}]" if item else name
    text = isinstance(given, str) and type(default) in (int, float)
    hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if text else ""
    kind = kinds.get(type(given), f"a {type(given).__name__}")
    return (
        f"parameter `{shown}` of {notebook} is {given!r}, {kind}; "
        f"it wants {wanted} such as {default!r}{hint}"
    )


@dataclass
class Run:
    """One notebook's place in a run folder; made by `open_run`."""

    root: Path
    notebook: str
    parameters: Mapping[str, Literal]
    progress: Progress = field(default_factory=progress_bars, repr=False)

    @property
    def folder(self) -> Path:
        """This notebook's own folder."""
        return self.root / self.notebook

    def path(self, name: str) -> Path:
        """Path of this notebook's artefact `name`; its folder exists."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def needs(self, notebook: str, name: str) -> Path:
        """Path of another notebook's artefact.

        Raises:
            InputError: it does not exist yet.
        """
        path = self.root / notebook / name
        require(path.exists(), f"{path} is missing: run notebook {notebook} with this `out` first")
        return path

    def record(self, **metrics: Any) -> None:
        """Add to this notebook's `metrics.json` and to the run's, which collects all notebooks.

        Only what the seed determines belongs here.
        """
        own = self.folder / "metrics.json"
        merged = (read_json(own) if own.exists() else {}) | metrics
        write_json(own, merged)
        collect_metrics(self.root)

    def save_figure(self, figure: "Figure", name: str) -> "Image":
        """Save as `figures/NAME.png`, same bytes for the same figure, and return it for display."""
        from IPython.display import Image

        path = self.folder / "figures" / f"{name}.png"
        write_figure(path, figure)
        return Image(filename=str(path))


def open_run(notebook: str, namespace: dict[str, Any]) -> Run:
    """Check a notebook's parameters strictly and open its place in the run folder.

    Args:
        notebook: name without suffix, say `01_bias_analysis`.
        namespace: the notebook's `globals()`, where the parameters are.

    Relative paths start at the folder that holds `notebooks/`, whatever the working directory. A
    parameter `threads`, where a notebook has it and it is positive, holds torch to that many.

    Raises:
        InputError: an unknown or mistyped parameter, or another process works in the run folder.
    """
    declared = check_parameters(notebook, {})
    names = declared.keys() | injected_names(namespace.get("In", []))
    values = check_parameters(notebook, {n: namespace[n] for n in names if n in namespace})
    run = Run(resolve(str(values["out"])), notebook, values)
    if os.environ.get(HOLDER) != str(run.root):
        with lock(run.root):
            pass  # so nobody is at work there
    (run.folder / "metrics.json").unlink(missing_ok=True)
    if values.get("threads"):
        import torch

        torch.set_num_threads(int(values["threads"]))  # type: ignore[arg-type]
    write_json(run.path("parameters.json"), values)
    write_json(run.path("environment.json"), environment())
    return run


def resolve(path: str | Path) -> Path:
    """`path` itself if absolute, else taken from the folder that holds `notebooks/`."""
    return (REPOSITORY / os.path.expanduser(path)).resolve()


def collect_metrics(root: Path) -> dict[str, Any]:
    """Gather every notebook's `metrics.json` into `root/metrics.json` and return it."""
    metrics = {path.parent.name: read_json(path) for path in sorted(root.glob("*/metrics.json"))}
    write_json(root / "metrics.json", metrics)
    return metrics


def environment() -> dict[str, Any]:
    """Versions and hardware a reader needs to judge a result."""
    packages = ["ddid", "torch", "diffusers", "transformers", "accelerate", "numpy", "pandas"]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "hardware": hardware(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def hardware() -> str:
    """What times are measured on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s) of {os.cpu_count()}"

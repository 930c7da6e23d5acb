"""A notebook's parameters, strictly checked, and its place in a run folder that explains itself.

A run is one folder (say `runs/demo`) with one folder per notebook. Notebooks never share memory:
each reads the artefacts of earlier ones from here and writes its own.
"""

import ast
import difflib
import importlib.metadata
import os
import platform
import re
import shutil
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, create_model

from ddid.errors import InputError, require
from ddid.files import OWNER, from_here, lock, read_json, write_figure, write_json
from ddid.progress import Progress, progress_bars, progress_told

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

TOLD = ".progress.json"  # in the run folder: what its notebook tells the run


def _notebooks() -> Path:
    """The notebooks to use: of the folder one works in, else of the clone, else as installed."""
    here, package = Path.cwd().resolve(), Path(__file__).resolve().parents[1]
    shared = [place / "share" / "ddid" for place in (Path(sysconfig.get_path("data")), package)]
    folders = [place / "notebooks" for place in (here, *here.parents, package, *shared)]
    return next((f for f in folders if (f / "profiles" / "demo.yaml").is_file()), folders[0])


NOTEBOOKS = _notebooks()
REPOSITORY = Path.cwd() if NOTEBOOKS.parts[-3:-1] == ("share", "ddid") else NOTEBOOKS.parent
"""What paths in notebooks and profiles are relative to: the folder that holds `notebooks/`."""

Literal = None | bool | int | float | str | list[Any] | dict[str, Any]


def notebook_names() -> list[str]:
    """Names of the notebooks without suffix, in reading order."""
    names = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    require(bool(names), f"no notebooks in {NOTEBOOKS}: run `ddid init DIR` and work there")
    return names


def copy_notebooks(folder: str | Path) -> Path:
    """Copy the notebooks with their profiles to work on; returns where they are."""
    target = from_here(folder) / "notebooks"
    notebook_names()
    require(not target.exists(), f"{target} is there already: choose another folder")
    shutil.copytree(NOTEBOOKS, target, ignore=shutil.ignore_patterns(".*"))
    return target


def notebook_path(notebook: str) -> Path:
    """Where a notebook is: a name in `notebooks/` or `notebooks/studies/`, or a path to a file."""
    places = [NOTEBOOKS / f"{notebook}.ipynb", NOTEBOOKS / "studies" / f"{notebook}.ipynb"]
    found = [path for path in (Path(notebook), *places) if path.suffix and path.is_file()]
    require(bool(found), f"no notebook {notebook}: choose of {', '.join(notebook_names())}")
    return found[0]


def code_cells(path: Path, *, parameters: bool) -> list[str]:
    """Sources of a notebook's cells tagged `parameters`, or of its other code cells."""
    cells = [cell for cell in read_json(path)["cells"] if cell["cell_type"] == "code"]
    chosen = [c for c in cells if ("parameters" in c["metadata"].get("tags", [])) == parameters]
    return ["".join(cell["source"]) for cell in chosen]


def declared_parameters(notebook: str) -> dict[str, Literal]:
    """Names and default values, literals, in the cell tagged `parameters` of a notebook."""
    path, values = notebook_path(notebook), {}
    cells = code_cells(path, parameters=True)
    require(len(cells) == 1, f"{path} needs one cell tagged `parameters`, it has {len(cells)}")
    line = cells[0].strip().partition("\n")[0]
    try:
        for node in ast.parse(cells[0]).body:
            line = ast.unparse(node).partition("\n")[0]
            (target,) = node.targets  # type: ignore[attr-defined]
            values[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    except (AttributeError, ValueError, SyntaxError) as error:
        line = getattr(error, "text", None) or line
        told = f"{path}: `{line.strip()}` is not `name = literal`; parameters are literals"
        raise InputError(told) from error
    return values


def check_parameters(notebook: str, given: Mapping[str, Any]) -> dict[str, Literal]:
    """The declared parameters of `notebook` with `given` values, names and types checked; a name
    that another notebook declares is left out (profiles serve all notebooks at once)."""
    declared = declared_parameters(notebook)
    if unknown := given.keys() - declared.keys():
        known = {name for other in notebook_names() for name in declared_parameters(other)}
        if strange := sorted(unknown - known):
            hint = did_you_mean(strange[0], known)
            raise InputError(f"unknown parameter `{strange[0]}`: no notebook takes it; {hint}")
    strict = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())
    fields: dict[str, Any] = {name: (_type(value), value) for name, value in declared.items()}
    model = create_model("Parameters", __config__=strict, **fields)
    try:
        return model(**{n: given[n] for n in declared.keys() & given.keys()}).model_dump()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        text = isinstance(wrong["input"], str) and wrong["type"].startswith(("float", "int"))
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if text else ""
        if isinstance(wrong["input"], bool) and wrong["type"].startswith("string"):
            hint = " (YAML reads no and yes as false and true: put them in quotes)"
        raise InputError(
            f"parameter `{name}` of {notebook} is {given[name]!r}: {wrong['msg'].lower()}, "
            f"such as {declared[name]!r}{hint}"
        ) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The parameter whose name is nearest, as the end of a sentence."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean `{close[0]}`?" if close else "see the `parameters` cells."


def _type(default: Literal) -> Any:
    """Type of a default; of a list, the type of its first item too; a count stays a count."""
    if isinstance(default, list) and default:
        return list[_type(default[0])]  # type: ignore[misc]
    counts = type(default) is int and default >= 0
    return Annotated[int, Field(ge=0)] if counts else type(default)


def injected_names(history: Iterable[str]) -> set[str]:
    """Names that papermill injected, read from IPython's input history `In`."""
    injected = [source for source in history if source.startswith("# Parameters\n")]
    return {name for source in injected for name in re.findall(r"^(\w+) = ", source, re.MULTILINE)}


@dataclass
class Run:
    """One notebook's place in a run folder; made by `open_run`."""

    root: Path
    notebook: str
    progress: Progress = field(repr=False)

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
        """Path of another notebook's artefact; InputError if it does not exist yet."""
        path = self.root / notebook / name
        require(path.exists(), f"{path} is missing: run notebook {notebook} with this `out` first")
        return path

    def record(self, **metrics: Any) -> None:
        """Add what only the seed determines to this notebook's `metrics.json` and to the run's."""
        own = self.folder / "metrics.json"
        write_json(own, read_json(own, {}) | metrics)
        collect_metrics(self.root)

    def save_figure(self, figure: "Figure", name: str) -> "Image":
        """Save as `figures/NAME.png`, same bytes for the same figure, and return it for display."""
        from IPython.display import Image

        path = self.folder / "figures" / f"{name}.png"
        write_figure(path, figure)
        return Image(filename=str(path))


def open_run(notebook: str, namespace: dict[str, Any]) -> Run:
    """Check the parameters in a notebook's `globals()` and open its place in the run folder, which
    has its name, say `01_bias_analysis`. A positive `threads` holds torch to that many."""
    names = declared_parameters(notebook).keys() | injected_names(namespace.get("In", []))
    values = check_parameters(notebook, {n: namespace[n] for n in names if n in namespace})
    root = resolve(str(values["out"]))
    if read_json(root / OWNER, {}).get("pid") == os.getppid():
        progress = progress_told(root / TOLD)  # a run holds the folder, and started this kernel
    else:
        progress = progress_bars()
        with lock(root):
            pass  # so nobody is at work there
    run = Run(root, notebook, progress)
    (run.folder / "metrics.json").unlink(missing_ok=True)
    if threads := int(str(values.get("threads", 0))):
        import torch

        torch.set_num_threads(threads)
    write_json(run.path("parameters.json"), values)
    write_json(run.path("environment.json"), environment())
    return run


def resolve(path: str | Path) -> Path:
    """`path` itself if absolute, else taken from the folder that holds `notebooks/`."""
    return (REPOSITORY / os.path.expanduser(path)).resolve()


def collect_metrics(root: Path) -> None:
    """Gather every notebook's `metrics.json` into `root/metrics.json`."""
    found = {path.parent.name: read_json(path) for path in sorted(root.glob("*/metrics.json"))}
    write_json(root / "metrics.json", found)


def environment() -> dict[str, Any]:
    """Versions and hardware a reader needs to judge a result."""
    import torch

    packages = ["ddid", "torch", "diffusers", "transformers", "accelerate", "numpy", "pandas"]
    threads = f"{torch.get_num_threads()} thread(s) of {os.cpu_count()}"
    cpu = f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {threads}"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }

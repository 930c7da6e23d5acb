"""Run folders that explain themselves: parameters, environment, records, figures, progress.

A run is one folder (say `runs/demo`) with one folder per notebook. Notebooks never share memory:
each reads the artefacts of earlier ones from here and writes its own.
"""

import errno
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddid.errors import InputError, require
from ddid.parameters import REPOSITORY, Literal, check_parameters, injected_names

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

Progress = Callable[[str, int, int], None]
"""Called as `progress(what, done, total)` by every long loop."""

SECONDS_BETWEEN_LINES = 5.0  # our choice: often enough to trust, rare enough to read


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place only when the block succeeds.

    A reader therefore sees the old file or the whole new one, whatever interrupts the writer.

    Raises:
        InputError: the disk is full. Nothing already written is lost.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with full_disk_told(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Turn a full disk while writing `path` into one sentence.

    safetensors reports it by a text of its own, not as an OSError.

    Raises:
        InputError: the disk is full. Nothing already written is lost.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number not in (errno.ENOSPC, errno.EDQUOT) and "(os error 28)" not in str(error):
            raise
        raise InputError(
            f"the disk is full, {path} was not written: free some space and start again with "
            "--resume; everything already made is kept"
        ) from error


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON with sorted keys, atomically; NumPy scalars become plain numbers."""
    text = json.dumps(content, indent=2, sort_keys=True, default=_plain, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_figure(path: str | Path, figure: "Figure") -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata={"Software": None})


def read_json(path: str | Path) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: the file is missing or not JSON.
    """
    path = Path(path)
    require(path.is_file(), f"no file {path}: run the step that writes it first")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}): delete it and start again") from error


def progress_lines(indent: str = "") -> Progress:
    """A `Progress` that prints one line every few seconds and at the end of each task."""
    last = float("-inf")

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            sys.stdout.write(f"{indent}{what}: {done}/{total}\n")
            sys.stdout.flush()

    return progress


@dataclass
class Run:
    """One notebook's place in a run folder; made by `open_run`."""

    root: Path
    notebook: str
    parameters: Mapping[str, Literal]
    progress: Progress = field(default_factory=lambda: progress_lines("    "), repr=False)

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

        Only what the seed determines belongs here; times go to `log`.
        """
        own = self.folder / "metrics.json"
        merged = (read_json(own) if own.exists() else {}) | metrics
        write_json(own, merged)
        collect_metrics(self.root)

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to `log.jsonl`, with the wall-clock time."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **fields}
        path = self.path("log.jsonl")
        with full_disk_told(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, default=_plain) + "\n")

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

    Relative `out` is taken from the repository's root, whatever the working directory. If the
    notebook declares `threads` and it is positive, torch is held to that many.

    Raises:
        InputError: an unknown or mistyped parameter.
    """
    declared = check_parameters(notebook, {})
    names = declared.keys() | injected_names(namespace.get("In", []))
    values = check_parameters(notebook, {n: namespace[n] for n in names if n in namespace})
    run = Run(resolve(str(values["out"])), notebook, values)
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "metrics.json").unlink(missing_ok=True)
    write_json(run.path("parameters.json"), values)
    write_json(run.path("environment.json"), environment())
    run.log("opened", notebook=notebook)
    if values.get("threads"):
        import torch

        torch.set_num_threads(int(values["threads"]))  # type: ignore[arg-type]
    return run


def resolve(path: str | Path) -> Path:
    """`path` itself if absolute, else taken from the repository's root."""
    return (REPOSITORY / Path(path).expanduser()).resolve()


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
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def _plain(value: Any) -> Any:
    """JSON form of NumPy and torch scalars and arrays, and of paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")

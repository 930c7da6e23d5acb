"""Files that are whole or not there: written beside, brought to the disk, moved into place."""

import errno
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ddid.errors import InputError, refused, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOST = re.sub(r"\W", "", platform.node())
LOCK, OWNER = ".lock", ".owner.json"  # the latter: `pid`, `host` and `since` of who holds a folder


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place only when the block succeeds. A
    reader therefore sees the old file or the whole new one, whatever interrupts the writer, and
    after a power cut too: the bytes are on the disk before the name is."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.writing-{HOST}-{os.getpid()}{path.suffix}")
    make_folder(path.parent)
    try:
        with full_disk_told(path):
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Turn a full disk while writing `path` into one sentence; safetensors says it by a text."""
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


def walk(root: Path, passed: str | Path = "") -> Iterator[str]:
    """Every file below a folder, links followed, each folder once; hidden folders (Jupyter's
    copies), and what is below `passed`, are passed over."""
    seen = {os.path.realpath(passed)} if passed else set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(folder, name) for name in names)


def remove_leftovers(folder: Path) -> None:
    """Delete what `atomic_write` of processes that were killed on this machine left below."""
    for path in folder.rglob(f".*.writing-{HOST}-*"):
        writer = re.search(rf"writing-{HOST}-(\d+)", path.name)
        if writer and not psutil.pid_exists(int(writer[1])):
            path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing, or InputError."""
    with refused("no folder can be made there, choose another", OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
    require(os.access(folder, os.W_OK), f"{folder} cannot be written to: choose another")


def from_here(path: str | Path) -> Path:
    """A path as the command line means it: from the working directory, `~` being one's home."""
    return Path(os.path.expanduser(path)).absolute()


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` with sorted keys, atomically; NumPy scalars become plain numbers."""
    text = json.dumps(content, indent=2, sort_keys=True, default=_plain, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of NumPy or torch
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: str | Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """Names and values of a JSON file; `missing` if there is none. InputError: there is neither, or
    the file holds something else."""
    path = Path(path)
    if missing is not None and not path.is_file():
        return missing
    require(path.is_file(), f"no file {path}: run the step that writes it first")
    with refused(f"{path} is not JSON: delete it and start again", ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
    require(isinstance(content, dict), f"{path} holds no names: delete it and start again")
    return content


def write_figure(path: str | Path, figure: "Figure") -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata={"Software": None})


@contextmanager
def lock(folder: str | Path) -> Iterator[None]:
    """Hold a folder, or InputError that says who does. However its holder dies, it is let go."""
    from filelock import FileLock, Timeout

    folder = Path(folder)
    make_folder(folder)
    try:
        with FileLock(folder / LOCK, timeout=0):
            remove_leftovers(folder)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            write_json(folder / OWNER, {"pid": os.getpid(), "host": HOST, "since": since})
            try:
                yield
            finally:
                (folder / OWNER).unlink(missing_ok=True)
    except Timeout as error:
        holder = read_json(folder / OWNER, {})
        who = "process {pid} on {host} since {since}".format(**holder) if holder else "another"
        told = f"{folder} is in use by {who}: wait for its end, stop it, or choose another --out"
        raise InputError(told) from error

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

from ddid.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOST = re.sub(r"\W", "", platform.node())
LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place only when the block succeeds.

    A reader therefore sees the old file or the whole new one, whatever interrupts the writer, and
    after a power cut too: the bytes are on the disk before the name is.

    Raises:
        InputError: the disk is full. Nothing already written is lost.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.writing-{HOST}-{os.getpid()}{path.suffix}")
    try:
        with full_disk_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def remove_leftovers(folder: Path) -> None:
    """Delete what `atomic_write` of processes that were killed on this machine left below."""
    for path in folder.rglob(f".*.writing-{HOST}-*"):
        number = int(re.search(r"-(\d+)[^-]*$", path.name)[1])  # type: ignore[index]
        if not _alive(number):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives and belongs to somebody else
        return True
    return True


def from_here(path: str | Path) -> Path:
    """A path as the command line means it: from the working directory, `~` being one's home."""
    return Path(os.path.expanduser(path)).absolute()


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON with sorted keys, atomically; NumPy scalars become plain numbers."""
    text = json.dumps(content, indent=2, sort_keys=True, default=_plain, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: the file is missing or not JSON.
    """
    path = Path(path)
    require(path.is_file(), f"no file {path}: run the step that writes it first")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): delete it and start again") from error


def read_object(path: str | Path) -> dict[str, Any]:
    """Content of a JSON file of names and values.

    Raises:
        InputError: the file is missing, not JSON, or holds something else.
    """
    content = read_json(path)
    require(isinstance(content, dict), f"{path} holds no names: delete it and start again")
    return content


def append_line(path: str | Path, content: Any) -> None:
    """Add `content` to a file of JSON lines, at once; what stands there already is not touched.

    Raises:
        InputError: the disk is full. Nothing already written is lost.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_told(path), path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(content, default=_plain) + "\n")


def write_figure(path: str | Path, figure: "Figure") -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata={"Software": None})


@contextmanager
def lock(folder: str | Path) -> Iterator[None]:
    """Hold a folder for oneself. The system lets go of it when the holder dies, however it dies.

    Raises:
        InputError: another process holds it; the sentence says which.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    require(folder.is_dir() or not folder.exists(), f"{folder} is a file: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
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
        raise InputError(_held(folder)) from error


def _held(folder: Path) -> str:
    owner = read_object(folder / OWNER) if (folder / OWNER).is_file() else {}
    who = "process {pid} on {host} since {since}".format(**owner) if owner else "another process"
    return f"{folder} is in use by {who}: wait for its end, stop it, or choose another --out"


def _plain(value: Any) -> Any:
    """JSON form of NumPy and torch scalars and arrays, and of paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")

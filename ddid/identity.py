"""What a result depends on, as one short text: parameters, data, and the code that made it.

A finished result may be used again only while its identity is the same. Code enters as what it
does, not as it is written: comments, docstrings and line numbers do not count, and from a function
the walk goes on to whatever it names of this library or of the user's own modules, never into
installed packages. So editing one attack changes the identity of that attack's results alone. What
is loaded counts, not what lies on disk: a kernel that was not restarted after an edit gets the
identity of the code it really runs. Another Python version translates code differently and gives
other identities. Files count by content: copied or touched ones are the same, edited ones are not.
"""

import enum
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ddid.errors import InputError, require
from ddid.sources import attributes, digest, instructions, members, named, ours


def identity(**parts: Any) -> str:
    """32 hexadecimal digits that stay the same exactly while everything in `parts` does.

    Args:
        parts: plain values, lists, dictionaries, sets; dataclasses; arrays, tensors, networks;
            frames (with the files that a column `path` names); paths (what the file or folder
            holds); functions, classes, partials, modules, packages (the code they depend on).

    The order of arguments and of dictionary entries is irrelevant.

    >>> identity(eps=8, steps=15) == identity(steps=15, eps=8)
    True
    >>> identity(eps=8) == identity(steps=8)
    False

    Raises:
        InputError: a part that cannot be told from its like, say an open file; a missing file.
    """
    walk = _Walk()
    described = [name + walk.told(name, part) for name, part in sorted(parts.items())]
    return digest(*described, *walk.code())


class _UnknownError(TypeError):
    """A value that has no description; says of which type."""


class _Walk:
    """Describes values; remembers the code met on the way, to go on from there."""

    def __init__(self) -> None:
        self.met: dict[int, tuple[Any, str]] = {}  # with the object, so that no id is used twice
        self.waiting: list[Any] = []

    def told(self, name: str, part: Any) -> str:
        try:
            return self.describe(part)
        except _UnknownError as error:
            raise InputError(
                f"a result cannot depend on `{name}`, which holds a {error}: give plain values, "
                "dataclasses, arrays, frames, paths or functions"
            ) from error

    def code(self) -> list[str]:
        """What the functions and classes met name, and what that names, and so on."""
        found = set()
        while self.waiting:
            thing = self.waiting.pop()
            for name, value in named(thing):
                found.add(digest(thing.__qualname__, name, self.leniently(value)))
        return sorted(found)

    def leniently(self, value: Any) -> str:
        """Description of what code refers to: a lock or a logger there is only a type."""
        try:
            return self.describe(value)
        except _UnknownError as error:
            return str(error)

    def describe(self, value: Any) -> str:
        kind = type(value).__qualname__
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | range):
            return digest(kind if not isinstance(value, enum.Enum) else str(value), repr(value))
        if isinstance(value, list | tuple | set | frozenset | dict):
            return digest(kind, *self._items(value))
        if isinstance(value, FunctionType | MethodType | type | ModuleType | functools.partial):
            return self._code(value)
        if (data := _data(value)) is not None:
            return digest(kind, *data)
        if isinstance(value, Path):
            return _content(value)
        if hasattr(value, "to_numpy"):
            return digest(kind, *self._table(value))
        if hasattr(value, "__wrapped__") or hasattr(value, "py_func"):  # a cache, a compiled loop
            return self.describe(getattr(value, "py_func", None) or value.__wrapped__)
        if callable(value) and hasattr(value, "__name__"):
            return digest(kind, str(getattr(value, "__module__", "")), value.__name__)
        return self._instance(value)

    def _items(self, value: Any) -> list[str]:
        if isinstance(value, dict):
            return sorted(digest(self.describe(k), self.describe(v)) for k, v in value.items())
        described = [self.describe(item) for item in value]
        return sorted(described) if isinstance(value, set | frozenset) else described

    def _table(self, frame: Any) -> Iterator[str]:
        """Columns of a frame or values of a series; images count by content and relative name."""
        if not hasattr(frame, "columns"):
            yield self.describe(frame.to_numpy())
            return
        for column in frame.columns:
            values = frame[column].to_numpy()
            if column == "path" and len(values):
                above = os.path.commonpath([Path(path).parent for path in values])
                yield from (os.path.relpath(p, above) + _content(Path(p)) for p in values)
            else:
                yield digest(str(column), self.describe(values))

    def _instance(self, value: Any) -> str:
        own, network = type(value), hasattr(value, "named_modules")
        if isinstance(value, enum.Enum) or own.__module__ == "torch":
            return digest(own.__qualname__, str(value))
        if not (ours(own) or network) or not hasattr(value, "__dict__"):
            raise _UnknownError(own.__qualname__)
        tell = self.leniently if network else self.describe
        held = {name: vars(value)[name] for name in sorted(vars(value)) if name != "training"}
        return digest(self.describe(own), *(name + tell(content) for name, content in held.items()))

    def _code(self, value: Any) -> str:
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return digest("partial", *map(self.describe, parts))
        if isinstance(value, MethodType):
            return digest("method", self.describe(value.__func__), self.describe(value.__self__))
        if id(value) in self.met:
            return self.met[id(value)][1]
        self.met[id(value)] = (value, value.__name__)  # a function may hold itself
        if isinstance(value, ModuleType):
            described = digest(value.__name__, *map(self.leniently, members(value)))
        elif isinstance(value, type):
            described = self._class(value)
        else:
            described = self._function(value)
        self.met[id(value)] = (value, described)
        return described

    def _function(self, function: FunctionType) -> str:
        if not ours(function):
            inner = getattr(function, "__wrapped__", None)
            name = digest(function.__module__ or "", function.__qualname__)
            return name if inner is None else digest(name, self.describe(inner))
        self.waiting.append(function)
        cells = [cell for cell in function.__closure__ or () if cell != CellType()]  # yet bound
        held = [function.__defaults__, function.__kwdefaults__, *(c.cell_contents for c in cells)]
        return digest(instructions(function.__code__), *map(self.describe, held))

    def _class(self, own: type) -> str:
        if not ours(own):
            return digest(own.__module__, own.__qualname__)
        self.waiting.append(own)
        fields = getattr(own, "__dataclass_fields__", {}).values()
        beside = [*own.__bases__, *(field.default_factory for field in fields)]
        members = [name + self.leniently(value) for name, value in attributes(own)]
        return digest(own.__qualname__, *map(self.leniently, beside), *members)


def _data(value: Any) -> tuple[str | bytes, ...] | None:
    """Bytes of an array or tensor with their type and shape; None for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype == object:
            return tuple(type(item).__name__ + repr(item) for item in value.ravel())
        return value.dtype.str, repr(value.shape), np.ascontiguousarray(value).tobytes()
    if hasattr(value, "detach") and hasattr(value, "untyped_storage"):
        import torch

        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return str(value.dtype), repr(tuple(value.shape)), flat.numpy().tobytes()
    return None


def _content(path: Path) -> str:
    require(path.exists(), f"no file {path}, on which a result depends: restore it")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest(*(str(file.relative_to(path)) + _content(file) for file in files))
    status = path.stat()
    return _bytes_digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 18)
def _bytes_digest(path: Path, size: int, changed: int) -> str:
    """Digest of a file's bytes, read once while its size and time of change stay."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()

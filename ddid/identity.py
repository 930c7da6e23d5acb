"""What a result depends on, as one short text: parameters, data, and the code that made it.

A finished result may be used again only while its identity is the same. Code enters as what it
does, not as it is written: comments, docstrings and line numbers do not count, and from a function
the walk goes on to whatever it names of this library or of the user's own modules, never into
installed packages. So editing one attack changes the identity of that attack's results alone. What
is loaded counts, not what lies on disk: a kernel that was not restarted after an edit gets the
identity of the code it really runs. Another Python version translates code differently and gives
other identities. Files count by content: copied or touched ones are the same, edited ones are not.
"""

import dis
import enum
import functools
import hashlib
import importlib
import inspect
import os
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ddid.errors import InputError, require

LIBRARY = str(Path(__file__).parent) + os.sep
INSTALLED = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib"))
PACKAGES = {"site-packages", "dist-packages"}
GENERATED = "<string>"  # where dataclasses say that the methods they write are from


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
    return _digest(*described, *walk.code())


def _digest(*pieces: str | bytes) -> str:
    """Digest of texts in order, each with its length, so that none runs into the next."""
    total = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        content = piece.encode() if isinstance(piece, str) else piece
        total.update(len(content).to_bytes(8, "big"))
        total.update(content)
    return total.hexdigest()


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
            for name, value in _named(thing):
                found.add(_digest(thing.__qualname__, name, self.leniently(value)))
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
            return _digest(kind if not isinstance(value, enum.Enum) else str(value), repr(value))
        if isinstance(value, list | tuple | set | frozenset | dict):
            return _digest(kind, *self._items(value))
        if isinstance(value, FunctionType | MethodType | type | ModuleType | functools.partial):
            return self._code(value)
        if (data := _data(value)) is not None:
            return _digest(kind, *data)
        if isinstance(value, Path):
            return _content(value)
        if hasattr(value, "to_numpy"):
            return _digest(kind, *self._table(value))
        if hasattr(value, "__wrapped__") or hasattr(value, "py_func"):  # a cache, a compiled loop
            return self.describe(getattr(value, "py_func", None) or value.__wrapped__)
        if callable(value) and hasattr(value, "__name__"):
            return _digest(kind, str(getattr(value, "__module__", "")), value.__name__)
        return self._instance(value)

    def _items(self, value: Any) -> list[str]:
        if isinstance(value, dict):
            return sorted(_digest(self.describe(k), self.describe(v)) for k, v in value.items())
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
                yield _digest(str(column), self.describe(values))

    def _instance(self, value: Any) -> str:
        own = type(value)
        if hasattr(value, "named_modules"):
            return _digest(self.describe(dict(value.state_dict())), *self._layers(value))
        if isinstance(value, enum.Enum) or not (_ours(own) and hasattr(value, "__dict__")):
            if isinstance(value, enum.Enum) or own.__module__ == "torch":
                return _digest(own.__qualname__, str(value))
            raise _UnknownError(own.__qualname__)
        return _digest(self.describe(own), self.describe(vars(value)))

    def _layers(self, network: Any) -> Iterator[str]:
        for name, layer in network.named_modules():
            public = {k: v for k, v in vars(layer).items() if k[0] != "_" and k != "training"}
            settings = [k + self.leniently(v) for k, v in sorted(public.items())]
            yield _digest(name, self.describe(type(layer)), *settings)

    def _code(self, value: Any) -> str:
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return _digest("partial", *map(self.describe, parts))
        if isinstance(value, MethodType):
            return _digest("method", self.describe(value.__func__), self.describe(value.__self__))
        if id(value) in self.met:
            return self.met[id(value)][1]
        self.met[id(value)] = (value, value.__name__)  # a function may hold itself
        if isinstance(value, ModuleType):
            described = _digest(value.__name__, *map(self.leniently, _members(value)))
        elif isinstance(value, type):
            described = self._class(value)
        else:
            described = self._function(value)
        self.met[id(value)] = (value, described)
        return described

    def _function(self, function: FunctionType) -> str:
        if not _ours(function):
            inner = getattr(function, "__wrapped__", None)
            name = _digest(function.__module__ or "", function.__qualname__)
            return name if inner is None else _digest(name, self.describe(inner))
        self.waiting.append(function)
        cells = [cell for cell in function.__closure__ or () if _filled(cell)]
        held = [function.__defaults__, function.__kwdefaults__, *(c.cell_contents for c in cells)]
        return _digest(_instructions(function.__code__), *map(self.describe, held))

    def _class(self, own: type) -> str:
        if not _ours(own):
            return _digest(own.__module__, own.__qualname__)
        self.waiting.append(own)
        factories = [
            field.default_factory for field in getattr(own, "__dataclass_fields__", {}).values()
        ]
        members = [name + self.leniently(value) for name, value in _attributes(own)]
        return _digest(
            own.__qualname__, *map(self.leniently, [*own.__bases__, *factories]), *members
        )


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
        return _digest(*(str(file.relative_to(path)) + _content(file) for file in files))
    status = path.stat()
    return _bytes_digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 18)
def _bytes_digest(path: Path, size: int, changed: int) -> str:
    """Digest of a file's bytes, read once while its size and time of change stay."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


@functools.cache
def _instructions(code: CodeType) -> str:
    """What a function does: its instructions with the names and constants they use."""
    header = (code.co_name, str(code.co_flags), repr(code.co_varnames[: code.co_argcount]))
    steps = (i.opname + _constant(i.argval) for i in dis.get_instructions(code))
    return _digest(*header, *steps)


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _instructions(value)
    if isinstance(value, tuple):
        return _digest("tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return _digest("set", *sorted(map(_constant, value)))
    return type(value).__name__ + repr(value)


def _named(thing: Any) -> Iterator[tuple[str, Any]]:
    """Names that a function or a class uses, with what of ours or of plain values they stand for.

    Of annotations only classes count: their methods may be called on the argument.
    """
    known = vars(sys.modules.get(thing.__module__, enum)) if isinstance(thing, type) else None
    known = thing.__globals__ if known is None else known
    words = re.findall(r"\w+", str(getattr(thing, "__annotations__", {}).values()))
    for word in words:
        if isinstance(known.get(word), type):
            yield word, known[word]
    for code in _nested(getattr(thing, "__code__", None)):
        names = list(code.co_names)
        here = [(name, known[name]) for name in names if name in known]
        for name, value in [*here, *_imported(code)]:
            if not isinstance(value, ModuleType):
                yield name, value
            elif _ours(value):
                yield from _through(value, names)


def _nested(code: CodeType | None) -> Iterator[CodeType]:
    if code is not None:
        yield code
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from _nested(constant)


def _imported(code: CodeType) -> Iterator[tuple[str, Any]]:
    """Modules of ours that a function imports itself."""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME" and step.argval:
            spec = find_spec(step.argval.partition(".")[0])
            if spec is not None and spec.origin and _our_file(spec.origin):
                yield step.argval, importlib.import_module(step.argval)


def _through(module: ModuleType, names: list[str]) -> Iterator[tuple[str, Any]]:
    """What code takes from a module; all of it where it asks for no name, or for its files."""
    taken = [name for name in names if name in vars(module)]
    if not taken or "__path__" in taken:
        yield module.__name__, module
    for name in taken:
        value = vars(module)[name]
        if isinstance(value, ModuleType) and _ours(value) and value is not module:
            yield from _through(value, names)
        elif not name.startswith("__"):
            yield name, value


def _members(module: ModuleType) -> Iterator[Any]:
    """Functions and classes that a module defines; of a package, its modules as well."""
    if not _ours(module):
        return
    for _, value in sorted(vars(module).items()):
        if isinstance(value, FunctionType | type) and value.__module__ == module.__name__:
            yield value
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        yield importlib.import_module(f"{module.__name__}.{found.name}")


def _attributes(own: type) -> Iterator[tuple[str, Any]]:
    """What a class itself defines: methods of any kind, and plain values."""
    for name, raw in sorted(vars(own).items()):
        parts = [raw.fget, raw.fset] if isinstance(raw, property) else [raw]
        for part in parts:
            value = getattr(part, "__func__", getattr(part, "func", part))
            if isinstance(value, FunctionType):
                if value.__code__.co_filename != GENERATED:
                    yield name, value
            elif not name.startswith(("__", "_abc_")):
                yield name, value


@functools.cache
def _our_file(filename: str) -> bool:
    if filename.startswith(LIBRARY):
        return True
    foreign = filename.startswith((*INSTALLED, "<frozen")) or PACKAGES & set(Path(filename).parts)
    return not foreign


def _ours(thing: Any) -> bool:
    """Whether code is of this library or of the user, not of an installed package."""
    inner = inspect.unwrap(thing) if isinstance(thing, FunctionType) else thing
    if isinstance(inner, FunctionType):
        return _our_file(thing.__code__.co_filename)
    module = sys.modules.get(thing.__module__) if isinstance(thing, type) else thing
    if module is None or module.__name__ == "__main__":
        return True
    folders = [*getattr(module, "__path__", [])]  # a namespace package has no file
    filename = getattr(module, "__file__", None) or (folders[0] if folders else None)
    return filename is not None and _our_file(filename)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a name that is bound later
        return False

"""What a result depends on, as one short text: parameters, data, and the code that made it.

A stored result may be used again only while its identity is the same. Code counts by what it does,
its instructions, and from a function the walk goes on to whatever it names of this library or of
the user's own modules: editing one attack changes the identity of that attack's results alone.
What is loaded counts, not what lies on disk, so a kernel that was not restarted tells the truth.
"""

import dis
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ddid.errors import require

PLAIN = (type(None), bool, int, float, complex, str, bytes, range)
PACKAGES = {"site-packages", "dist-packages"}


def identity(**parts: Any) -> str:
    """32 hexadecimal digits that stay the same exactly while everything in `parts` does.

    Parts may be plain values, lists, dictionaries, sets; dataclasses and other objects; arrays,
    tensors, networks; paths (what the file or folder holds); functions, classes and partials (the
    code they depend on, and networks, arrays and plain values that it names). InputError: one that
    cannot be told from its like, a missing file.

    >>> identity(eps=8, steps=15) == identity(steps=15, eps=8)
    True
    """
    walk = _Walk()
    for name, part in sorted(parts.items()):
        walk.part = name
        walk.words.append(name)
        walk.add(part)
    walk.part = ""
    for thing in walk.code:  # grows meanwhile
        for name, value in _named(thing):
            walk.words.append(name)
            walk.add(value)
    return _digest(repr(walk.words).encode())


def _digest(content: Any) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class _Walk:
    """Writes down values, and the code met on the way, each piece once."""

    def __init__(self) -> None:
        self.part = ""  # of the result, while values are added; what code names is more lenient
        self.words: list[str] = []
        self.code: list[Any] = []
        self.met: dict[int, int] = {}

    def add(self, value: Any) -> None:
        """A value of any kind, with its type, so that 1 and True differ."""
        kind = type(value)
        self.words.append(kind.__qualname__)
        if isinstance(value, PLAIN) or (kind.__module__ == "torch" and not hasattr(value, "numel")):
            self.words.append(repr(value))  # of torch: types of numbers, devices
        elif (inner := _inner(value)) is not None:
            self.words.append(str(len(inner)))
            for part in inner:
                self.add(part)
        elif isinstance(value, Path):
            self.words += _content(value)
        elif callable(value) and hasattr(value, "__name__"):
            self.add_code(value)
        elif hasattr(value, "numel") or isinstance(value, np.ndarray | np.generic):
            self.words += _array(value)
        elif hasattr(value, "__dict__") and (self.part or _ours(kind.__module__)):
            held = {name: vars(value)[name] for name in vars(value).keys() - {"training"}}
            self.add((kind, held))
        elif isinstance(value, re.Pattern):
            self.add((value.pattern, value.flags))
        elif hasattr(value, "state_dict"):  # a network that code names
            self.add((kind.__name__, dict(value.state_dict())))
        elif hasattr(value, "__array__"):
            self.add((kind.__name__, np.asarray(value)))
        else:
            require(
                not self.part,
                f"a result cannot depend on `{self.part}`, which holds a {kind.__qualname__}: "
                "give plain values, dataclasses, arrays, paths or functions",
            )

    def add_code(self, thing: Any) -> None:
        """A function or class: what it does and later what it names; of an installed one its name,
        and what it wraps (a cache, a compiled loop, a decorator)."""
        new = id(thing) not in self.met
        self.words.append(str(self.met.setdefault(id(thing), len(self.code))))
        if not new:
            return
        self.code.append(thing)  # which keeps it, so that no id is used twice
        if isinstance(thing, FunctionType) and _ours(thing.__module__):
            cells = [cell for cell in thing.__closure__ or () if cell != CellType()]  # yet bound
            held = [cell.cell_contents for cell in cells]
            self.words.append(instructions(thing.__code__))
            self.add((thing.__defaults__, thing.__kwdefaults__, held))
        else:
            self.words += [str(thing.__module__), thing.__name__]
            self.add(getattr(thing, "py_func", getattr(thing, "__wrapped__", None)))


def _inner(value: Any) -> list[Any] | None:
    """What a container holds, in an order that counts; None for anything else."""
    match value:
        case dict():
            return sorted(value.items(), key=lambda item: repr(item[0]))
        case set() | frozenset():
            return sorted(value, key=repr)
        case list() | tuple():
            return list(value)
        case partial():
            return [value.func, value.args, value.keywords]
        case np.ndarray() if value.dtype.hasobject:
            return [value.tolist()]
        case MethodType():
            return [value.__func__, value.__self__]
    return None


def _array(value: Any) -> list[str]:
    """Type, shape and bytes of an array or tensor."""
    kind = [str(value.dtype), str(tuple(value.shape))]
    if hasattr(value, "numel"):
        import torch

        flat = value.detach().cpu().contiguous().flatten()
        flat = flat.as_strided(flat.shape, (1,))  # torch leaves a single element any stride
        value = flat.view(torch.uint8).numpy()
    return [*kind, _digest(np.ascontiguousarray(value))]


def _content(path: Path) -> Iterator[str]:
    """What a file holds; the names and contents of all files of a folder."""
    require(path.exists(), f"no file {path}, on which a result depends: restore it")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in filter(Path.is_file, files):
        yield str(file.relative_to(path))
        with file.open("rb") as stream:
            yield hashlib.file_digest(stream, "blake2b").hexdigest()


@cache
def instructions(code: CodeType) -> str:
    """Digest of what code does: its instructions with the names and constants they use. Comments,
    docstrings and line numbers are not among them."""
    steps = [step.opname + _operand(code, step) for step in dis.get_instructions(code)]
    return _digest(repr((code.co_flags, code.co_varnames[: code.co_argcount], steps)).encode())


def _operand(code: CodeType, step: dis.Instruction) -> str:
    """What an instruction works on; names of keywords too, unknown to `dis` before 3.13."""
    value = code.co_consts[step.arg or 0] if step.opname == "KW_NAMES" else step.argval
    if isinstance(value, CodeType):
        return instructions(value)
    shown = sorted(value, key=repr) if isinstance(value, frozenset) else value
    return f" {type(value).__name__} {shown!r}"


def _named(thing: Any) -> Iterator[tuple[str, Any]]:
    """Names in a function or class of ours, with what they stand for. Of annotations only classes
    count: their methods may be called on the argument."""
    if not isinstance(thing, FunctionType | type) or not _ours(thing.__module__):
        return
    if isinstance(thing, type):
        yield from _members(thing)
    known: Mapping[str, Any] = getattr(thing, "__globals__", vars(sys.modules[thing.__module__]))
    words = re.findall(r"\w+", str(getattr(thing, "__annotations__", {}).values()))
    names = {word for word in words if isinstance(known.get(word), type)}
    for code in _nested(getattr(thing, "__code__", None)):
        names |= {*code.co_names}
        steps = [step for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"]
        imported = {step.argval for step in steps if _ours(step.argval)}
        known = {**known, **{name: import_module(name) for name in imported}}
    yield from _found(names, known)


def _members(own: type) -> Iterator[tuple[str, Any]]:
    """What a class itself defines: methods of any kind, and plain values."""
    yield "bases", own.__bases__
    for name, value in sorted(vars(own).items()):
        for wrapper in ("fget", "func", "__func__"):  # a property, a cached one, a class's method
            value = getattr(value, wrapper, value)
        if isinstance(value, FunctionType) or not name.startswith(("__", "_abc_")):
            yield name, value


def _nested(code: CodeType | None) -> Iterator[CodeType]:
    if code is not None:
        yield code
        for constant in code.co_consts:
            yield from _nested(constant if isinstance(constant, CodeType) else None)


def _found(names: set[str], known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What names stand for; in place of a module of ours, what is taken from it."""
    for name in sorted(name for name in names & known.keys() if not name.startswith("__")):
        value = known[name]
        if not isinstance(value, ModuleType):
            yield name, value
        elif _ours(value.__name__):
            yield from _found(names - {name}, vars(value))


@cache
def _ours(module: str | None) -> bool:
    """Whether a module is of this library or of the user, not an installed one."""
    root = (module or "").partition(".")[0]
    if root in (__name__.partition(".")[0], "__main__"):
        return True
    if root in sys.modules and sys.modules[root].__spec__ is None:
        return True  # made on the spot
    spec = find_spec(root) if root and root not in sys.stdlib_module_names else None
    return spec is not None and not PACKAGES & set(Path(spec.origin or "").parts)

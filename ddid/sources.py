"""What code depends on: a text by its imports, a loaded function by what it names.

Comments, docstrings and line numbers do not count. Followed are this library and the user's own
modules, never installed packages.
"""

import dis
import enum
import hashlib
import importlib
import os
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

INSTALLED = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib"))
PACKAGES = {"site-packages", "dist-packages"}
GENERATED = "<string>"  # where dataclasses say that the methods they write are from
LIBRARY = Path(__file__).parent


def code_of(texts: Iterable[str]) -> list[str]:
    """What texts do, and what the library's modules do that running them may import."""
    codes = [compile(text, "cell", "exec") for text in texts]
    waiting, found = [name for code in codes for name in _modules(code)], {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            code = _compiled(name)
            found[name] = instructions(code)
            waiting += _modules(code)
    modules = [f"{name}: {does}" for name, does in sorted(found.items())]
    return [*map(instructions, codes), *modules]


def _modules(code: CodeType) -> Iterator[str]:
    """Modules of the library that code imports, read without importing them.

    A name taken from a package may be found by any of its modules, as registries do: all count.
    """
    imports: list[tuple[str, list[str]]] = []
    for step in (step for part in _nested(code) for step in dis.get_instructions(part)):
        if step.opname == "IMPORT_NAME":
            imports.append((step.argval, []))
        elif step.opname == "IMPORT_FROM":
            imports[-1][1].append(step.argval)
    for module, taken in imports:
        for name in taken or [module]:
            inner = f"{module}.{name}"
            chosen = inner if _file(inner) else module
            known = chosen.partition(".")[0] == LIBRARY.name and name != "__version__"
            if known and _file(chosen):
                yield from _below(chosen)


def _below(name: str) -> list[str]:
    folder = LIBRARY.parent.joinpath(*name.split("."))
    files = folder.rglob("*.py") if name != LIBRARY.name else ()
    parts = (path.relative_to(LIBRARY.parent).with_suffix("").parts for path in files)
    return [".".join(part).removesuffix(".__init__") for part in parts] or [name]


def _file(name: str) -> Path | None:
    base = LIBRARY.parent.joinpath(*name.split("."))
    candidates = (base.with_name(base.name + ".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@cache
def _compiled(name: str) -> CodeType:
    path = _file(name)
    text = path.read_text(encoding="utf-8") if path else ""
    return compile(text, name, "exec", optimize=2)  # without docstrings


def digest(*pieces: str | bytes) -> str:
    """Digest of texts in order, each with its length, so that none runs into the next."""
    total = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        content = piece.encode() if isinstance(piece, str) else piece
        total.update(len(content).to_bytes(8, "big"))
        total.update(content)
    return total.hexdigest()


@cache
def instructions(code: CodeType) -> str:
    """What a function does: its instructions with the names and constants they use."""
    header = (code.co_name, str(code.co_flags), repr(code.co_varnames[: code.co_argcount]))
    steps = (i.opname + _constant(i.argval) for i in dis.get_instructions(code))
    return digest(*header, *steps)


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return instructions(value)
    if isinstance(value, tuple):
        return digest("tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return digest("set", *sorted(map(_constant, value)))
    return type(value).__name__ + repr(value)


def named(thing: Any) -> Iterator[tuple[str, Any]]:
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
            elif ours(value):
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
        if isinstance(value, ModuleType) and ours(value) and value is not module:
            yield from _through(value, names)
        elif not name.startswith("__"):
            yield name, value


def members(module: ModuleType) -> Iterator[Any]:
    """Functions and classes that a module defines; of a package, its modules as well."""
    if not ours(module):
        return
    for _, value in sorted(vars(module).items()):
        if isinstance(value, FunctionType | type) and value.__module__ == module.__name__:
            yield value
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        yield importlib.import_module(f"{module.__name__}.{found.name}")


def attributes(own: type) -> Iterator[tuple[str, Any]]:
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


@cache
def _our_file(filename: str) -> bool:
    foreign = filename.startswith((*INSTALLED, "<frozen")) or PACKAGES & set(Path(filename).parts)
    return filename.startswith(f"{LIBRARY}{os.sep}") or not foreign


def ours(thing: Any) -> bool:
    """Whether code is of this library or of the user, not of an installed package."""
    if isinstance(thing, FunctionType):
        return _our_file(thing.__code__.co_filename)
    module = sys.modules.get(thing.__module__) if isinstance(thing, type) else thing
    if module is None or module.__name__ == "__main__":
        return True
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(_our_file(place) for place in places if place)

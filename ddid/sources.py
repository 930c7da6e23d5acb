"""What code depends on: a text by its imports, a loaded function by what it names.

Comments, docstrings and line numbers do not count. Followed are this library and the user's own
modules, never installed packages.
"""

import ast
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
    """The texts without comments and docstrings, and the modules that running them may import.

    >>> code_of(["x = 1  # one"])
    ['x = 1']
    """
    bare = [_bare(text) for text in texts]
    waiting, found = [name for text in bare for name in _imports(text)], set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(_module(name))
    return bare + [f"{name}: {_module(name)}" for name in sorted(found)]


@cache
def _imports(text: str) -> tuple[str, ...]:
    """Modules of the library that a text imports anywhere.

    A name taken from a package may be found by any of its modules, as registries do: all count.
    """
    return tuple(_walk(text))


def _walk(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            taken = [alias.name for alias in node.names if alias.name != "__version__"]
            inner = [f"{node.module}.{name}" for name in taken]
            names = [name if _path(name) else node.module for name in inner]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == LIBRARY.name and _path(name):
                yield from _below(name)


def _below(name: str) -> list[str]:
    folder = LIBRARY.parent.joinpath(*name.split("."))
    if name == LIBRARY.name or not folder.is_dir():
        return [name]
    modules = (path.relative_to(LIBRARY.parent).with_suffix("") for path in folder.rglob("*.py"))
    return sorted(".".join(module.parts).removesuffix(".__init__") for module in modules)


def _path(name: str) -> Path | None:
    base = LIBRARY.parent.joinpath(*name.split("."))
    candidates = (base.with_name(base.name + ".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@cache
def _module(name: str) -> str:
    path = _path(name)
    return _bare(path.read_text(encoding="utf-8")) if path else ""


@cache
def _bare(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for statement in list(getattr(node, "body", []) if not _is_value(node) else []):
            if _is_text(statement):
                node.body[node.body.index(statement)] = ast.Pass()  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_value(node: ast.AST) -> bool:
    return isinstance(node, ast.Lambda | ast.IfExp)


def _is_text(node: ast.AST) -> bool:
    """A docstring, or a text that stands below an attribute to describe it."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


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

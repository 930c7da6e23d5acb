"""Which of the library's modules a text imports, directly or not, and what they say.

Read from the syntax alone, so that asking costs no import; comments and docstrings do not count.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

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
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
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

"""What notebook cells do, with every module of the library, or of the user's own, they import."""

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from ddid.identity import PACKAGES, identity, instructions

LIBRARY = Path(__file__).parent


def code_of(cells: Iterable[str], modules: Iterable[str] = ()) -> dict[str, str]:
    """Cell or file → digest of what it does; comments and docstrings do not count. `modules` are
    names of some that are imported too."""
    from IPython.core.inputtransformer2 import TransformerManager

    cells = [TransformerManager().transform_cell(cell) for cell in cells]  # %magics, !commands
    read = [_read(cell, asserts=True) for cell in cells]
    found = {f"cell {n}": digest for n, (digest, _) in enumerate(read)}
    waiting = [*modules, *(name for _, imported in read for name in imported)]
    while waiting:
        for path in _files(waiting.pop()):
            name = str(path.relative_to(LIBRARY) if path.is_relative_to(LIBRARY) else path)
            if name not in found:
                found[name], imported = _read(path.read_bytes())
                waiting += imported
    return found


@cache
def _read(text: str | bytes, *, asserts: bool = False) -> tuple[str, list[str]]:
    optimize = 0 if asserts else 2  # without docstrings
    try:
        code = compile(text, "code", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True, optimize)
    except (SyntaxError, ValueError):  # a user's, who is told when it is run
        return identity(text=text), []
    return instructions(code), list(_imports(text))


def _imports(text: str | bytes) -> Iterator[str]:
    """Names that a text imports, anywhere in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:  # a package counts with all of it
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> list[Path]:
    """Files behind a name; of a package all, since a registry may find any of its modules."""
    package, *inner = name.split(".")
    if package != LIBRARY.name:
        return _users(package)
    if inner == ["__version__"]:
        return []
    module = LIBRARY.joinpath(*inner)
    for path in (module, module.parent):
        if path == LIBRARY:
            return [LIBRARY / "__init__.py"]
        if path.with_suffix(".py").is_file():
            return [path.with_suffix(".py")]
        if path.is_dir():
            return sorted(path.rglob("*.py"))
    return []


def _users(name: str) -> list[Path]:
    """Files of a package or module that is neither installed nor Python's own."""
    if name in {"", "__main__", *sys.stdlib_module_names}:
        return []
    spec = find_spec(name) or PathFinder.find_spec(name, [os.getcwd()])
    places = map(Path, spec.submodule_search_locations or [spec.origin or ""]) if spec else ()
    own = [place for place in places if not PACKAGES & {*place.parts}]
    return [f for place in own for f in (sorted(place.rglob("*.py")) or [place]) if f.is_file()]

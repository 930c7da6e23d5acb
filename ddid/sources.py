"""What notebook cells do, with every module of the library that running them may import."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from ddid.identity import instructions

LIBRARY = Path(__file__).parent


def code_of(cells: Iterable[str]) -> dict[str, str]:
    """Cell or file → digest of what it does; comments and docstrings do not count."""
    cells = list(cells)
    found = {f"cell {n}": instructions(compile(c, "cell", "exec")) for n, c in enumerate(cells)}
    waiting = [path for cell in cells for path in _imports(cell)]
    while waiting:
        path = waiting.pop()
        name = str(path.relative_to(LIBRARY))
        if name not in found:
            found[name], imported = _read(path)
            waiting += imported
    return found


@cache
def _read(path: Path) -> tuple[str, list[Path]]:
    text = path.read_text(encoding="utf-8")
    code = compile(text, path.name, "exec", optimize=2)  # without docstrings
    return instructions(code), list(_imports(text))


def _imports(text: str) -> Iterator[Path]:
    """Files of the library that a text imports, anywhere in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from _files(f"{node.module}.{alias.name}")


def _files(name: str) -> list[Path]:
    """Files behind a name; of a package all, since any of its modules may be found by a
    registry."""
    package, *inner = name.split(".")
    if package != LIBRARY.name or inner == ["__version__"]:
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

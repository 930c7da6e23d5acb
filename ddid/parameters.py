"""Strict notebook parameters: papermill only warns of unknown names and reads `1e-3` as text."""

import ast
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddid.errors import InputError, require

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"

Literal = None | bool | int | float | str | list[Any] | dict[str, Any]


def notebook_names() -> list[str]:
    """Names of the notebooks without suffix, in reading order.

    Raises:
        InputError: the folder `notebooks/` is not beside the package.
    """
    names = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    require(
        bool(names),
        f"no notebooks in {NOTEBOOKS}: ddid runs from a clone installed with `pip install -e .`",
    )
    return names


def notebook_path(notebook: str) -> Path:
    """Where a notebook is: a name in `notebooks/` or `notebooks/studies/`, or a path to a file.

    Raises:
        InputError: no such notebook.
    """
    places = [NOTEBOOKS / f"{notebook}.ipynb", NOTEBOOKS / "studies" / f"{notebook}.ipynb"]
    path = next((p for p in (Path(notebook), *places) if p.suffix and p.is_file()), None)
    require(path is not None, f"no notebook {notebook}: choose of {', '.join(notebook_names())}")
    return path  # type: ignore[return-value]


def declared_parameters(notebook: str) -> dict[str, Literal]:
    """Default values in the cell tagged `parameters` of a notebook.

    Raises:
        InputError: no such notebook, no tagged cell, or a default that is not a literal.
    """
    path = notebook_path(notebook)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    require(len(tagged) == 1, f"{path} needs one cell tagged `parameters`, it has {len(tagged)}")
    return _assignments("".join(tagged[0]["source"]), str(path))


def injected_names(history: Iterable[str]) -> set[str]:
    """Names that papermill injected, read from IPython's input history `In`."""
    cells = [source for source in history if source.startswith("# Parameters")]
    return {name for source in cells for name in _assignments(source, "injected cell")}


def check_parameters(notebook: str, given: Mapping[str, Any]) -> dict[str, Literal]:
    """The declared parameters of `notebook` with `given` values, names and types checked.

    A name that another notebook declares is left out (profiles serve all notebooks at once).

    Raises:
        InputError: a name that no notebook declares, or a value of another type than its default.
    """
    declared = declared_parameters(notebook)
    _check_names(set(given) - set(declared))
    values = dict(declared)
    for name in declared.keys() & given.keys():
        values[name] = _check_type(notebook, name, given[name], declared[name])
    return values


def _assignments(source: str, where: str) -> dict[str, Literal]:
    values: dict[str, Literal] = {}
    for node in ast.parse(source).body:
        try:
            (target,) = node.targets  # type: ignore[attr-defined]
            values[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        except (AttributeError, ValueError) as error:
            line = ast.unparse(node).splitlines()[0]
            raise InputError(
                f"{where}: `{line}` is not `name = literal`; parameters are literals, one a line"
            ) from error
    return values


def _check_names(unknown: set[str]) -> None:
    if not unknown:
        return
    known = {name for notebook in notebook_names() for name in declared_parameters(notebook)}
    for name in sorted(unknown - known):
        close = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean `{close[0]}`?" if close else "see the `parameters` cells."
        raise InputError(f"unknown parameter `{name}`: no notebook takes it; {hint}")


def _check_type(notebook: str, name: str, value: Any, default: Literal) -> Literal:
    wanted = type(default)
    widened = wanted is float and type(value) is int
    hint = ""
    if wanted in (int, float) and isinstance(value, str):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)"
    require(
        type(value) is wanted or widened,
        f"parameter `{name}` of {notebook} is {value!r}, {_kind(type(value))}; "
        f"it wants {_kind(wanted)} such as {default!r}{hint}",
    )
    if isinstance(default, list) and default:
        for item in value:
            _check_type(notebook, f"{name}[]", item, default[0])
    return float(value) if widened else value


def _kind(kind: type) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(kind, f"a {kind.__name__}")

"""A study: many runs of the notebooks as data, from `notebooks/studies/NAME.yaml`."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddid.errors import InputError, require
from ddid.notebook import NOTEBOOKS, check_parameters, declared_parameters
from ddid.pipeline import read_profile

STUDIES = NOTEBOOKS / "studies"
KNOWN = {"value", "variant", "profile", "hardware"}
"""Columns that every row can have, beside a study's parameters, levels and constants."""


class Records(BaseModel):
    """Which records of a notebook become rows, one for each number in them."""

    model_config = ConfigDict(extra="forbid")
    record: str
    """NOTEBOOK.KEY, a record in that notebook's `metrics.json`."""
    levels: list[str]
    """What the keys of the nested record are, outermost first."""
    only: dict[str, list[str]] = {}
    """By level, the keys that are wanted; all by default."""
    columns: dict[str, str | int | float] = {}
    """Columns with one value throughout."""


class Gains(BaseModel):
    """What each thing compared gains over others, query by query, with intervals."""

    model_config = ConfigDict(extra="forbid")
    over: list[str]
    file: str
    """NOTEBOOK/FILE.csv with the columns compared and `attack`, `query`, `ap` (percent)."""
    paired: list[str] = ["seed"]
    """Parameters under which two runs are compared query by query."""


class Study(BaseModel):
    """Runs of `notebooks` under a profile: fixed parameters, times a grid, times variants.

    A parameter is `name`, for every notebook of the study that takes it, or `NOTEBOOK.name`. A
    single value for a parameter that is a list stands for a list of one.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    profile: str
    notebooks: list[str] = Field(min_length=1)
    """In order; a name, or a path to an .ipynb file."""
    fixed: dict[str, Any] = Field({}, alias="set")
    grid: dict[str, list[Any]] = {}
    variants: dict[str, dict[str, Any]] = {}
    """Settings that belong together, by a name that the column `variant` carries."""
    columns: list[str]
    gather: list[Records] = Field(min_length=1)
    gains: Gains | None = None


@dataclass(frozen=True)
class Cell:
    """One run of the study: what was chosen for it, and the parameters of its notebooks."""

    chosen: Mapping[str, Any]
    plans: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Its choices, as a folder may be called."""
        words = [f"{name}={_word(value)}" for name, value in self.chosen.items()]
        return ",".join(words).replace("/", "_") or "only"


def read_study(name: str) -> Study:
    """A study in `notebooks/studies`, or a path to a YAML file like those.

    Raises:
        InputError: no such study, or not what `Study` describes.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    known = ", ".join(sorted(p.stem for p in STUDIES.glob("*.yaml")))
    require(path.is_file(), f"no study {name!r}: choose one of {known}, or give a YAML file")
    try:
        content = yaml.safe_load(path.read_bytes())
        require(isinstance(content, dict), f"{path} should be lines of `name: value`")
        study = Study(**{"name": path.stem} | content)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: `{where}`: {first['msg'].lower()}") from error
    _check_columns(study, path)
    return study


def cells_of(study: Study, settings: Mapping[str, Any] | None = None) -> list[Cell]:
    """Every run of the study, its parameters checked; `settings` overrule all others.

    The grid's first parameter changes slowest, so with `seed` there an unfinished study has whole
    comparisons.

    Raises:
        InputError: a parameter that no notebook of the study takes, or of another type.
    """
    axes = [[{name: value} for value in values] for name, values in study.grid.items()]
    variants = [{"variant": name} for name in study.variants] or [{}]
    cells = []
    for parts in product(*axes, variants):
        chosen = {name: value for part in parts for name, value in part.items()}
        own = study.variants.get(chosen.get("variant", ""), {})
        grid = {name: value for name, value in chosen.items() if name != "variant"}
        cells.append(Cell(chosen, _plans(study, study.fixed | grid | own | dict(settings or {}))))
    return cells


def _plans(study: Study, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    declared = {notebook: declared_parameters(notebook) for notebook in study.notebooks}
    profile = read_profile(study.profile)
    plans: dict[str, dict[str, Any]] = {notebook: {} for notebook in declared}
    for setting, value in (profile | settings).items():
        where, _, name = setting.rpartition(".")
        takers = [
            n
            for n in declared
            if where in ("", Path(n).stem, Path(n).stem[:2]) and name in declared[n]
        ]
        require(bool(takers) or setting in profile, _unknown(study, setting, declared))
        for notebook in takers:
            wrapped = isinstance(declared[notebook][name], list) and not isinstance(value, list)
            plans[notebook][name] = [value] if wrapped else value
    return {notebook: check_parameters(notebook, plan) for notebook, plan in plans.items()}


def _unknown(study: Study, setting: str, declared: Mapping[str, Mapping[str, Any]]) -> str:
    names = {name for parameters in declared.values() for name in parameters}
    close = difflib.get_close_matches(setting.rpartition(".")[2], sorted(names), n=1)
    hint = f"did you mean `{close[0]}`?" if close else "see their `parameters` cells."
    return f"study {study.name}: no notebook of it takes `{setting}`; {hint}"


def _check_columns(study: Study, path: Path) -> None:
    given = KNOWN | {key for each in study.gather for key in (*each.levels, *each.columns)}
    given |= {name for notebook in study.notebooks for name in declared_parameters(notebook)}
    strange = [name for name in study.columns if name not in given]
    require(
        not strange,
        f"{path}: nothing fills the column {strange[:1]}: name a parameter, a level, a constant "
        f"or one of {', '.join(sorted(KNOWN))}",
    )
    for each in study.gather:
        notebook = each.record.partition(".")[0]
        stems = [Path(name).stem for name in study.notebooks]
        require(notebook in stems, f"{path}: `{each.record}` names none of its notebooks")


def flatten(record: Any, levels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a nested record: a column for each level, and `value`."""
    if not levels:
        yield {"value": record}
        return
    for key, inner in record.items():
        for row in flatten(inner, levels[1:]):
            yield {levels[0]: key, **row}


def _word(value: Any) -> str:
    return "+".join(map(_word, value)) if isinstance(value, list) else str(value)

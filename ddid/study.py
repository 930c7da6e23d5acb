"""A study: many runs of the notebooks as data, from `notebooks/studies/NAME.yaml`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from ddid.errors import InputError, require
from ddid.files import read_json
from ddid.identity import identity
from ddid.notebook import NOTEBOOKS, declared_parameters
from ddid.profiles import Plans, plan, read_mapping

STUDIES = NOTEBOOKS / "studies"
LONGEST = 120  # name of a run's folder, but for the digest that sets it apart
EVERY_ROW = {"value", "variant", "profile", "hardware"}


class Records(BaseModel, extra="forbid"):
    """Which records of a notebook become rows, one for each number in them."""

    record: str
    """NOTEBOOK.KEY: a record in that notebook's `metrics.json`."""
    levels: list[str]
    """What the keys of the nested record are, outermost first."""
    only: dict[str, list[str]] = {}
    """By level, the keys that are wanted; all by default."""
    columns: dict[str, str | int | float] = {}
    """Columns with one value throughout."""


class Gains(BaseModel, extra="forbid"):
    """What is compared query by query, under the same seed: what the first column names."""

    over: list[str]
    file: str
    """NOTEBOOK/FILE.csv with `attack`, `query`, `ap` (percent) and what the study compares."""


class Study(BaseModel, extra="forbid"):
    """Runs under a profile: fixed parameters, times a grid, times variants (see its README)."""

    name: str
    profile: str
    notebooks: list[str] = Field(min_length=1)
    fixed: dict[str, Any] = Field({}, alias="set")
    grid: dict[str, list[Any]] = {}
    variants: dict[str, dict[str, Any]] = {}
    columns: list[str]
    gather: list[Records] = Field(min_length=1)
    gains: Gains | None = None


@dataclass(frozen=True)
class Cell:
    """One run of the study: what was chosen for it, and the parameters of its notebooks."""

    chosen: Mapping[str, Any]
    plans: Plans

    @property
    def name(self) -> str:
        """Its choices, as a folder may be called."""
        name = ",".join(f"{name}={value}" for name, value in self.chosen.items()) or "only"
        fits = "/" not in name and len(name) < LONGEST
        return name if fits else f"{name[:LONGEST].replace('/', '_')}-{identity(name=name)[:8]}"

    @property
    def recipes(self) -> list[str]:
        """Names of the models it trains and measures."""
        return [name for own in self.plans.values() for name in own.get("recipes", [])]

    def rows(self, study: Study, folder: Path) -> Iterator[dict[str, Any]]:
        """What the study gathers from the run in `folder`, with every column it may ask for."""
        known = {name: value for plan in self.plans.values() for name, value in plan.items()}
        known |= {**self.chosen, "profile": study.profile}
        for each in study.gather:
            notebook, *keys = each.record.split(".")
            record = read_json(folder / notebook / "metrics.json")
            for key in keys:
                require(key in record, f"{folder / notebook} recorded no {key}: mend the study")
                record = record[key]
            known["hardware"] = read_json(folder / notebook / "environment.json")["hardware"]
            rows = list(_flatten(record, each.levels, each.only, each.record))
            told = f"{folder / notebook} recorded nothing of {each.only} in {each.record}"
            require(bool(rows), f"{told}: mend the study")
            yield from (known | each.columns | row for row in rows)

    def queries(self, gains: Gains, folder: Path) -> pd.DataFrame:
        """The run's average precision per query, with what was chosen for it, and whose it is: a
        street's people are its seed's own, those of `data_root` are everybody's."""
        kept = {k: v for k, v in self.chosen.items() if k in ("variant", "seed")}
        rows = pd.read_csv(folder / gains.file).assign(**kept)
        given = {name: value for plan in self.plans.values() for name, value in plan.items()}
        away = rows.get("domain", pd.Series("home", rows.index)) == "away"
        home, elsewhere = (given.get(n) or kept.get("seed") for n in ("data_root", "away_root"))
        return rows.assign(people=away.map({True: str(elsewhere), False: str(home)}))


def _flatten(
    record: Any, levels: Sequence[str], only: Mapping[str, list[str]], name: str
) -> Iterator[dict[str, Any]]:
    """Rows of a nested record: a column for each level, and `value`."""
    nested = isinstance(record, dict)
    told = f"{name} has {'more' if nested else 'fewer'} levels than the study says: mend the study"
    require(nested == bool(levels), told)
    if not levels:
        yield {"value": record}
        return
    level, *inner = levels
    for key in record:
        if key in only.get(level, record):
            for row in _flatten(record[key], inner, only, name):
                yield {level: key, **row}


def read_study(name: str) -> Study:
    """A study in `notebooks/studies`, or a path to a YAML file like those."""
    content = read_mapping(name, STUDIES, "study")
    try:
        study = Study(**{"name": Path(name).stem} | content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"study {name}: `{where}`: {first['msg'].lower()}") from error
    stems = {Path(notebook).stem for notebook in study.notebooks}
    given = {name for notebook in study.notebooks for name in declared_parameters(notebook)}
    for each in study.gather:
        told = f"study {name}: {each.record} is of no notebook here"
        require(each.record.split(".")[0] in stems, told)
        strange = each.only.keys() - {*each.levels}
        require(not strange, f"study {name}: {each.record} has no level {' or '.join(strange)}")
        given |= {*each.levels, *each.columns}
    if study.gains:
        told = f"study {name}: gains are paired by seed, which no grid has"
        require("seed" in study.grid, told)
        varied = {*study.grid} - {"seed", study.columns[0], f"{study.columns[0]}s"}
        told = f"study {name}: with gains the grid varies seed and {study.columns[0]} alone, not "
        require(not varied, told + " and ".join(sorted(varied)))
        told = f"study {name}: {study.gains.file} is of no notebook here"
        require(study.gains.file.split("/")[0] in stems, told)
    for column in study.columns:
        require(column in given | EVERY_ROW, f"study {name}: nothing fills the column `{column}`")
    return study


def cells_of(study: Study, settings: Mapping[str, Any] | None = None) -> list[Cell]:
    """Every run of the study, its parameters checked; `settings` overrule all others, and name
    what is wanted, one or a list, of what the grid or the variants vary. The grid's first
    parameter changes slowest, so with `seed` there an unfinished study has whole comparisons."""
    axes = {**study.grid, **({"variant": list(study.variants)} if study.variants else {})}
    fixed = dict(settings or {})
    for name in axes.keys() & fixed.keys():
        wanted = fixed.pop(name)
        axes[name] = wanted if isinstance(wanted, list) else [wanted]
    for name, chosen_from in axes.items():
        require(bool(chosen_from), f"{name} is an empty list: choose a value at least")
    for name in axes.get("variant", []):
        require(name in [*study.variants], f"no variant {name!r} of {', '.join(study.variants)}")
    varied = {*axes, *(name for variant in study.variants.values() for name in variant)}
    last = {name.split(".")[-1] for name in varied}
    for name in fixed:
        sentence = f"{name}: runs of {study.name} differ in it; choose by {' or '.join(axes)}"
        require(name.split(".")[-1] not in last, sentence)
    cells = []
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        variant = study.variants.get(chosen.get("variant", ""), {})
        gridded = {name: value for name, value in chosen.items() if name != "variant"}
        own = {**study.fixed, **gridded, **variant}
        own = {n: v for n, v in own.items() if not {n, n.split(".")[-1]} & fixed.keys()}
        cells.append(Cell(chosen, plan(study.notebooks, study.profile, own | fixed)))
    for name in (name for cell in cells for name in cell.recipes if name.endswith("@gated")):
        told = f"{name} trains on what notebook 02 draws, which is not in the study {study.name}"
        require("02_diffusion_resampling" in study.notebooks, told)
    return cells

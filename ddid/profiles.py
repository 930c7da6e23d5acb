"""Profiles and settings: which parameters each notebook runs under."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ddid.errors import InputError, require
from ddid.files import from_here
from ddid.notebook import NOTEBOOKS, check_parameters, declared_parameters, notebook_names

PROFILES = NOTEBOOKS / "profiles"
PATHS = ("out", "root", "start", "weights")  # last words of the names of parameters that are paths
HUB = ("weights",)  # … or names on a model hub

Plans = Mapping[str, Mapping[str, Any]]
"""Notebook (its name, or a path to its file) → its checked parameters, in order of execution."""


def read_profile(name: str) -> dict[str, Any]:
    """Parameters of a profile: a name in `notebooks/profiles`, or a path to a YAML file.

    Raises:
        InputError: no such profile, or not a flat mapping of parameter names to values.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
    require(path.is_file(), f"no profile {name!r}: choose one of {known}, or give a YAML file")
    content = read_yaml(path.read_bytes(), str(path))
    flat = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    require(flat, f"{path} should be lines of `parameter: value`")
    return content


def parse_overrides(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`notebook.parameter=value` texts → {notebook: {parameter: value}}; values are YAML.

    `01.seed=3` and `01_bias_analysis.seed=3` both name a notebook; `seed=3` names all that take it.
    Relative paths are taken from the working directory, as everywhere on the command line.

    Raises:
        InputError: no `=`, or no such notebook.
    """
    overrides: dict[str, dict[str, Any]] = {name: {} for name in notebook_names()}
    for setting in settings:
        target, value = parse_setting(setting)
        where, _, parameter = target.rpartition(".")
        chosen = [n for n in overrides if not where or where in (n, n[:2], n[3:])]
        require(bool(chosen), f"--set {setting}: no notebook {where!r}; {', '.join(overrides)}")
        for name in chosen:
            overrides[name][parameter] = value
    return overrides


def parse_setting(setting: str) -> tuple[str, Any]:
    """`name=value` → its two sides; a path is made absolute.

    Raises:
        InputError: no `=`, or no YAML behind it.
    """
    name, equals, text = setting.partition("=")
    require(bool(equals), f"--set {setting}: write notebook.parameter=value")
    value = read_yaml(text, f"--set {setting}")
    parameter = name.rpartition(".")[2]
    if is_path(parameter, value) and (parameter not in HUB or Path(value).exists()):
        value = str(from_here(value))
    return name, value


def is_path(parameter: str, value: Any) -> bool:
    """Whether a parameter names a file or folder."""
    return isinstance(value, str) and bool(value) and parameter.rpartition("_")[2] in PATHS


def read_yaml(text: str | bytes, where: str) -> Any:
    """Plain values of a YAML text from `where`.

    Raises:
        InputError: it is not YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date or number out of range
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def plan_run(
    profile: str, out: Path, settings: Sequence[str] = (), only: Sequence[str] = ()
) -> Plans:
    """Checked parameters of every notebook: profile, then overrides, then `out`.

    Everything is checked before anything runs, so a typing error costs no training.

    Raises:
        InputError: an unknown or mistyped parameter anywhere, or an unknown name in `only`.
    """
    shared, overrides, plans = read_profile(profile), parse_overrides(settings), {}
    for name in only:
        known = any(name in (n, n[:2], n[3:]) for n in overrides)
        require(known, f"--only {name}: no such notebook; choose of {', '.join(overrides)}")
    for notebook, own in overrides.items():
        plans[notebook] = check_parameters(notebook, shared | own | {"out": str(out)})
        for setting in own.keys() - declared_parameters(notebook).keys():
            named = sum(setting in other for other in overrides.values())
            require(named > 1, f"--set {notebook}.{setting}: this notebook takes no {setting}")
    return {n: p for n, p in plans.items() if not only or {n, n[:2], n[3:]} & set(only)}

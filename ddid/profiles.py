"""Profiles and settings: which parameters each notebook runs under."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ddid.attack import Budget, find_attack, require_family
from ddid.backbones import find_backbone
from ddid.balance.sampling import Sampling
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipes import batch_attacks, find_recipe
from ddid.errors import InputError, require
from ddid.files import from_here
from ddid.notebook import (
    NOTEBOOKS,
    check_parameters,
    declared_parameters,
    did_you_mean,
    notebook_names,
    resolve,
)
from ddid.report.robustness import Plan
from ddid.street.street import StreetConfig

PROFILES = NOTEBOOKS / "profiles"
PATHS = ("out", "root", "start", "ready", "weights")  # last words of names of parameters: paths
HUB = ("weights",)  # … or names on a model hub
DATA = ("data_root", "away_root")


def _without_another(*names: str, whole: bool = True) -> None:
    for name in names:
        entry, more = find_attack(name), "" if whole else " or on all images at once"
        fits = not entry.surrogate and (whole or not entry.whole)
        require(fits, f"{name} works on another model{more}: choose another attack here")


CHECKS: Mapping[str, Callable[[Any], Any]] = {  # parameters, and what refuses a wrong one
    "recipes": lambda names: [find_recipe(name.partition("@")[0]) for name in names],
    "attack_eps_255": lambda level: Plan((), Budget(level / 255)),
    "audit_eps_255": lambda levels: [Plan((), Budget(level / 255)) for level in levels],
    "away_attacks": lambda names: _without_another(*names),
    "away_street": lambda domain: domain and StreetConfig(domain=domain),
    "backbone": find_backbone,
    "fnes_omega": lambda omega: FNES(omega=tuple(omega)),
    "gallery_attacks": lambda names: require_family(names, "gallery"),
    "meta_attacks": batch_attacks,
    "meta_split": lambda split: Meta(split=split),
    "sampling_way": Sampling,
    "shown_attack": lambda name: _without_another(name, whole=False),
    "standard_attacks": lambda names: require_family(names, "standard"),
    "street_domain": lambda domain: StreetConfig(domain=domain),
    "train_eps_255": lambda level: Budget(level / 255),
    "unseen_attacks": lambda names: [find_attack(name) for name in names],
}

Plans = Mapping[str, Mapping[str, Any]]
"""Notebook (its name, or a path to its file) → its checked parameters, in order of execution."""


def read_mapping(name: str, folder: Path, kind: str) -> dict[str, Any]:
    """Names and values of a YAML file: `folder/NAME.yaml`, or a path."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    require(path.is_file(), f"no {kind} {name!r}: choose one of {known}, or give a YAML file")
    content = _yaml(path.read_bytes(), str(path))
    flat = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    require(flat, f"{path} should be lines of `parameter: value`")
    return content


def _yaml(text: str | bytes, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date or number out of range
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def parse_setting(setting: str) -> tuple[str, Any]:
    """`name=value` → its two sides, the value as YAML; a path is made absolute."""
    name, equals, text = setting.partition("=")
    require(bool(equals), f"--set {setting}: write notebook.parameter=value")
    value = _yaml(text, f"--set {setting}")
    parameter = name.rpartition(".")[2]
    if is_path(parameter, value) and (parameter not in HUB or from_here(value).exists()):
        value = str(from_here(value))
    return name, value


def is_path(parameter: str, value: Any) -> bool:
    """Whether a parameter names a file or folder."""
    return isinstance(value, str) and bool(value) and parameter.rpartition("_")[2] in PATHS


def plan(notebooks: Sequence[str], profile: str, settings: Mapping[str, Any]) -> Plans:
    """Checked parameters of notebooks: of a profile, overruled by settings.

    `seed` sets it in all that take it, `03.seed` and `03_adversarial_meta_training.seed` in one.
    One value for a list stands for a list of one; an empty one in the profile (`data_root:`) must
    be set. InputError: it is not, a name that no notebook takes, a value of another type, or a
    recipe, an attack or data that there is not.
    """
    declared = {notebook: declared_parameters(notebook) for notebook in notebooks}
    known = {name for parameters in declared.values() for name in parameters}
    shared = read_mapping(profile, PROFILES, "profile")
    chosen = {setting.rpartition(".")[2] for setting in settings}
    lacking = [name for name, value in shared.items() if value is None and name not in chosen]
    told = f"profile {profile} has no {' and no '.join(lacking)} of its own: give "
    require(not lacking, told + " ".join(f"--set {name}=..." for name in lacking))
    plans = {
        n: {k: v for k, v in shared.items() if k in own or k not in known}
        for n, own in declared.items()
    }
    for setting, value in settings.items():
        where, _, name = setting.rpartition(".")
        takers = [n for n in declared if name in declared[n] and _is_called(n, where)]
        closer = known | {f"{Path(n).stem[:2]}.{own}" for n in declared for own in declared[n]}
        meant = did_you_mean(setting, closer)
        require(bool(takers), f"no notebook here takes `{setting}`; {meant}")
        for notebook in takers:
            wrapped = isinstance(declared[notebook][name], list) and not isinstance(value, list)
            plans[notebook][name] = [value] if wrapped else value
    checked: dict[str, dict[str, Any]]
    checked = {n: check_parameters(n, given) for n, given in plans.items()}
    every = {name: value for own in checked.values() for name, value in own.items()}
    away, home = every.get("away_street"), every.get("street_domain")
    told = f"away_street={away} is where the models are trained: choose another domain, say campus"
    require(not away or away != home or bool(every.get("data_root")), told)
    told = "on_validation measures on people held out: give a validation_share above 0"
    require(not every.get("on_validation") or every.get("validation_share", 1) > 0, told)
    for parameters in (checked[n] for n in checked if not Path(n).suffix):  # not one's own file
        _check(parameters)
        for name in (name for name in HUB if parameters.get(name)):
            if (place := resolve(parameters[name])).exists():
                parameters[name] = str(place)
    return checked


def _check(parameters: Mapping[str, Any]) -> None:
    """Raise InputError for a value that a notebook would refuse later."""
    for name in (name for name in CHECKS if name in parameters):
        CHECKS[name](parameters[name])
    for name in (name for name in DATA if parameters.get(name)):
        place = resolve(parameters[name])
        require(place.exists(), f"no file or folder {place}: {name} should be a data set")


def _is_called(notebook: str, name: str) -> bool:
    stem = Path(notebook).stem
    return name in ("", stem, stem[:2], stem[3:])


def plan_run(
    profile: str, out: Path, settings: Sequence[str] = (), only: Sequence[str] = ()
) -> Plans:
    """Checked parameters of the six notebooks, or of `only` some, in the run folder `out`; all
    checked before anything runs, so a typing error costs no training."""
    given = dict(map(parse_setting, settings))
    own = [name for name in given if name.rpartition(".")[2] == "out"]
    require(not own, f"--set {' '.join(own)} has no effect: the run folder is what --out says")
    plans = plan(notebook_names(), profile, {**given, "out": str(out)})
    for recipe in (r for parameters in plans.values() for r in parameters.get("recipes", [])):
        csv = out / "strategies" / f"{recipe.partition('@')[2]}.csv"
        told = f"{recipe}: no file {csv}, train on @none or @gated, or run the notebook strategies"
        require(csv.stem in (".csv", "none", "gated") or csv.is_file(), told)
    for name in only:
        known = any(_is_called(notebook, name) for notebook in plans)
        require(known, f"--only {name}: no such notebook; choose of {', '.join(plans)}")
    return {n: p for n, p in plans.items() if not only or any(_is_called(n, o) for o in only)}

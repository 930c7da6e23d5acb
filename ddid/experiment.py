"""One cell of the experiment: a recipe under a seed, trained, attacked, scored, its cost kept.

The seed decides the street's people and the training.
"""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ddid.attack.budget import Budget
from ddid.balance.strategies import STRATEGIES, strategy_manifest
from ddid.data import Data, read_data, reopen
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Recipe
from ddid.defense.recipes import find_recipe, tuned
from ddid.defense.training import TrainConfig, train
from ddid.errors import require
from ddid.files import read_json, write_json
from ddid.identity import identity
from ddid.model import ReIDNet, load_model
from ddid.notebook import check_parameters, declared_parameters
from ddid.pipeline import read_profile, run_notebooks
from ddid.report.robustness import Plan, evaluate
from ddid.report.subject import Subject
from ddid.street.street import StreetConfig, write_street
from ddid.training import read_log

NOTEBOOK = "03_adversarial_meta_training"
PHASE_1 = ("01_bias_analysis", "02_diffusion_resampling")
HOME, AWAY = "downtown", "campus"
METRICS = ["mAP", "rank1", "mINP", "std", "worst_decile", "forward", "backward", "seconds"]
OWN = ("data_root", "validation_share", "effect_steps", "recipes", "balanced_recipes")  # a sweep's
QUERIES = 100  # our choice: of the gradient-free attack; 300 take longer than all others together
RECIPES = (
    "none",
    "offline_at",
    "classifier_at",
    "trades",
    "goat",
    "act",
    "hm",
    "dynamic_budget",
    "metric_at",
    "metric_at+discriminator",
    "metric_at+meta",
    "metric_at+fnes",
    "ddid",
    "metric_at@gated",
    "ddid@gated",
)
"""The defenses compared. `RECIPE@STRATEGY` trains on what a balancing strategy made of the same
images; `ddid@gated` is the paper's whole method, plain names mean no balancing."""
BALANCING = tuple(f"metric_at@{strategy}" for strategy in STRATEGIES)


@dataclass(frozen=True)
class Sweep:
    """What is compared; everything else is the profile's."""

    profile: str = "bench"
    recipes: Sequence[str] = RECIPES
    seeds: Sequence[int] = (0, 1, 2)
    attacks: Sequence[str] = ("fna", "sma", "ifgsm", "auto")
    """Standard attacks at home; the worst case is over them and clean."""
    unseen: Sequence[str] = ("universal", "transfer", "square", "color", "warp", "patch")
    """Attack families that no recipe trains on; `unseen` is their mean."""
    away: Sequence[str] = ("fna",)
    """Attacks in the second domain, whose people and cameras nobody trained on."""


@dataclass(frozen=True)
class Cell:
    """One recipe under one seed."""

    sweep: Sweep
    recipe: str
    seed: int
    root: Path

    @property
    def shared(self) -> Path:
        """What the cells of this seed share: streets, phase 1, the surrogate."""
        return self.root / f"seed{self.seed}"

    @property
    def defense(self) -> str:
        """The recipe's name in the registry."""
        return self.recipe.partition("@")[0]

    @property
    def strategy(self) -> str:
        """How the training images are balanced."""
        return self.recipe.partition("@")[2] or "none"

    @property
    def folder(self) -> Path:
        """Where the cell's model, attacks and rows are kept."""
        return self.shared / self.recipe.removesuffix("@none")


def cells_of(sweep: Sweep, root: Path) -> list[Cell]:
    """Seed by seed, so that an unfinished sweep has whole comparisons."""
    return [Cell(sweep, name, seed, root) for seed in sweep.seeds for name in sweep.recipes]


def prepare_seed(cell: Cell) -> None:
    """What the cells of a seed share: two streets, the transfer attacks' network, phase 1.

    Phase 1 is notebooks 01 and 02 themselves, executed if a recipe asks for it.
    """
    for domain in (HOME, AWAY):
        _street(cell, domain)
    _train(replace(cell, recipe="none"), cell.shared / "surrogate", shift=1000)
    if any(other.strategy != "none" for other in cells_of(cell.sweep, cell.root)):
        root = cell.shared / "phase1"
        own = {"out": str(root), "seed": cell.seed, "threads": 1, "effect_steps": 0}
        own["data_root"] = str(cell.shared / "streets" / HOME)
        profile = read_profile(cell.sweep.profile)
        run_notebooks({name: check_parameters(name, profile | own) for name in PHASE_1}, root)


def run_cell(cell: Cell) -> Cell:
    """Train one recipe, attack it in both domains, and write `rows.json`."""
    net = _train(cell, cell.folder)
    table = pd.concat([_measure(cell, net, HOME), _measure(cell, net, AWAY), _cost(cell.folder)])
    table = table[table["metric"].isin(METRICS)].assign(
        seed=cell.seed, profile=cell.sweep.profile, hardware=hardware()
    )
    columns = ["seed", "domain", "attack", "metric", "value", "profile", "hardware"]
    rows = table[columns].to_dict("records")
    write_json(cell.folder / "rows.json", {"plan": cell_plan(cell), "rows": rows})
    return cell


def hardware() -> str:
    """What the seconds were measured on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s) of {os.cpu_count()}"


def train_config(parameters: dict[str, Any], seed: int) -> TrainConfig:
    """The training configuration that notebook 03 would use under the same parameters."""
    return TrainConfig(
        backbone=parameters["backbone"],
        weights=parameters["weights"],
        steps=parameters["train_steps"],
        identities=parameters["identities_per_batch"],
        images_per_identity=parameters["images_per_identity"],
        lr=parameters["learning_rate"],
        eps=parameters["train_eps_255"] / 255,
        attack_step=parameters["train_step_255"] / 255,
        attack_steps=parameters["train_attack_steps"],
        seed=seed,
    )


def recipe_of(cell: Cell) -> Recipe:
    """The cell's recipe as notebook 03 would train it under the same parameters."""
    parameters = settings(cell.sweep)
    shift, low_high = parameters["fnes_shift"], tuple(parameters["fnes_omega"])
    fnes = FNES(gamma=parameters["fnes_gamma"], omega=low_high, shift=shift)
    return tuned(find_recipe(cell.defense), fnes, Meta(rate=parameters["meta_rate"]))


def cell_plan(cell: Cell) -> dict[str, Any]:
    """What a cell's rows depend on; rows made under another plan do not count."""
    parameters = settings(cell.sweep)
    plan = asdict(replace(cell.sweep, recipes=(), seeds=())) | {
        "recipe": identity(recipe=recipe_of(cell)),
        "training": asdict(train_config(parameters, cell.seed)),
        "size": [parameters["image_height"], parameters["image_width"]],
    }
    if cell.strategy != "none":
        plan["phase1"] = hashlib.sha256(_drafts(cell).read_bytes()).hexdigest()
    return json.loads(json.dumps(plan))


def settings(sweep: Sweep) -> dict[str, Any]:
    """The profile's parameters of notebook 03, defaults included.

    Raises:
        InputError: the profile sets what is the sweep's own matter: data, attacks, recipes.
    """
    profile = read_profile(sweep.profile)
    parameters = check_parameters(NOTEBOOK, profile)
    trained = {name for notebook in (*PHASE_1, NOTEBOOK) for name in declared_parameters(notebook)}
    own = [
        name for name in profile if name.startswith("street_") or name in OWN or name not in trained
    ]
    require(
        not own,
        f"profile {sweep.profile} sets {', '.join(own)}, but a sweep has its own streets, recipes "
        "and attacks: take it out",
    )
    return parameters


def finished(cell: Cell) -> bool:
    """Whether the cell's rows are there, made under its present plan."""
    path = cell.folder / "rows.json"
    ready = cell.strategy == "none" or _drafts(cell).exists()
    return ready and path.exists() and read_json(path)["plan"] == cell_plan(cell)


def _drafts(cell: Cell) -> Path:
    return cell.shared / "phase1" / PHASE_1[1] / "drafts.csv"


def _street(cell: Cell, domain: str) -> tuple[pd.DataFrame, tuple[int, int]]:
    """Manifest of a seed's street in one domain, and the image size."""
    parameters = settings(cell.sweep)
    size = (parameters["image_height"], parameters["image_width"])
    config = StreetConfig(height=size[0], width=size[1], domain=domain, seed=cell.seed)
    root = write_street(cell.shared / "streets" / domain, config)
    return read_data(root).manifest, size


def _train(cell: Cell, folder: Path, shift: int = 0) -> ReIDNet:
    manifest, size = _street(cell, HOME)
    if cell.strategy != "none":
        before = reopen(cell.shared / "phase1" / PHASE_1[0] / "manifest.csv").manifest
        drafts = reopen(_drafts(cell)).manifest
        copies = cell.shared / "images" / cell.strategy
        manifest = strategy_manifest(cell.strategy, before, drafts, copies)
    images = Data(manifest).images("train", size=size)
    config = train_config(settings(cell.sweep), cell.seed + shift)
    return train(recipe_of(cell), images, config, folder / "model")


def _measure(cell: Cell, net: ReIDNet, domain: str) -> pd.DataFrame:
    """Tidy rows of one domain: clean, every attack, the worst case, the mean of the unseen."""
    manifest, size = _street(cell, domain)
    query, gallery = Data(manifest).images("query", "gallery", size=size)
    surrogate = load_model(cell.shared / "surrogate" / "model")
    surrogate.to(net.neck.weight.device)
    subjects = [Subject.of(model, query, gallery) for model in (net, surrogate)]
    home = domain == HOME
    attacks = (*cell.sweep.attacks, *cell.sweep.unseen) if home else cell.sweep.away
    plan = Plan(attacks=attacks, budget=Budget(queries=QUERIES), seed=cell.seed)
    found = evaluate(subjects[0], cell.folder / "attacks" / domain, plan, subjects[1])
    rows = found.rows().assign(domain=domain)
    unseen = rows[rows["attack"].isin(cell.sweep.unseen)]
    means = unseen.groupby("metric", as_index=False)["value"].mean()
    return pd.concat([rows, means.assign(domain=domain, attack="unseen")])


def _cost(folder: Path) -> pd.DataFrame:
    """Images through the network and back, and seconds, of the whole training."""
    logs = [read_log(path.parent) for path in (folder / "model").rglob("train_log.jsonl")]
    totals = pd.concat(logs)[["forward", "backward", "seconds"]].sum()
    table = totals.rename_axis("metric").reset_index(name="value")
    return table.assign(domain=HOME, attack="training")

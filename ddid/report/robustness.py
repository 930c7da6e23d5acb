"""Robustness of one model: attacks scored by the protocol, resumable, worst case per query."""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from ddid import __version__
from ddid.attack import ATTACKS, STANDARD, craft
from ddid.attack.loop import Budget
from ddid.attack.suite import find_attack
from ddid.errors import require
from ddid.files import read_json, write_json
from ddid.metric.distance import Metric
from ddid.metric.ranking import Ranking, rank
from ddid.model import Embed
from ddid.model import embed as embed_all
from ddid.progress import Progress
from ddid.report.subject import Subject


@dataclass(frozen=True)
class Plan:
    """How robustness is measured. Gallery side: the gallery images of the queries' identities."""

    attacks: Sequence[str] = tuple(STANDARD)
    budget: Budget = field(default_factory=Budget)
    side: Literal["query", "gallery"] = "query"
    metric: Metric = "cosine"
    same_camera: Literal["ignore", "count"] = "ignore"
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in self.attacks:
            find_attack(name)
        require(self.side in ("query", "gallery"), f"side is {self.side!r}: query or gallery")
        require(self.batch_size > 0, f"batch_size is {self.batch_size}: give at least 1")


@dataclass(frozen=True)
class Robustness:
    """Rankings under "clean", under each attack, and in the worst case over the standard ones.

    `costs` says per attack what one image took: embeddings asked, gradients asked, and the largest
    change of a level (0..255) in any image.
    """

    rankings: dict[str, Ranking]
    costs: dict[str, dict[str, float]]

    def summary(self) -> dict[str, dict[str, float]]:
        """Metrics in percent by attack: mAP, rank1, ..., and the per-identity spread."""
        return {
            name: {**ranking.summary(), **ranking.spread()}
            for name, ranking in self.rankings.items()
        }

    def rows(self) -> pd.DataFrame:
        """Tidy table: one row per attack and metric, with the attack's family."""
        rows = [
            {"attack": name, "family": family(name), "metric": metric, "value": value}
            for name, metrics in self.summary().items()
            for metric, value in metrics.items()
        ]
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """One line per attack, one column per metric, percent with one decimal."""
        return pd.DataFrame(self.summary()).T.rename_axis("attack").round(1)


def evaluate(
    subject: Subject,
    folder: str | Path,
    plan: Plan | None = None,
    surrogate: Subject | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Attack a model and score it; each attack leaves `folder/ATTACK.json` and is not run again.

    A stored result counts only if it was made under the same plan, for the same clean features.
    `surrogate` (another model on the same images) is needed by the transfer attack alone.
    """
    plan, folder = plan or Plan(), Path(folder)
    clean = rank_sides(subject, plan, subject.query_features, subject.gallery_features)
    rankings, costs = {"clean": clean}, {}
    for name in plan.attacks:
        key, path = fingerprint(name, subject, plan, surrogate), folder / f"{name}.json"
        stored = read_json(path) if path.exists() else {}
        if stored.get("key") != key:
            stored = {"key": key, **measure(name, subject, plan, surrogate, progress)}
            write_json(path, stored)
        rankings[name], costs[name] = as_ranking(stored["queries"], clean), stored["cost"]
    rankings["worst"] = worst_case([clean, *(rankings[n] for n in plan.attacks if n in STANDARD)])
    return Robustness(rankings, costs)


def sweep(
    subject: Subject,
    folder: str | Path,
    plan: Plan,
    budgets: dict[str, Budget],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate a plan under several named budgets: tidy rows with a column "budget"."""
    tables = []
    for label, budget in budgets.items():
        found = evaluate(
            subject, Path(folder) / label, replace(plan, budget=budget), None, progress
        )
        tables.append(found.rows().assign(budget=label, eps=budget.eps, steps=budget.steps))
    return pd.concat(tables, ignore_index=True)


def _labeled(progress: Progress | None, label: str) -> Progress | None:
    return progress and (lambda what, done, total: progress(f"{label}, {what}", done, total))


def over_eps(budget: Budget, levels: Sequence[float]) -> dict[str, Budget]:
    """Budgets with other eps, given in levels of 255; the step grows in proportion."""
    per_eps = budget.step / budget.eps if budget.eps else 1.0
    return {
        f"eps_{level:g}": replace(
            budget, eps=level / 255, step=per_eps * level / 255 if level else budget.step
        )
        for level in levels
    }


def over_steps(budget: Budget, counts: Sequence[int]) -> dict[str, Budget]:
    """Budgets with other numbers of steps of the same size."""
    return {f"steps_{count}": replace(budget, steps=count) for count in counts}


def measure(
    name: str, subject: Subject, plan: Plan, surrogate: Subject | None, progress: Progress | None
) -> dict[str, Any]:
    """Run one attack and score it: per-query results, cost, metrics, card."""
    attacked, cost = attack_images(name, subject, plan, surrogate, progress=progress)
    features = {"query": subject.query_features, "gallery": subject.gallery_features}
    changed = features[plan.side].clone()
    changed[subject.targets(plan.side)] = embed_all(subject.embed, attacked, plan.batch_size)
    ranking = rank_sides(subject, plan, **(features | {plan.side: changed}))
    queries = {part: getattr(ranking, part).tolist() for part in ("ap", "inp", "first_rank")}
    scores = {**ranking.summary(), **ranking.spread()}
    card = {"family": family(name), **asdict(ATTACKS[name].card)}
    return {"attack": name, "card": card, "cost": cost, "metrics": scores, "queries": queries}


def attack_images(
    name: str,
    subject: Subject,
    plan: Plan,
    surrogate: Subject | None = None,
    *,
    progress: Progress | None = None,
    only: slice = slice(None),
) -> tuple[Tensor, dict[str, float]]:
    """Attacked images of the plan's side (uint8), and what one image cost.

    `only` picks some of the images; random starts are drawn anew, everything else is as for all.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {plan.seed}".encode()))
    counter = Counter(subject.embed)
    scene = replace(subject.scene(plan.side, plan.metric, generator), embed=counter)
    if surrogate:
        scene = replace(scene, surrogate=surrogate.scene(plan.side, plan.metric, generator))
    scene = scene.part(only)
    attacked = craft(name, scene, plan.budget, plan.batch_size, progress)
    change = (attacked.int() - scene.images.int()).abs().max()
    return attacked, {
        "embeddings": counter.embeddings / len(attacked),
        "gradients": counter.gradients / len(attacked),
        "largest_change": int(change),
    }


class Counter:
    """A model that counts the images it embeds, and those a gradient is taken of."""

    def __init__(self, embed: Embed) -> None:
        self.embed, self.embeddings, self.gradients = embed, 0, 0

    def __call__(self, images: Tensor) -> Tensor:
        """Embed images (B, 3, H, W)."""
        found = self.embed(images)
        self.embeddings += len(images)
        self.gradients += len(images) if found.requires_grad and torch.is_grad_enabled() else 0
        return found


def worst_case(rankings: Sequence[Ranking]) -> Ranking:
    """Score each query by whatever hurt it most: lowest AP and INP, latest first right answer."""
    return replace(
        rankings[0],
        ap=torch.stack([ranking.ap for ranking in rankings]).amin(0),
        inp=torch.stack([ranking.inp for ranking in rankings]).amin(0),
        first_rank=torch.stack([ranking.first_rank for ranking in rankings]).amax(0),
    )


def rank_sides(subject: Subject, plan: Plan, query: Tensor, gallery: Tensor) -> Ranking:
    """Rank given features of the subject's images under the plan's protocol."""
    sides = subject.sides(query, gallery)
    return rank(*sides, metric=plan.metric, same_camera=plan.same_camera)


def as_ranking(queries: dict[str, list[float]], clean: Ranking) -> Ranking:
    """Per-query results from a file, as the ranking they were."""
    ap, inp = (torch.tensor(queries[part], dtype=torch.float64) for part in ("ap", "inp"))
    first = torch.tensor(queries["first_rank"], dtype=clean.first_rank.dtype)
    return replace(clean, ap=ap, inp=inp, first_rank=first)


def family(name: str) -> str:
    """Family of an attack; "clean" and "worst" are their own."""
    return ATTACKS[name].family if name in ATTACKS else name


def fingerprint(name: str, subject: Subject, plan: Plan, surrogate: Subject | None) -> str:
    """Digest of everything a stored result depends on."""
    settings = asdict(plan) | {"attacks": name, "version": __version__}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for model in (subject, *([surrogate] if surrogate and name == "transfer" else [])):
        for features in (model.query_features, model.gallery_features):
            digest.update(features.contiguous().numpy().tobytes())
    return digest.hexdigest()

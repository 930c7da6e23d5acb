"""Robustness of one model: attacks scored by the protocol, resumable, worst case per query."""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddid.attack import Budget, attack_names, find_attack
from ddid.attack.registry import Attack, attack_scene
from ddid.errors import require
from ddid.files import read_json, write_json
from ddid.identity import identity, instructions
from ddid.metric.ranking import Ranking, rank
from ddid.model import embed as embed_all
from ddid.progress import Progress
from ddid.report.subject import Subject

BATCH = 64  # images in one pass


@dataclass(frozen=True)
class Plan:
    """How robustness is measured. InputError: an attack that there is not, an eps that is no whole
    number of 255ths."""

    attacks: Sequence[str] = field(default_factory=lambda: attack_names("standard"))
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    gallery_steps: int = 40  # of attacks that know the gallery; steps and restarts are ours
    gallery_restarts: int = 2
    dear_queries: int = 0  # attacked by the attacks that are `dear`; 0: all

    def __post_init__(self) -> None:
        for name in self.attacks:
            find_attack(name)
        levels = self.budget.eps * 255
        told = f"eps is {levels:g}/255, but what is scored are 8-bit pictures: give whole levels"
        require(abs(levels - round(levels)) < 1e-3, told)

    def budget_of(self, name: str) -> Budget:
        """What one attack may spend."""
        if find_attack(name).family != "gallery":
            return self.budget
        return replace(self.budget, steps=self.gallery_steps, restarts=self.gallery_restarts)


@dataclass(frozen=True)
class Robustness:
    """Rankings under "clean", under each attack, and in two worst cases per query: "worst" over
    the standard attacks, "worst_gallery" over these and those that know the gallery; each only
    where such attacks were run."""

    rankings: dict[str, Ranking]
    costs: dict[str, dict[str, float]]  # per image: embeddings, gradients, largest change of 255
    rows: dict[str, Tensor]  # the queries that a ranking is of

    def summary(self) -> dict[str, dict[str, float]]:
        """Metrics in percent by attack: mAP, rank1, ..., and the per-identity spread; "unseen" is
        the mean over the attacks of that family, on the queries that all of them were asked."""
        scores = {n: {**found.summary(), **found.spread()} for n, found in self.rankings.items()}
        if names := [name for name in attack_names("unseen") if name in self.rankings]:
            rows, counts = torch.cat([self.rows[n] for n in names]).unique(return_counts=True)
            shared = rows[counts == len(names)]
            parts = [self.rankings[n][torch.isin(self.rows[n], shared)] for n in names]
            means = pd.DataFrame([{**part.summary(), **part.spread()} for part in parts]).mean()
            scores["unseen"] = {str(metric): float(value) for metric, value in means.items()}
        return scores

    def table(self) -> pd.DataFrame:
        """One line per attack, one column per metric, percent with one decimal."""
        return pd.DataFrame(self.summary()).T.rename_axis("attack").round(1)

    def tidy(self) -> pd.DataFrame:
        """One row per attack and metric."""
        scores = {(n, m): v for n, found in self.summary().items() for m, v in found.items()}
        return pd.Series(scores).rename_axis(["attack", "metric"]).reset_index(name="value")

    def queries(self) -> pd.DataFrame:
        """One row per query and attack: ap and rank1 in percent; "unseen" as in `summary`."""
        parts = []
        for name, found in self.rankings.items():
            columns = {"query": self.rows[name], "pid": found.pids, "ap": 100 * found.ap}
            columns["rank1"] = 100 * (found.first_rank == 1)
            valid = {label: column[found.valid].numpy() for label, column in columns.items()}
            parts.append(pd.DataFrame(valid).assign(attack=name))
        rows = pd.concat(parts, ignore_index=True)[["attack", *columns]]
        unseen = rows[rows["attack"].isin(attack_names("unseen"))]
        whole = unseen.groupby("query")["attack"].transform("count") == unseen["attack"].nunique()
        means = unseen[whole].groupby(["query", "pid"], as_index=False)[["ap", "rank1"]].mean()
        return pd.concat([rows, means.assign(attack="unseen")], ignore_index=True)


def evaluate(
    subject: Subject,
    folder: str | Path,
    plan: Plan,
    surrogate: Subject | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Attack a model and score it; each attack leaves `folder/ATTACK.json` and is not run again.

    A stored result counts only while plan, attack, model (what it answers and its gradient),
    pixels, identities and cameras are those it was made with.
    `surrogate` (another model on the same images) is needed by the transfer attack alone.
    """
    blind = [name for name in plan.attacks if find_attack(name).surrogate and surrogate is None]
    told = f"{' or '.join(blind)} works on another model: give a surrogate or leave it out"
    require(not blind, told)
    clean = rank(subject.attacked, subject.gallery)
    rankings, costs, rows = {"clean": clean}, {}, {"clean": subject.rows}
    every = torch.arange(len(subject.rows))
    few = torch.isin(subject.rows, subject.some(plan.dear_queries).rows).nonzero().squeeze(1)
    for stage, name in enumerate(plan.attacks):
        entry, path = find_attack(name), Path(folder, f"{name}.json")
        part = few if entry.dear else every
        asked = replace(subject, rows=subject.rows[part])
        key = key_of(entry, asked, plan, surrogate)
        stored = read_json(path, {})
        digest = stored.pop("digest", "")
        if stored.get("key") != key or digest != identity(result=stored):
            tell = staged(progress, f"{subject.name}, {plan.budget}", stage, len(plan.attacks))
            stored = {"key": key, **measure(entry, asked, plan, surrogate, tell)}
            write_json(path, stored | {"digest": identity(result=stored)})
        rankings[name] = as_ranking(stored["queries"], clean, part)
        costs[name], rows[name] = stored["cost"], asked.rows
    whole = [name for name in plan.attacks if len(rows[name]) == len(every)]
    seen, known = (
        [rankings[n] for n in whole if n in attack_names(f)] for f in ("standard", "gallery")
    )
    worst = {"worst": seen, "worst_gallery": known and [*seen, *known]}
    for name, attacked in worst.items():
        if attacked:
            rankings[name], rows[name] = worst_case([clean, *attacked]), subject.rows
    return Robustness(rankings, costs, rows)


def staged(progress: Progress | None, what: str, stage: int, stages: int) -> Progress | None:
    """Progress within one of several equal stages, told as one task."""
    return progress and (lambda _, done, each: progress(what, stage * each + done, stages * each))


def measure(
    entry: Attack, subject: Subject, plan: Plan, surrogate: Subject | None, tell: Progress | None
) -> dict[str, Any]:
    """Run one attack and score it: per-query results, cost, metrics, card."""
    attacked, cost = attack_images(entry.name, subject, plan, surrogate, tell)
    features = embed_all(subject.embed, attacked, BATCH)
    ranking = rank(replace(subject.attacked, embeddings=features), subject.gallery)
    return {
        "attack": entry.name,
        "card": {"family": entry.family, **asdict(entry.card)},
        "budget": asdict(plan.budget_of(entry.name)),
        "cost": cost,
        "metrics": {**ranking.summary(), **ranking.spread()},
        "queries": {part: getattr(ranking, part).tolist() for part in ("ap", "inp", "first_rank")},
    }


def attack_images(
    name: str,
    subject: Subject,
    plan: Plan,
    surrogate: Subject | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Attacked queries (uint8), and what one cost."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {plan.seed}".encode()))
    given, spent = ("query", plan.budget_of(name), generator), {"embeddings": 0, "gradients": 0}

    def counted(images: Tensor) -> Tensor:
        found = subject.embed(images)
        spent["embeddings"] += len(images)
        spent["gradients"] += len(images) if found.requires_grad and torch.is_grad_enabled() else 0
        return found

    other = replace(surrogate, rows=subject.rows).scene(*given) if surrogate else None
    scene = replace(subject.scene(*given), embed=counted, surrogate=other)
    attacked = attack_scene(find_attack(name), scene, BATCH, progress)
    pairs = zip(attacked.split(BATCH), scene.images.split(BATCH), strict=True)
    return attacked, {
        **{what: count / len(attacked) for what, count in spent.items()},
        "largest_change": max(int((a.int() - b.int()).abs().max()) for a, b in pairs),
    }


def worst_case(rankings: Sequence[Ranking]) -> Ranking:
    """Score each query by whatever hurt it most: lowest AP and INP, latest first right answer."""
    parts = ("ap", "inp", "first_rank")
    ap, inp, first = (torch.stack([getattr(r, part) for r in rankings]) for part in parts)
    return replace(rankings[0], ap=ap.amin(0), inp=inp.amin(0), first_rank=first.amax(0))


def as_ranking(queries: dict[str, list[float]], clean: Ranking, part: Tensor) -> Ranking:
    """Results from a file as the ranking they were, of this part of the clean one's queries."""
    columns = {
        name: torch.tensor(values, dtype=getattr(clean, name).dtype)
        for name, values in queries.items()
    }
    return Ranking(**columns, valid=clean.valid[part], pids=clean.pids[part])


def key_of(entry: Attack, subject: Subject, plan: Plan, surrogate: Subject | None) -> str:
    """Digest of everything a stored result depends on, the attack's own functions included."""
    models = [subject, *([surrogate] if surrogate and entry.surrogate else [])]
    return identity(
        models=[(model.query, model.gallery, model.slopes()) for model in models],
        attacked=(subject.rows, subject.images("query"), plan.budget_of(entry.name), plan.seed),
        code=(entry.craft, entry.whole, entry.bounded, attack_scene, Subject.scene, rank),
        scene=(*(instructions(f.__code__) for f in (measure, attack_images)), embed_all, BATCH),
    )

"""Robustness of one model: attacks scored by the protocol, resumable, worst case per query."""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from ddid.attack import Budget, attack_names, attacks, find_attack
from ddid.attack.registry import Attack, craft
from ddid.errors import require
from ddid.files import read_json, write_json
from ddid.identity import identity
from ddid.metric.distance import Embed, Metric
from ddid.metric.ranking import Ranking, rank
from ddid.model import embed as embed_all
from ddid.progress import Progress
from ddid.report.subject import Subject, evenly


@dataclass(frozen=True)
class Plan:
    """How robustness is measured. Gallery side: the gallery images of the queries' identities.

    The budget of attacks that know the gallery has its own steps and restarts [ours: 40 and 2].
    """

    attacks: Sequence[str] = field(default_factory=lambda: attack_names("standard"))
    budget: Budget = field(default_factory=Budget)
    side: Literal["query", "gallery"] = "query"
    metric: Metric = "cosine"
    same_camera: Literal["ignore", "count"] = "ignore"
    seed: int = 0
    batch_size: int = 64
    gallery_steps: int = 40
    gallery_restarts: int = 2
    dear_queries: int = 0  # attacked by the attacks that are `dear`; 0: all

    def __post_init__(self) -> None:
        for name in self.attacks:
            self.budget_of(name)
        require(self.side in ("query", "gallery"), f"side is {self.side!r}: query or gallery")
        require(self.batch_size > 0, f"batch_size is {self.batch_size}: give at least 1")
        levels = self.budget.eps * 255
        require(
            self.budget.norm == "l2" or abs(levels - round(levels)) < 1e-3,
            f"eps is {levels:g}/255, but what is scored are 8-bit pictures: give whole levels",
        )

    def budget_of(self, name: str) -> Budget:
        """What one attack may spend."""
        if find_attack(name).family != "gallery":
            return self.budget
        return replace(self.budget, steps=self.gallery_steps, restarts=self.gallery_restarts)


@dataclass(frozen=True)
class Robustness:
    """Rankings under "clean", under each attack, and in two worst cases per query: "worst" over
    the standard attacks, "worst_gallery" over these and those that know the gallery.

    `costs` says per attack what one image took: embeddings asked, gradients asked, and the largest
    change of a level (0..255) in any image. `rows` says which queries a ranking is of.
    """

    rankings: dict[str, Ranking]
    costs: dict[str, dict[str, float]]
    rows: dict[str, Tensor]

    def summary(self) -> dict[str, dict[str, float]]:
        """Metrics in percent by attack: mAP, rank1, ..., and the per-identity spread.

        "unseen" is the mean over the attacks of that family.
        """
        scores = {n: {**found.summary(), **found.spread()} for n, found in self.rankings.items()}
        unseen = [scores[name] for name in attack_names("unseen") if name in scores]
        if unseen:
            means = pd.DataFrame(unseen).mean()
            scores["unseen"] = {str(metric): float(value) for metric, value in means.items()}
        return scores

    def tidy(self) -> pd.DataFrame:
        """Tidy table: one row per attack and metric, with the attack's family."""
        rows = [
            {"attack": name, "family": family(name), "metric": metric, "value": value}
            for name, metrics in self.summary().items()
            for metric, value in metrics.items()
        ]
        return pd.DataFrame(rows)

    def queries(self) -> pd.DataFrame:
        """Tidy table: AP and Rank-1 in percent of every query under every attack."""
        parts = [
            pd.DataFrame(
                {
                    "attack": name,
                    "query": self.rows[name].tolist(),
                    "pid": found.pids.tolist(),
                    "ap": (100 * found.ap).tolist(),
                    "rank1": (100 * (found.first_rank == 1)).tolist(),
                }
            )[found.valid.tolist()]
            for name, found in self.rankings.items()
        ]
        rows = pd.concat(parts, ignore_index=True)
        unseen = rows[rows["attack"].isin(attack_names("unseen"))]
        means = unseen.groupby(["query", "pid"], as_index=False)[["ap", "rank1"]].mean()
        return pd.concat([rows, means.assign(attack="unseen")], ignore_index=True)

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

    A stored result counts only while plan, attack, model (what it answers and its gradient),
    pixels, identities and cameras are those it was made with.
    `surrogate` (another model on the same images) is needed by the transfer attack alone.
    """
    plan, folder = plan or Plan(), Path(folder)
    clean = rank(
        subject.attacked, subject.gallery, metric=plan.metric, same_camera=plan.same_camera
    )
    rankings, costs, rows = {"clean": clean}, {}, {"clean": subject.rows}
    few = evenly(len(subject.rows), plan.dear_queries or len(subject.rows))
    scope = {False: (subject, clean), True: (subject.at(subject.rows[few]), part_of(clean, few))}
    for stage, name in enumerate(plan.attacks):
        entry, path = find_attack(name), folder / f"{name}.json"
        asked, base = scope[entry.dear and plan.side == "query"]
        key = key_of(entry, asked, plan, surrogate)
        stored = read_json(path) if path.exists() else {}
        if stored.get("key") != key:
            tell = staged(progress, f"{subject.name}, {plan.budget}", stage, len(plan.attacks))
            stored = {"key": key, **measure(name, asked, plan, surrogate, tell)}
            write_json(path, stored)
        rankings[name], costs[name] = as_ranking(stored["queries"], base), stored["cost"]
        rows[name] = asked.rows
    standard, knowing = attack_names("standard"), attack_names("standard", "gallery")
    for label, names in (("worst", standard), ("worst_gallery", knowing)):
        whole = [n for n in plan.attacks if n in names and len(rows[n]) == len(subject.rows)]
        rankings[label] = worst_case([clean, *(rankings[name] for name in whole)])
        rows[label] = subject.rows
    return Robustness(rankings, costs, rows)


def part_of(ranking: Ranking, index: Tensor) -> Ranking:
    """The ranking of some of its queries."""
    return Ranking(**{name: column[index] for name, column in vars(ranking).items()})


def staged(progress: Progress | None, what: str, stage: int, stages: int) -> Progress | None:
    """Progress within one of several equal stages, told as one task."""
    return progress and (lambda _, done, each: progress(what, stage * each + done, stages * each))


def sweep(
    subject: Subject,
    folder: str | Path,
    plan: Plan,
    budgets: dict[str, Budget],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate a plan under several named budgets: tidy rows with a column "budget"."""
    done: dict[Budget, Robustness] = {}
    for stage, (label, budget) in enumerate(budgets.items()):
        tell = staged(progress, f"{subject.name}, {len(budgets)} budgets", stage, len(budgets))
        if budget not in done:
            part = replace(plan, budget=budget)
            done[budget] = evaluate(subject, Path(folder) / label, part, None, tell)
    tables = [
        done[budget].tidy().assign(budget=label, eps=budget.eps, steps=budget.steps)
        for label, budget in budgets.items()
    ]
    return pd.concat(tables, ignore_index=True)


def over_eps(budget: Budget, levels: Sequence[float]) -> dict[str, Budget]:
    """Budgets with other eps, given in levels of 255; the step grows in proportion."""
    per_eps = budget.step / budget.eps if budget.eps else 1 / 8
    return {
        f"eps_{level:g}": replace(budget, eps=level / 255, step=per_eps * level / 255)
        for level in levels
    }


def over_steps(budget: Budget, counts: Sequence[int]) -> dict[str, Budget]:
    """Budgets with other numbers of steps of the same size."""
    return {f"steps_{count}": replace(budget, steps=count) for count in counts}


def measure(
    name: str, subject: Subject, plan: Plan, surrogate: Subject | None, progress: Progress | None
) -> dict[str, Any]:
    """Run one attack and score it: per-query results, cost, metrics, card."""
    attacked, cost = attack_images(name, subject, plan, surrogate, progress)
    features = embed_all(subject.embed, attacked, plan.batch_size)
    query, gallery = subject.attacked, subject.gallery
    if plan.side == "query":
        query = replace(query, embeddings=features)
    else:
        changed = gallery.embeddings.index_copy(0, subject.targets("gallery"), features)
        gallery = replace(gallery, embeddings=changed)
    ranking = rank(query, gallery, metric=plan.metric, same_camera=plan.same_camera)
    queries = {part: getattr(ranking, part).tolist() for part in ("ap", "inp", "first_rank")}
    scores = {**ranking.summary(), **ranking.spread()}
    card = {"family": family(name), **asdict(find_attack(name).card)}
    return {"attack": name, "card": card, "cost": cost, "metrics": scores, "queries": queries}


def attack_images(
    name: str,
    subject: Subject,
    plan: Plan,
    surrogate: Subject | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Attacked images of the plan's side (uint8), and what one image cost."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {plan.seed}".encode()))
    view = partial(
        Subject.scene,
        side=plan.side,
        budget=plan.budget_of(name),
        generator=generator,
        metric=plan.metric,
    )
    counter = Counter(subject.embed)
    other = view(surrogate.at(subject.rows)) if surrogate else None
    scene = replace(view(subject), embed=counter, surrogate=other)
    if plan.same_camera == "count":
        scene = replace(scene, camids=None)
    attacked = craft(find_attack(name), scene, plan.batch_size, progress)
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


def as_ranking(queries: dict[str, list[float]], clean: Ranking) -> Ranking:
    """Per-query results from a file, as the ranking they were."""
    ap, inp = (torch.tensor(queries[part], dtype=torch.float64) for part in ("ap", "inp"))
    first = torch.tensor(queries["first_rank"], dtype=clean.first_rank.dtype)
    return replace(clean, ap=ap, inp=inp, first_rank=first)


def family(name: str) -> str:
    """Family of an attack; "clean" and the worst cases are their own."""
    known = attacks()
    return known[name].family if name in known else name


def code_of(entry: Attack) -> tuple[Any, ...]:
    """The functions a stored result depends on: an edit of any is told from an edit of another
    attack."""
    return (entry.craft, entry.whole, entry.bounded, craft, Subject.scene, Counter, rank, embed_all)


def key_of(entry: Attack, subject: Subject, plan: Plan, surrogate: Subject | None) -> str:
    """Digest of everything a stored result depends on."""
    models = [subject, *([surrogate] if surrogate and entry.surrogate else [])]
    return identity(
        models=[(model.query, model.gallery, model.slopes()) for model in models],
        attacked=(subject.rows, subject.images(plan.side), plan.budget_of(entry.name), plan.seed),
        protocol=(plan.side, plan.metric, plan.same_camera, plan.batch_size),
        code=code_of(entry),
    )

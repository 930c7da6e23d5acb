"""Can a robustness figure be believed? Verdicts with their evidence, for anybody's model.

A model raises a flag if it hides from the attacks that measure it (Carlini et al. 2019, the checks
of AutoAttack and RobustBench): its figure then says nothing about robustness.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch

from ddid import __version__
from ddid.attack import Budget, attack_names
from ddid.errors import require
from ddid.files import write_json
from ddid.metric.ranking import answerable
from ddid.model import ModelConfig, ReIDNet
from ddid.model import embed as embed_all
from ddid.progress import Progress
from ddid.report.probes import Verdict, question
from ddid.report.robustness import Plan, Robustness, evaluate, staged
from ddid.report.subject import Subject
from ddid.seeds import drawn_from

HUGE = 128  # levels: half the range, no person is left to recognize
PROBED = 32  # images in the probes' one batch, which must fit beside its gradient
AUDIT_ATTACKS = ("fna", "sma", "ifgsm", "auto", "noise", "transfer", "square", "gallery")


@dataclass(frozen=True)
class Audit:
    """Everything an audit found; `curves` are the tidy rows behind two of the verdicts."""

    verdicts: list[Verdict]
    robustness: Robustness
    curves: pd.DataFrame

    @property
    def flags(self) -> list[str]:
        """Checks that failed; an honest model has none."""
        return [verdict.check for verdict in self.verdicts if not verdict.passed]

    def table(self) -> pd.DataFrame:
        """The scores in percent, one line per attack."""
        return self.robustness.table()

    def checks(self) -> pd.DataFrame:
        """One line per check: verdict, what should hold, evidence."""
        rows = pd.DataFrame(map(asdict, self.verdicts)).set_index("check")
        told = [", ".join(f"{k} {v:.3g}" for k, v in each.items()) for each in rows["evidence"]]
        verdict = rows["passed"].map({True: "passed", False: "FLAG"})
        return rows.assign(verdict=verdict, evidence=told)[["verdict", "finding", "evidence"]]


def audit(
    subject: Subject,
    folder: str | Path,
    plan: Plan,
    surrogate: Subject | None = None,
    progress: Progress | None = None,
    *,
    few: int = 64,
    levels: Sequence[float] = (2, 4, 8, 16),
) -> Audit:
    """Attack a model, question it and judge; writes `folder/audit.json` and resumes per attack.

    `AUDIT_ATTACKS` are added to the plan's. Without a `surrogate` the transfer attack works on a
    small random network [ours: a real one is a stronger test]. Probes and the sweeps over steps and
    eps, in `levels` of 255, ask a `few` of the queries.
    """
    folder = Path(folder)
    require(plan.budget.eps > 0, "eps is 0, which attacks nothing: give an eps above 0")
    names = tuple(dict.fromkeys([*plan.attacks, *AUDIT_ATTACKS]))
    plan = replace(plan, attacks=names)
    rival = surrogate or random_surrogate(subject)
    found = evaluate(subject, folder / "attacks", plan, rival, progress)
    part, asked = subject.some(few), subject.some(min(few or PROBED, PROBED))
    alone = replace(plan, attacks=("fna",))
    budgets = sweep_budgets(plan.budget, levels)
    curves = sweep(part, folder / "curves", alone, budgets, progress)
    verdicts = [
        *question(asked.scene("query", plan.budget, torch.Generator())),
        *compare_budgets(curves, slack(part)),
        *compare_attacks(found, slack(subject)),
    ]
    result = Audit(verdicts, found, curves)
    content = {
        "flags": result.flags,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "results": found.summary(),
        "costs": found.costs,
        "plan": asdict(plan),
        "version": __version__,
    }
    write_json(folder / "audit.json", content)
    return result


def sweep_budgets(budget: Budget, levels: Sequence[float]) -> dict[str, Budget]:
    """The budgets whose order the audit checks: eps in levels of 255 up to half the range, its
    step in proportion; steps of the same size; restarts."""
    per_eps = budget.step / budget.eps if budget.eps else 1 / 8
    counts = dict.fromkeys([1, max(1, budget.steps // 3), budget.steps, 4 * budget.steps])
    by_eps = {f"eps_{level:g}": (level / 255, per_eps * level / 255) for level in (*levels, HUGE)}
    return {
        **{name: replace(budget, eps=eps, step=step) for name, (eps, step) in by_eps.items()},
        **{f"steps_{count}": replace(budget, steps=count) for count in counts},
        "restarts_3": replace(budget, restarts=3 * budget.restarts),
    }


def sweep(
    subject: Subject,
    folder: Path,
    plan: Plan,
    budgets: dict[str, Budget],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate a plan under named budgets, equal ones once: tidy rows with a column "budget"."""
    done: dict[Budget, Robustness] = {}
    tables = []
    for stage, (label, budget) in enumerate(budgets.items()):
        if budget not in done:
            tell = staged(progress, f"{subject.name}, {len(budgets)} budgets", stage, len(budgets))
            part = replace(plan, budget=budget)
            done[budget] = evaluate(subject, folder / label, part, None, tell)
        rows = done[budget].tidy()
        tables.append(rows.assign(budget=label, eps=budget.eps, steps=budget.steps))
    return pd.concat(tables, ignore_index=True)


def slack(subject: Subject) -> float:
    """Points of mAP by which two attacks may swap places without meaning anything [our choice]:
    one, or as much as a single query can move."""
    return max(1.0, 100 / max(1, int(answerable(subject.attacked, subject.gallery).sum())))


def compare_budgets(curves: pd.DataFrame, slack: float) -> list[Verdict]:
    """More eps, steps and restarts are never weaker; half the pixel range leaves nothing."""
    rows = curves[curves["attack"] == "fna"]
    maps, first = (
        dict(rows.loc[rows["metric"] == metric, ["budget", "value"]].to_numpy().tolist())
        for metric in ("mAP", "rank1")
    )
    wider, longer = (
        [maps[name] for name in sorted(maps, key=_amount) if name.startswith(kind)]
        for kind in ("eps_", "steps_")
    )
    pairs = [*pairwise(wider), *pairwise(longer), (longer[-2], maps["restarts_3"])]
    never = max(after - before for before, after in pairs) <= slack
    rank1 = first[f"eps_{HUGE}"]
    less = "a larger budget, more steps and more restarts lower the score, or leave it"
    gone = f"with {HUGE} levels of change Rank-1 falls to about 0"
    return [
        Verdict("more effort is never weaker", never, less, maps),
        Verdict("huge eps", rank1 <= 10, gone, {"rank1": rank1}),
    ]


def _amount(budget: str) -> float:
    return float(budget.rpartition("_")[2])


def compare_attacks(found: Robustness, slack: float) -> list[Verdict]:
    """Who knows more hurts more: gradient over noise, white box over black box and transfer, the
    gallery over none. By the queries that both were asked: of `dear_queries` there are fewer."""
    ap = found.queries().pivot(index="query", columns="attack", values="ap")
    standard = [name for name in attack_names("standard") if name in ap]
    bounded = ["clean", "noise", *standard, "square", "transfer", "gallery"]
    idle = ap[bounded].nunique(axis=1).eq(1).all()  # so small a budget that no query moves
    less = "which sees less, does not beat the white box"
    pairs = {  # check: what knows more, what knows less, by how much that may win, what should hold
        "noise": ("white box", "noise", -1e-9, "gradients hurt more than noise of their size"),
        "black box": ("white box", "square", slack, f"the square attack, {less}"),
        "transfer": ("white box", "transfer", slack, f"the transfer attack, {less}"),
        "gallery": ("gallery", "white box", slack, "knowing the gallery never hurts less"),
    }
    verdicts = []
    for check, (more, fewer, margin, finding) in pairs.items():
        scores = ap.dropna(subset=[name for name in (more, fewer) if name in ap]).mean()
        scores["white box"] = scores[standard].min()
        evidence = {name: float(scores[name]) for name in (more, fewer)}
        passed = bool(idle) or evidence[more] <= evidence[fewer] + margin
        verdicts.append(Verdict(check, passed, finding, evidence))
    return verdicts


def random_surrogate(subject: Subject) -> Subject:
    """The subject's images through a small network with random weights, always the same."""
    height, width = subject.query_images.shape[2:]
    config = ModelConfig(classes=1, height=height, width=width)
    with drawn_from(0):
        net = ReIDNet(config).to(subject.device).eval()
    query = replace(subject.query, embeddings=embed_all(net, subject.query_images))
    gallery = replace(subject.gallery, embeddings=embed_all(net, subject.gallery_images))
    return replace(subject, embed=net, query=query, gallery=gallery, name="a random network")

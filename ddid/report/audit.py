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
from ddid.attack import Budget, attack_names, attacks
from ddid.attack.unseen import seeded
from ddid.errors import require
from ddid.files import write_json
from ddid.model import ModelConfig, ReIDNet
from ddid.model import embed as embed_all
from ddid.progress import Progress
from ddid.report.probes import PROBES, Probe, Verdict, full_precision
from ddid.report.robustness import Plan, Robustness, evaluate, over_eps, over_steps, sweep
from ddid.report.subject import Subject

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


def audit(
    subject: Subject,
    folder: str | Path,
    plan: Plan | None = None,
    surrogate: Subject | None = None,
    progress: Progress | None = None,
    *,
    few: int = 64,
    levels: Sequence[float] = (2, 4, 8, 16),
) -> Audit:
    """Attack a model, question it and judge; writes `folder/audit.json` and resumes per attack.

    Args:
        subject: the model and its test images.
        folder: where attacks' results and the report go.
        plan: attacks and budget; `AUDIT_ATTACKS` are added.
        surrogate: model for the transfer attack; a random small network by default [ours: a real
            one is a stronger test].
        progress: told about each attack.
        few: queries used for the probes and for the sweeps over eps and steps.
        levels: eps of the sweep, in levels of 255.
    """
    plan, folder = plan or Plan(), Path(folder)
    linf = plan.budget.norm == "linf" and plan.budget.eps > 0
    require(linf, "an audit compares L-inf attacks: give norm='linf' and an eps above 0")
    plan = replace(
        plan, attacks=tuple(dict.fromkeys([*plan.attacks, *AUDIT_ATTACKS])), side="query"
    )
    rival = surrogate or random_surrogate(subject)
    found = evaluate(subject, folder / "attacks", plan, rival, progress)
    part = subject.some(few or len(subject.rows))
    budgets = sweep_budgets(plan.budget, levels)
    alone = replace(plan, attacks=("fna",))
    curves = sweep(part, folder / "curves", alone, budgets, progress)
    verdicts = question(subject.some(min(few, PROBED)), plan)
    verdicts += compare_budgets(curves, slack(len(part.rows)))
    verdicts += compare_attacks(found, slack(len(subject.rows)))
    verdicts += [inside_budget(found, plan)]
    result = Audit(verdicts, found, curves)
    write_audit(folder / "audit.json", result, plan)
    return result


def question(subject: Subject, plan: Plan) -> list[Verdict]:
    """Ask a model all probes, about all of its queries at once."""
    scene = subject.scene("query", plan.budget, torch.Generator(), plan.metric).ready()
    probe = Probe(scene.embed, scene.images, scene.guides)
    with full_precision():
        return [ask(probe) for ask in PROBES]


def sweep_budgets(budget: Budget, levels: Sequence[float]) -> dict[str, Budget]:
    """The budgets whose order the audit checks: eps up to half the range, steps, restarts."""
    counts = dict.fromkeys([1, max(1, budget.steps // 3), budget.steps, 4 * budget.steps])
    return {
        **over_eps(budget, [*levels, HUGE]),
        **over_steps(budget, list(counts)),
        "restarts_3": replace(budget, restarts=3),
    }


def slack(queries: int) -> float:
    """Points of mAP by which two attacks may swap places without meaning anything.

    Our choice: one point, or as much as a single query can move.
    """
    return max(1.0, 100 / queries)


def compare_budgets(curves: pd.DataFrame, slack: float) -> list[Verdict]:
    """More steps and restarts are never weaker; half the pixel range leaves nothing standing."""
    rows = curves[curves["attack"] == "fna"]
    maps, first = (
        dict(rows.loc[rows["metric"] == metric, ["budget", "value"]].to_numpy().tolist())
        for metric in ("mAP", "rank1")
    )
    chain = [maps[name] for name in maps if name.startswith("steps_")]
    pairs = [*pairwise(chain), (chain[-2], maps["restarts_3"])]
    weaker = max(after - before for before, after in pairs)
    rank1 = first[f"eps_{HUGE}"]
    return [
        Verdict(
            "more effort is never weaker",
            weaker <= slack,
            "more steps and more restarts lower the score, or leave it",
            {name: maps[name] for name in maps if not name.startswith("eps_")},
        ),
        Verdict(
            "huge eps",
            rank1 <= 10,
            f"with {HUGE} levels of change Rank-1 falls to about 0",
            {"rank1": rank1},
        ),
    ]


def compare_attacks(found: Robustness, slack: float) -> list[Verdict]:
    """Who knows more hurts more: gradient over noise, white box over black box and transfer, the
    gallery over none."""
    scores = {name: metrics["mAP"] for name, metrics in found.summary().items()}
    white = min(scores[name] for name in scores if name in attack_names("standard"))
    less = "which sees less, does not beat the white box"
    pairs = {  # check: what knows more, what knows less, by how much that may win, what should hold
        "noise": ("fna", "noise", 0.0, "a gradient attack hurts more than noise of its size"),
        "black box": ("white box", "square", slack, f"the square attack, {less}"),
        "transfer": ("white box", "transfer", slack, f"the transfer attack, {less}"),
        "gallery": ("gallery", "white box", slack, "knowing the gallery never hurts less"),
    }
    scores |= {"white box": white}
    return [
        Verdict(
            check,
            scores[more] <= scores[fewer] + (margin or -1e-9),
            finding,
            {name: scores[name] for name in (more, fewer)},
        )
        for check, (more, fewer, margin, finding) in pairs.items()
    ]


def inside_budget(found: Robustness, plan: Plan) -> Verdict:
    """What is scored are 8-bit pictures within the budget (`craft` refuses what leaves it)."""
    changes = {
        name: cost["largest_change"]
        for name, cost in found.costs.items()
        if attacks()[name].bounded
    }
    limit = int(plan.budget.eps * 255 + 1e-4) if plan.budget.norm == "linf" else 255
    return Verdict(
        "8 bits and range",
        max(changes.values()) <= limit,
        f"what is scored are whole levels in 0..255, at most {limit} from the clean ones",
        changes,
    )


def random_surrogate(subject: Subject) -> Subject:
    """The subject's images through a small network with random weights, always the same."""
    height, width = subject.query_images.shape[2:]
    config = ModelConfig(classes=1, height=height, width=width)
    net = seeded(lambda: ReIDNet(config), torch.Generator().manual_seed(0)).eval()
    net = net.to(subject.device)
    query, gallery = (
        replace(side, embeddings=embed_all(net, images))
        for side, images in (
            (subject.query, subject.query_images),
            (subject.gallery, subject.gallery_images),
        )
    )
    return replace(subject, embed=net, query=query, gallery=gallery, name="a random network")


def write_audit(path: Path, result: Audit, plan: Plan) -> None:
    """Write verdicts, flags, scores and costs as JSON; the same audit gives the same bytes."""
    content = {
        "flags": result.flags,
        "verdicts": [asdict(verdict) for verdict in result.verdicts],
        "results": result.robustness.summary(),
        "costs": result.robustness.costs,
        "plan": asdict(plan),
        "version": __version__,
    }
    write_json(path, content)


def curve_axes(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The sweep's rows by axis, for `budget_curves`; `HUGE` is a test, not a point of the curve."""
    axes = {axis: curves[curves["budget"].str.startswith(axis)] for axis in ("eps", "steps")}
    return axes | {"eps": axes["eps"][axes["eps"]["budget"] != f"eps_{HUGE}"]}


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Verdicts as a table: check, verdict, finding, evidence."""
    return pd.DataFrame(
        {
            "check": verdict.check,
            "verdict": "passed" if verdict.passed else "FLAG",
            "what should hold": verdict.finding,
            "evidence": ", ".join(f"{key} {value:.3g}" for key, value in verdict.evidence.items()),
        }
        for verdict in verdicts
    )

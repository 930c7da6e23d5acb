"""`ddid audit`: anybody's model on anybody's data, without training anything."""

import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from torch import nn

from ddid.attack.budget import Budget
from ddid.data import read_data
from ddid.errors import InputError, require
from ddid.files import write_figure
from ddid.metric.distance import Embed
from ddid.progress import Progress
from ddid.report.audit import Audit, audit, curve_axes, verdict_table
from ddid.report.figures.robustness import budget_curves, robustness_bars
from ddid.report.page import write_page
from ddid.report.robustness import Plan
from ddid.report.subject import Subject


@dataclass(frozen=True)
class AuditRequest:
    """What to audit.

    model, surrogate: "package.module:factory"; the factory is called with the weights' path if
    one is given and returns a callable from images (B, 3, H, W) in [0, 1] to embeddings (B, D).
    data: folder in a known layout or a CSV manifest, with or without cameras.
    size: (height, width) the images are brought to. queries: how many are attacked, 0 = all.
    """

    model: str
    data: str
    out: str
    weights: str = ""
    surrogate: str = ""
    size: tuple[int, int] = (256, 128)
    queries: int = 0
    budget: Budget = field(default_factory=Budget)
    seed: int = 0


def audit_command(request: AuditRequest, progress: Progress | None = None) -> Audit:
    """Audit a model; writes `audit.json`, `audit.html` and `figures/` into `request.out`.

    Raises:
        InputError: model or data cannot be used, or the model fails on the way.
    """
    embed = load_factory(request.model, request.weights)
    data = read_data(request.data)
    query, gallery = data.images("query", "gallery", size=request.size, progress=progress)
    plan, out = Plan(budget=request.budget, seed=request.seed), Path(request.out)
    try:
        subject = Subject.of(embed, query, gallery, request.model).some(request.queries)
        rival = request.surrogate and Subject.of(load_factory(request.surrogate), query, gallery)
        result = audit(subject, out, plan, rival or None, progress)
    except InputError:
        raise
    except Exception as error:  # a stranger's code may raise anything; the status must be 2
        raise InputError(
            f"the audit of {request.model} stopped: {type(error).__name__}: {error}"
        ) from error
    sizes = f"{len(subject.rows)} queries, {len(gallery)} gallery images"
    budget = f"eps {255 * request.budget.eps:g}/255, {request.budget.steps} steps"
    show(result, request.model, f"Scores in percent: {budget}, {sizes}", out)
    return result


def load_factory(spec: str, weights: str = "") -> Embed:
    """Build a model from "package.module:factory" and put it on the machine's device.

    Modules are also looked for in the working directory. `ddid.model:load_model` with a model
    folder as weights is this kit's own.

    Raises:
        InputError: nothing of that name, or the factory fails or returns no callable.
    """
    module_name, _, name = spec.partition(":")
    require(bool(module_name and name), f"model {spec!r}: write package.module:factory")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), name)
        embed = factory(weights) if weights else factory()
    except InputError:
        raise
    except Exception as error:  # importing and running a stranger's code may raise anything
        raise InputError(f"{spec} cannot be used: {type(error).__name__}: {error}") from error
    require(callable(embed), f"{spec} returned {type(embed).__name__}: want a callable")
    return embed.to(PartialState().device) if isinstance(embed, nn.Module) else embed


def show(result: Audit, title: str, scores_title: str, out: Path) -> None:
    """Draw the figures and write the page that shows everything."""
    figures = {
        "robustness_bars": robustness_bars({title: result.robustness.rankings}),
        "budget_curves": budget_curves(curve_axes(result.curves.assign(model=title))),
    }
    for name, figure in figures.items():
        write_figure(out / "figures" / f"{name}.png", figure)
    numbers = result.robustness.table().reset_index()
    tables = {"Verdicts": verdict_table(result.verdicts), scores_title: numbers}
    write_page(out / "audit.html", f"Audit of {title}: {conclusion(result)}", tables, list(figures))


def report_text(result: Audit) -> str:
    """Scores, verdicts and flags for a terminal."""
    numbers = result.robustness.table()[["mAP", "rank1", "mINP"]]
    verdicts = verdict_table(result.verdicts).set_index("check")[["verdict", "evidence"]]
    parts = (numbers.to_string(), verdicts.to_string(), conclusion(result))
    return "\n\n".join(parts) + "\n"


def conclusion(result: Audit) -> str:
    """The audit in one line."""
    return "flags: " + ", ".join(result.flags) if result.flags else "no flag"

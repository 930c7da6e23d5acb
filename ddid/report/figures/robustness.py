"""Figures of robustness: scores per attack, curves over the budget, who pays for it."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd
import seaborn
from numpy.typing import NDArray

from ddid.attack import attacks
from ddid.metric.bootstrap import bootstrap
from ddid.report.figures.style import Drawn, new_figure, paper_style

AXES = {"eps": "eps (255ths of the pixel range)", "steps": "steps of the attack"}


@paper_style
def robustness_bars(queries: pd.DataFrame) -> Drawn:
    """One group of bars per attack, in the order given and under its family, one bar per model.

    Higher is better. {queries} queries of {identities} identities{fewer}; whiskers: 95 % bootstrap
    interval over identities, for one training. “worst” takes for each query the
    lowest of clean and the standard attacks: the figure to quote.

    Args:
        queries: `Robustness.queries` with a column `model`; the bootstrap draws identities, whose
            queries fail together.
    """
    models, groups = queries["model"].nunique(), queries["attack"].nunique()
    figure, axes = new_figure(max(4, 0.2 * groups * (models + 1) + 0.8), 2.4)
    queries = queries.reset_index(drop=True)

    def interval(ap: pd.Series) -> NDArray:
        people = ap.groupby(queries["pid"]).agg(["sum", "count"])
        return np.quantile(bootstrap([people.to_numpy()]), [0.025, 0.975])

    ax = seaborn.barplot(
        queries, x="attack", y="ap", hue="model", errorbar=interval, linewidth=0,
        err_kws={"linewidth": 0.8}, saturation=1, ax=axes[0, 0],
    )  # fmt: skip
    ax.set(xlabel="", ylabel="mAP (%)", ylim=(0, 100))
    ax.tick_params(axis="x", labelrotation=30)
    kinds = {name: attack.family for name, attack in attacks().items()} | {"clean": ""}
    names = enumerate(queries["attack"].unique())
    for kind, group in groupby(names, lambda one: kinds.get(one[1], "in short")):
        places = [place for place, _ in group]
        ax.text((places[0] + places[-1]) / 2, 101, kind, ha="center", va="bottom", fontsize=7)
        ax.axvline(places[0] - 0.5, color="0.8", linewidth=0.8)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.06), ncols=models, title=None)
    asked = queries.groupby("attack", sort=False)["query"].nunique()
    some = [f"{attack} {count}" for attack, count in asked[asked < asked.max()].items()]
    fewer = f" (of which {', '.join(some)})" if some else ""
    people = queries["pid"].nunique()
    return figure, {"queries": asked.max(), "identities": people, "fewer": fewer}


@paper_style
def budget_curves(curves: pd.DataFrame, queries: int = 0, mark: float | None = None) -> Drawn:
    """One panel for the budgets that differ in eps, one for those in steps; one line per model.

    mAP under FNA, stronger to the right, 0 is clean; {queries} queries, each attacked with every
    query image as a possible guide. A curve that rises would mean that the attack, not the model,
    failed.

    Args:
        curves: tidy rows with columns model, attack, metric, value, budget, eps and steps.
        queries: how many were attacked; 0: all.
        mark: an eps to mark by a dotted line, in 255ths.
    """
    rows = curves[curves["metric"] == "mAP"]
    clean = rows[rows["attack"] == "clean"].assign(eps=0.0, steps=0)
    rows = pd.concat([clean, rows[rows["attack"] == "fna"]])
    rows = rows.assign(axis=rows["budget"].str.partition("_")[0]).query("axis in @AXES")
    rows["x"] = (255 * rows["eps"]).where(rows["axis"] == "eps", rows["steps"])
    grid = seaborn.relplot(
        rows.drop_duplicates(["model", "axis", "x"]), x="x", y="value", hue="model", style="model",
        col="axis", kind="line", markers=True, height=2.4, aspect=1.2, facet_kws={"sharex": False},
    )  # fmt: skip
    for axis, ax in grid.axes_dict.items():
        ax.set(title="", xlabel=AXES[axis], ylabel="mAP (%)", ylim=(0, 100))
    if mark is not None:
        grid.axes_dict["eps"].axvline(mark, color="0.3", linestyle=":")
    return grid.figure, {"queries": queries or "all"}


@paper_style
def identity_spread(queries: pd.DataFrame, attacks: Sequence[str]) -> Drawn:
    """How per-identity AP is spread: one panel per attack, one step curve per model.

    Cumulative distribution over {identities} identities: a curve further right serves more of
    them well, a steeper one serves them more alike. Standard deviation, in points: {spread}.

    Args:
        queries: `Robustness.queries` with a column `model`.
        attacks: the panels.
    """
    groups, rows = ["model", "attack"], queries[queries["attack"].isin(attacks)]
    means = rows.groupby([*groups, "pid"], sort=False)["ap"].mean().reset_index()
    means["share"] = 100 * means.groupby(groups)["ap"].rank(method="first", pct=True)
    grid = seaborn.relplot(
        means, x="ap", y="share", hue="model", style="model", col="attack", kind="line",
        col_order=attacks, drawstyle="steps-post", estimator=None, height=2.4,
    )  # fmt: skip
    grid.set_titles("{col_name}").set(xlim=(0, 100), ylim=(0, 101), xticks=range(20, 100, 20))
    grid.set_axis_labels("AP of an identity (%)", "identities at or below (%)")
    spread = means.groupby(groups, sort=False)["ap"].std(ddof=0).reset_index()
    told = spread["attack"] + spread["ap"].map(" {:.1f}".format)
    told = told.groupby(spread["model"], sort=False).agg(", ".join)
    words = "; ".join(told.index + ": " + told)
    return grid.figure, {"identities": means["pid"].nunique(), "spread": words}

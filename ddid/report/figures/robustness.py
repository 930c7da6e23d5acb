"""Figures of robustness: scores per attack, curves over the budget, who pays for it."""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn

from ddid.metric.ranking import Ranking
from ddid.report.figures.style import Drawn, new_figure, paper_style

METRICS = {"mAP": "mAP (%)", "rank1": "Rank-1 (%)"}
AXES = {"eps": "eps (255ths of the pixel range)", "steps": "steps of the attack"}
DRAWS = 300  # of a bootstrap: enough for whiskers that move by less than their line is wide

Rankings = Mapping[str, Mapping[str, Ranking]]
"""Model → condition ("clean", an attack, "worst") → its ranking."""


@paper_style
def robustness_bars(rankings: Rankings, metric: str = "mAP") -> Drawn:
    """One group of bars per condition, in the order given, one bar per model.

    Higher is better. {queries} queries of {identities} identities; whiskers: 95 % bootstrap
    interval over identities and their queries, for one training. “worst” takes for each query the
    lowest of clean and the standard attacks: the figure to quote.

    Args:
        rankings: of all queries; the bootstrap draws identities, whose queries fail together.
        metric: "mAP" or "rank1".
    """
    rows = _per_query(rankings)
    groups = rows["condition"].nunique()
    figure, axes = new_figure(max(4, 0.2 * groups * (len(rankings) + 1) + 0.8), 2.4)
    ax = seaborn.barplot(
        rows, x="condition", y=metric, hue="model", units="pid", n_boot=DRAWS, seed=0,
        err_kws={"linewidth": 0.8}, saturation=1, ax=axes[0, 0],
    )  # fmt: skip
    ax.set(xlabel="", ylabel=METRICS[metric], ylim=(0, 100))
    ax.tick_params(axis="x", labelrotation=30)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(rankings), title=None)
    queries = len(rows) // groups // len(rankings)
    return figure, {"queries": queries, "identities": rows["pid"].nunique()}


@paper_style
def budget_curves(
    tables: Mapping[str, pd.DataFrame], attack: str = "fna", metric: str = "mAP", queries: int = 0
) -> Drawn:
    """One panel per budget axis ("eps" or "steps"), one line per model.

    {metric} under {attack}, stronger to the right, 0 is clean; {queries} queries, each attacked
    with every query image as a possible guide. A curve that rises would mean that the attack, not
    the model, failed.

    Args:
        tables: column of the axis → tidy rows with columns model, attack, metric, value and it.
        attack, metric: which rows to draw.
        queries: how many were attacked; 0: all.
    """
    parts = []
    for column, table in tables.items():
        rows = table[table["metric"] == metric]
        clean = rows[rows["attack"] == "clean"].drop_duplicates("model").assign(**{column: 0})
        rows = pd.concat([clean, rows[rows["attack"] == attack]])
        parts.append(rows.assign(axis=column, x=rows[column] * (255 if column == "eps" else 1)))
    grid = seaborn.relplot(
        pd.concat(parts, ignore_index=True), x="x", y="value", hue="model", style="model",
        col="axis", kind="line", markers=True, height=2.4, aspect=1.2, facet_kws={"sharex": False},
    )  # fmt: skip
    for column, ax in grid.axes_dict.items():
        ax.set(title="", xlabel=AXES[column], ylabel=METRICS[metric], ylim=(0, 100))
    return grid.figure, {"metric": metric, "attack": attack, "queries": queries or "all"}


@paper_style
def identity_spread(rankings: Rankings, conditions: Sequence[str]) -> Drawn:
    """How per-identity AP is spread: one panel per condition, one step curve per model.

    Cumulative distribution over {identities} identities: a curve further right serves more of
    them well, a steeper one serves them more alike. Standard deviation, in points: {spread}.

    Args:
        rankings: of all queries.
        conditions: the panels.
    """
    rows = _per_query(rankings)
    rows = rows[rows["condition"].isin(conditions)]
    groups = ["model", "condition"]
    means = rows.groupby([*groups, "pid"], sort=False)["mAP"].mean().reset_index()
    means["share"] = 100 * means.groupby(groups)["mAP"].rank(method="first", pct=True)
    grid = seaborn.relplot(
        means, x="mAP", y="share", hue="model", style="model", col="condition", kind="line",
        col_order=conditions, drawstyle="steps-post", estimator=None, height=2.4,
    )  # fmt: skip
    grid.set_titles("{col_name}").set(xlim=(0, 100), ylim=(0, 101), xticks=range(20, 100, 20))
    grid.set_axis_labels("AP of an identity (%)", "identities at or below (%)")
    spread = means.groupby(groups, sort=False)["mAP"].std(ddof=0)
    words = [f"{m} {c} {sd:.1f}" for m, c, sd in spread.reset_index().itertuples(index=False)]
    return grid.figure, {"identities": means["pid"].nunique(), "spread": ", ".join(words)}


def _per_query(rankings: Rankings) -> pd.DataFrame:
    """One row a model, condition and valid query: mAP (its AP) and rank1, in percent."""
    parts = []
    for model, conditions in rankings.items():
        for condition, ranking in conditions.items():
            scores = {
                "pid": ranking.pids,
                "mAP": 100 * ranking.ap,
                "rank1": 100.0 * (ranking.first_rank == 1),
            }
            valid = {name: column[ranking.valid].numpy() for name, column in scores.items()}
            parts.append(pd.DataFrame(valid).assign(model=model, condition=condition))
    return pd.concat(parts, ignore_index=True)

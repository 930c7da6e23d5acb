"""Figures of robustness: scores per attack, curves over the budget, who pays for it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddid.report.figures.style import NEUTRAL, PALETTE, new_figure, paper_style

METRICS = {"mAP": "mAP (%)", "rank1": "Rank-1 (%)"}
SHOWN = {"clean": "clean", "worst": "worst case", "mifgsm": "MI-FGSM", "auto": "auto-step"}
UPPER = ("fna", "sma", "ifgsm", "fgsm", "odfa")


def title_of(attack: str) -> str:
    """Name of an attack as the field writes it."""
    return SHOWN.get(attack, attack.upper() if attack in UPPER else attack)


@paper_style
def robustness_bars(table: pd.DataFrame, metric: str = "mAP") -> Figure:
    """One group of bars per attack, one bar per model; the worst case stands last.

    Args:
        table: tidy rows with columns model, attack, family, metric, value (percent).
        metric: which metric to draw.
    """
    rows = table[table["metric"] == metric]
    order = _in_order(rows)
    models = list(dict.fromkeys(rows["model"]))
    figure, axes = new_figure(max(3.5, 0.55 * len(order) + 0.8), 2.4)
    ax = axes[0, 0]
    seaborn.barplot(
        rows, x="attack", y="value", hue="model", order=order, hue_order=models,
        palette=PALETTE[: len(models)], ax=ax, width=0.8, errorbar=None,
        saturation=1,
    )  # fmt: skip
    ax.set(xlabel="", ylabel=METRICS.get(metric, metric), ylim=(0, 100))
    ax.set_xticks(range(len(order)), [title_of(name) for name in order], rotation=30, ha="right")
    _mark_families(ax, rows, order)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models), title=None)
    return figure


@paper_style
def budget_curves(
    tables: Mapping[str, pd.DataFrame], attack: str = "fna", metric: str = "mAP"
) -> Figure:
    """One panel per budget axis ("eps" or "steps"), one line per model.

    Args:
        tables: column of the axis -> tidy rows with columns model, attack, metric, value and it.
        attack, metric: which rows to draw.
    """
    figure, axes = new_figure(2.9 * len(tables), 2.3, 1, len(tables), sharey=True)
    for ax, (column, table) in zip(axes[0], tables.items(), strict=True):
        rows = _from_clean(table[table["metric"] == metric], attack, column)
        label = "steps"
        if column == "eps":
            rows[column], label = rows[column] * 255, "eps (levels of 255)"
        models = list(dict.fromkeys(rows["model"]))
        seaborn.lineplot(
            rows, x=column, y="value", hue="model", style="model", markers=True, dashes=False,
            palette=PALETTE[: len(models)], ax=ax, legend=ax is axes[0, -1],
        )  # fmt: skip
        ax.set(xlabel=label, ylabel=METRICS.get(metric, metric), ylim=(0, 100))
    axes[0, 0].set_title(f"{title_of(attack)}, stronger to the right", loc="left")
    axes[0, -1].legend(title=None)
    return figure


@paper_style
def identity_spread(per_identity: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """How per-identity AP is spread: one panel per condition, one step curve per model.

    Args:
        per_identity: condition ("clean", "worst", ...) -> model -> AP of each identity (percent).
    """
    figure, axes = new_figure(2.6 * len(per_identity), 2.3, 1, len(per_identity), sharey=True)
    for ax, (condition, models) in zip(axes[0], per_identity.items(), strict=True):
        for color, (model, values) in zip(PALETTE, models.items(), strict=False):
            ordered = np.sort(np.asarray(values, dtype=float))
            share = np.arange(1, len(ordered) + 1) / len(ordered)
            label = f"{model} (std {ordered.std():.1f})"
            ax.step(ordered, 100 * share, where="post", color=color, label=label)
        ax.axhline(10, color=NEUTRAL, linewidth=0.8, linestyle=":")
        ax.set(title=title_of(condition), xlabel="AP of an identity (%)", xlim=(0, 100))
        ax.legend(loc="lower right" if condition != "clean" else "upper left")
    axes[0, 0].set_ylabel("identities at or below (%)")
    return figure


def _from_clean(rows: pd.DataFrame, attack: str, column: str) -> pd.DataFrame:
    """Rows of one attack, and the clean score of each model at 0."""
    clean = rows[rows["attack"] == "clean"].drop_duplicates("model").assign(**{column: 0})
    return pd.concat([clean, rows[rows["attack"] == attack]], ignore_index=True)


def _in_order(rows: pd.DataFrame) -> list[str]:
    families = ["clean", "baseline", "standard", "worst", "unseen"]
    first = rows.drop_duplicates("attack").set_index("attack")["family"]
    return sorted(first.index, key=lambda name: families.index(first[name]))


def _mark_families(ax: Axes, rows: pd.DataFrame, order: Sequence[str]) -> None:
    family = rows.drop_duplicates("attack").set_index("attack")["family"]
    for place, name in enumerate(order[1:], 1):
        if family[name] != family[order[place - 1]]:
            ax.axvline(place - 0.5, color=NEUTRAL, linewidth=0.8, linestyle=":")
    unseen = [place for place, name in enumerate(order) if family[name] == "unseen"]
    if unseen:
        ax.text(unseen[0] - 0.4, 93, "unseen in training", fontsize=7, color=NEUTRAL)

"""Figures of an experiment over seeds: means, and the seeds they are means of."""

from collections.abc import Sequence

import pandas as pd
import seaborn
from matplotlib.figure import Figure

from ddid.report.figures.robustness import METRICS, title_of
from ddid.report.figures.style import NEUTRAL, PALETTE, new_figure, paper_style


@paper_style
def seed_dots(rows: pd.DataFrame, attacks: Sequence[str], metric: str = "mAP") -> Figure:
    """One panel per attack, one line per thing compared: its mean, and a small dot for each seed.

    Args:
        rows: tidy; the first column names what is compared, then seed, attack, metric, value
            (percent).
        attacks: the panels, in order; those that no row has are left out.
        metric: which metric to draw.
    """
    by = rows.columns[0]
    rows = rows[rows["metric"] == metric]
    attacks = [name for name in attacks if name in set(rows["attack"])]
    names = list(dict.fromkeys(rows[by]))
    size = (1.2 * len(attacks) + 1.4, 0.2 * len(names) + 0.8)
    figure, axes = new_figure(*size, 1, len(attacks), sharey=True)
    for ax, attack in zip(axes[0], attacks, strict=True):
        own = rows[rows["attack"] == attack]
        dots = {"data": own, "x": "value", "y": by, "order": names, "ax": ax}
        seaborn.stripplot(**dots, color=NEUTRAL, size=2.5, jitter=False)
        seaborn.pointplot(
            **dots, color=PALETTE[0], errorbar=None, linestyle="none", marker="D", markersize=4
        )
        ax.set(title=title_of(attack), xlabel=METRICS.get(metric, metric), ylabel="")
        ax.grid(axis="y", visible=True)
    return figure

"""Figures of an experiment over seeds: means, and the seeds they are means of."""

from collections.abc import Sequence

import pandas as pd
import seaborn

from ddid.errors import require
from ddid.report.figures.style import NEUTRAL, PALETTE, Drawn, new_figure, paper_style

PANELS = 4  # in a row


@paper_style
def seed_dots(
    rows: pd.DataFrame, attacks: Sequence[str], over: str, intervals: pd.DataFrame | None = None
) -> Drawn:
    """One panel per attack, one line per thing compared: its mean, and a small dot for each seed.

    mAP less that of {over} under the same seed, 0 (dashed): no difference. Further right is better.
    Diamond: mean of {seeds} seeds; dot: one seed{line}. “unseen” is the mean over attacks that
    nobody trained on.

    Args:
        rows: tidy; the first column names what is compared, then seed, attack, metric, value (%).
        attacks: the panels, in order; those that no row has are left out.
        over: what the others are compared with, under the same seed: without what seeds share.
        intervals: as `ddid.gains.gains_of` returns them, drawn as lines.
    """
    by, rows = rows.columns[0], rows[rows["metric"] == "mAP"]
    attacks = [name for name in attacks if name in set(rows["attack"])]
    require(over in set(rows[by]), f"no row of {over!r} to compare the others with")
    base = rows[rows[by] == over].set_index(["attack", "seed"])["value"]
    shared = base.reindex(pd.MultiIndex.from_frame(rows[["attack", "seed"]])).to_numpy()
    rows = rows.assign(value=rows["value"] - shared)[rows[by] != over]
    names = list(dict.fromkeys(rows[by]))
    lines = -(-len(attacks) // PANELS)
    size = (6.8, lines * (0.2 * len(names) + 0.7))
    figure, axes = new_figure(*size, lines, min(PANELS, len(attacks)), sharey=True)
    for ax in axes.flat[len(attacks) :]:
        ax.set_visible(False)
    for ax, attack in zip(axes.flat, attacks, strict=False):
        dots = {"x": "value", "y": by, "order": names, "ax": ax}
        own = rows[rows["attack"] == attack]
        if intervals is not None:
            ends = intervals[(intervals["attack"] == attack) & (intervals["over"] == over)]
            low, high = ends.set_index(by).reindex(names)[["low", "high"]].to_numpy().T
            ax.hlines(range(len(names)), low, high, color=PALETTE[0], linewidth=1)
        seaborn.stripplot(own, **dots, color=NEUTRAL, size=2.5, jitter=False)
        seaborn.pointplot(
            own, **dots, color=PALETTE[0], errorbar=None, linestyle="none", marker="D", markersize=4
        )
        ax.set(title=attack, xlabel="points", ylabel="")
        ax.grid(axis="y", visible=True)
        ax.margins(x=0.1)
        ax.axvline(0, color=NEUTRAL, linewidth=0.8, linestyle="--")
    line = "; line: 95 % interval over seeds and people" * (intervals is not None)
    return figure, {"over": over, "seeds": rows["seed"].nunique(), "line": line}

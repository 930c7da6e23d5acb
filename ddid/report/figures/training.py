"""Figures of training: learning curves."""

from collections.abc import Mapping

import pandas as pd
import seaborn

from ddid.report.figures import style
from ddid.report.figures.style import Drawn, paper_style

CURVES = {
    "clean_cls": "classification loss, clean",
    "clean_accuracy": "classifier accuracy, clean",
    "discriminator_accuracy": "discriminator accuracy",
}  # not accuracy on training attacks: recipes train on attacks of different size


@paper_style
def learning_curves(logs: Mapping[str, pd.DataFrame], smooth: int = 3) -> Drawn:
    """One panel per curve that any recipe logged, or the loss if none did, one line per recipe.

    Running means over {smooth} log lines of the training batches. A discriminator near chance
    (grey line) cannot tell attacked features from clean ones, which is what the encoder wants.

    Args:
        logs: recipe name → training log with columns `step`, `loss` and any of `CURVES`.
        smooth: length of the running mean, in log lines.
    """
    shown = [n for n in CURVES if any(n in log for log in logs.values())] or ["loss"]
    parts = [
        log.set_index("step")[[n for n in shown if n in log]]
        .rolling(smooth, min_periods=1)
        .mean()
        .melt(var_name="curve", ignore_index=False)
        .assign(recipe=recipe)
        for recipe, log in logs.items()
    ]
    grid = seaborn.relplot(
        pd.concat(parts).reset_index(), x="step", y="value", hue="recipe", style="recipe",
        col="curve", col_order=shown, kind="line", height=2.1, facet_kws={"sharey": False},
    )  # fmt: skip
    for n, ax in grid.axes_dict.items():
        ax.set(title=CURVES.get(n, n), ylabel="", ylim=(0, 1.02 if "accuracy" in n else None))
        if n == "discriminator_accuracy":
            ax.axhline(0.5, color=style.NEUTRAL, linewidth=0.8)
    return grid.figure, {"smooth": smooth}

"""Figures of training: learning curves, what FNES does to an image and its label."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from torch import Tensor

from ddid.errors import require
from ddid.report.figures.style import (
    NEUTRAL,
    PALETTE,
    new_figure,
    paper_style,
    pictures,
    show_image,
)

CURVES = {
    "clean_cls": "classification loss, clean",
    "clean_accuracy": "classifier accuracy, clean",
    "attacked_accuracy": "classifier accuracy, attacked",
    "discriminator_accuracy": "discriminator accuracy",
}


@paper_style
def learning_curves(logs: Mapping[str, pd.DataFrame], smooth: int = 3) -> Figure:
    """One panel per curve that any recipe logged, one line per recipe.

    Args:
        logs: recipe name → training log with a column `step` and any of `CURVES`.
        smooth: length of the running mean, in log lines.
    """
    shown = [name for name in CURVES if any(name in log for log in logs.values())]
    require(bool(shown), f"no log holds any of {', '.join(CURVES)}: nothing to draw")
    figure, axes = new_figure(1.0 + 1.5 * len(shown), 2.0, 1, len(shown))
    for ax, name in zip(axes[0], shown, strict=True):
        for color, (recipe, log) in zip(PALETTE, logs.items(), strict=False):
            if name in log:
                curve = log[name].rolling(smooth, min_periods=1).mean()
                ax.plot(log["step"], curve, color=color, label=recipe, linewidth=1.2)
        ax.set(title=CURVES[name].replace(", ", ",\n"), xlabel="step")
        if "accuracy" in name:
            ax.set_ylim(0, 1.02)
    if "discriminator_accuracy" in shown:
        axes[0, -1].axhline(0.5, color=NEUTRAL, linewidth=0.8, linestyle="--")
        axes[0, -1].text(0.98, 0.46, "chance", ha="right", va="top", fontsize=7, color=NEUTRAL,
                         transform=axes[0, -1].transAxes)  # fmt: skip
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


@paper_style
def extension_panel(
    images: Mapping[str, Tensor], targets: Mapping[str, Tensor], classes: Sequence[str]
) -> Figure:
    """An image on its way along the attack, and its label below.

    Args:
        images: title → (3, H, W) in [0, 1], the first one clean.
        targets: the same titles → (C,) probabilities of the classes worth showing.
        classes: their C names.
    """
    figure, axes = new_figure(
        1.4 * len(images), 2.8, 2, len(images), gridspec_kw={"height_ratios": [2, 1]}
    )
    clean = next(iter(images.values()))
    for column, (title, image) in enumerate(images.items()):
        moved = float((image - clean).abs().max()) * 255
        label = title if column == 0 else f"{title}\nmoved ≤ {moved:.0f}/255"
        show_image(axes[0, column], pictures(image[None])[0], label)
        seaborn.barplot(
            x=np.array(list(classes)),
            y=targets[title].cpu().numpy(),
            ax=axes[1, column],
            hue=np.array(list(classes)),
            palette=PALETTE[: len(classes)],
            legend=False,
        )
        axes[1, column].set(ylim=(0, 1), ylabel="target" if column == 0 else "")
        axes[1, column].tick_params(axis="x", labelrotation=30)
    return figure

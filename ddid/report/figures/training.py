"""Figures of training: learning curves, what FNES does to an image and its label."""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn
from torch import Tensor

from ddid.data.images import to_uint8
from ddid.report.figures import style
from ddid.report.figures.style import Drawn, new_figure, paper_style

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


@paper_style
def extension_panel(
    images: Mapping[str, Tensor], targets: Mapping[str, Tensor], classes: Sequence[str]
) -> Drawn:
    """An image on its way along the attack, and its label below.

    Above: one training image; “moved” is the largest change of any pixel. Below: the label it is
    trained with, for its own class and the one the attack aimed at; what is missing to 1 is spread
    over all classes.

    Args:
        images: title → (3, H, W) in [0, 1], the first one clean.
        targets: the same titles → (C,) probabilities of the classes worth showing.
        classes: their C names.
    """
    ratios = {"gridspec_kw": {"height_ratios": [2, 1]}}
    figure, axes = new_figure(1.4 * len(images), 2.9, 2, len(images), sharey="row", **ratios)
    clean = next(iter(images.values()))
    for (title, image), (picture, ax) in zip(images.items(), axes.T, strict=True):
        moved = f"\nmoved ≤ {255 * float((image - clean).abs().max()):.0f}/255"
        above = title + moved * (image is not clean)
        style.show_image(picture, style.pictures(to_uint8(image[None]))[0], above)
        heights = targets[title].tolist()
        bars = ax.bar(classes, heights, color=style.PALETTE[: len(classes)])
        ax.bar_label(bars, [f"{height:.3f}" for height in heights], fontsize=6.5, padding=1)
        ax.set(ylim=(0, 1.2), yticks=[0, 0.5, 1])
        ax.grid(False, axis="x")
    axes[1, 0].set_ylabel("target probability")
    return figure, {}

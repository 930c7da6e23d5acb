"""One look for every figure: seaborn's paper style, colours with a meaning, a caption below.

Colours are told apart by the colour-blind; lines differ in dash or marker too, frames in a sign.
"""

from collections.abc import Callable
from functools import wraps
from inspect import cleandoc
from textwrap import fill
from typing import Any, ParamSpec

import numpy as np
import seaborn
from cycler import cycler
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

P = ParamSpec("P")
Drawn = tuple[Figure, dict[str, Any]]
"""A figure, and the numbers its caption names."""

PALETTE = list(seaborn.color_palette("colorblind"))
CLEAN, ATTACKED, RIGHT, WRONG = PALETTE[:4]
NEUTRAL = (0.45, 0.45, 0.45)
LETTERS_PER_INCH = 19  # of a caption

STYLE = {
    **seaborn.axes_style("whitegrid"),
    **seaborn.plotting_context("paper"),
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "axes.edgecolor": "0.3",
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "figure.dpi": 150,
    "grid.color": "0.9",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}


def paper_style(draw: Callable[P, Drawn]) -> Callable[P, Figure]:
    """Decorate a function that draws a figure: house style, and a caption below.

    The caption is what the function's docstring says between its first line and `Args:`, with
    {names} filled in from the numbers that the function returns beside the figure.
    """
    _, _, text = cleandoc(draw.__doc__ or "").partition("\n\n")
    caption = " ".join(text.partition("Args:")[0].split())

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with pyplot.rc_context(STYLE):
            figure, numbers = draw(*args, **kwargs)
            lines = fill(caption.format(**numbers), round(LETTERS_PER_INCH * figure.get_figwidth()))
            figure.text(0.01, -0.02, lines, va="top", fontsize=7, color="0.25")
        pyplot.close(figure)  # seaborn's grids register there: a notebook would show them twice
        return figure

    return styled


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of `width` × `height` inches and its (rows, columns) array of axes. Call it from a
    function decorated with `paper_style`; `subplots` goes to `Figure.subplots`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def pictures(images: Tensor) -> np.ndarray:
    """Images, uint8 (B, 3, H, W), as the (B, H, W, 3) that matplotlib draws."""
    return images.permute(0, 2, 3, 1).cpu().numpy()


def show_image(axes: Axes, image: np.ndarray, title: str = "", frame: Any = None) -> None:
    """Show an image (H, W, 3), pixels untouched; the color `frame` goes around it."""
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(title, fontsize=7, pad=2, color=frame or "black")
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2)

"""One look for every figure: seaborn's paper style, colours with a meaning, images with frames.

Figures are plain `matplotlib.figure.Figure`s: no pyplot, so no window, no global figure list, and
nothing to close after a notebook has run a hundred of them.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import seaborn
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ddid.data.images import to_uint8

P = ParamSpec("P")
PALETTE = [to_rgb(color) for color in seaborn.color_palette("colorblind")]
CLEAN, ATTACKED, RIGHT, WRONG = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3]
NEUTRAL = (0.45, 0.45, 0.45)

STYLE = {
    **seaborn.axes_style("whitegrid"),
    **seaborn.plotting_context("paper"),
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "axes.edgecolor": "0.3",
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


def paper_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that draws a figure, so that it does so in the house style."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of `width` × `height` inches and its (rows, columns) array of axes.

    Call it from a function decorated with `paper_style`; `subplots` goes to `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def pictures(images: Tensor) -> np.ndarray:
    """Images (B, 3, H, W), uint8 or float in [0, 1], as the uint8 (B, H, W, 3) matplotlib draws."""
    pixels = images if images.dtype == torch.uint8 else to_uint8(images)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def show_image(
    axes: Axes,
    image: np.ndarray,
    title: str = "",
    frame: tuple[float, float, float] | None = None,
) -> None:
    """Show an image (H, W, 3), pixels untouched; `frame` colours its border."""
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(title, fontsize=7, pad=2, color=frame or "black")
    for spine in axes.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2)

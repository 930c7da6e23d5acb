"""Maps of embedding space: where queries lie, and where an attack carries them."""

from typing import Any

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ddid.report.embedding import Projection
from ddid.report.figures.style import NEUTRAL, new_figure, paper_style

KEY = {"gallery": ".", "clean query": "o", "attacked query": "X"}  # what a marker means


@paper_style
def embedding_maps(
    projections: dict[str, Projection],
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    shown: list[int],
) -> Figure:
    """One map a model; the identities in `shown` have colours, all others are grey.

    A line joins each shown query's clean place to its attacked one.
    """
    figure, axes = new_figure(2.4 * len(projections), 2.75, 1, len(projections))
    colors = dict(zip(shown, seaborn.husl_palette(len(shown), l=0.55), strict=True))
    for cell, (title, projection) in zip(axes[0], projections.items(), strict=True):
        _draw(cell, projection, query_pids, gallery_pids, colors)
        cell.set(title=title, xticks=[], yticks=[], xlabel="UMAP 1")
    axes[0, 0].set_ylabel("UMAP 2")
    handles = [
        Line2D([], [], linestyle="", color=NEUTRAL, label=name, marker=marker)
        for name, marker in KEY.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(KEY))
    return figure


def _draw(
    axes: Axes,
    projection: Projection,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    colors: dict[int, tuple[float, float, float]],
) -> None:
    _dots(axes, projection.gallery, s=4, color="0.85")
    for pid, color in colors.items():
        _dots(axes, projection.gallery[gallery_pids == pid], s=7, color=color)
        mine = query_pids == pid
        clean, attacked = projection.clean[mine], projection.attacked[mine]
        moves = list(np.stack([clean, attacked], axis=1))  # (points, 2 ends, 2)
        axes.add_collection(LineCollection(moves, colors=[color], linewidths=0.5))
        _dots(axes, clean, s=22, color=color, edgecolors="white")
        _dots(axes, attacked, s=26, color=color, edgecolors="white", marker="X")


def _dots(axes: Axes, points: np.ndarray, **style: Any) -> None:
    axes.scatter(points[:, 0], points[:, 1], linewidths=0.4, **style)

"""Embedding space: where queries lie, where an attack carries them, how similar they stay."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from ddid.report.embedding import Projection
from ddid.report.figures.style import NEUTRAL, PALETTE, Drawn, new_figure, paper_style

COLORS = [PALETTE[place] for place in (0, 3, 2, 4, 9, 8)]  # far from each other for everybody


@paper_style
def embedding_maps(
    projections: Mapping[str, Projection],
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    shown: Sequence[int],
) -> Drawn:
    """One map a model; a line joins each shown query's clean place to its attacked one.

    UMAP of {gallery} gallery and {queries} query images; drawn are the gallery, in grey, and the
    queries of {shown} identities, in colour, each with its number. Each model has a map of its own.
    Only neighbourhoods mean something: lengths, distances and axes are not to be read.

    Args:
        projections: model → places of its embeddings.
        query_pids, gallery_pids: identities of the queries shown and of the whole gallery.
        shown: the identities with a colour, as many as `COLORS` at most.
    """
    figure, axes = new_figure(2.5 * len(projections) + 0.9, 2.7, 1, len(projections))
    colors = dict(zip(shown, COLORS, strict=False))
    for cell, (title, projection) in zip(axes[0], projections.items(), strict=True):
        places = gallery_pids[projection.rows]
        _dots(cell, projection.gallery, s=4, color="0.85")
        for pid, color in colors.items():
            mine, known = query_pids == pid, projection.gallery[places == pid]
            _draw(cell, known, projection.clean[mine], projection.attacked[mine], color)
            if mine.any():
                own = projection.clean[mine]
                place = own[np.linalg.norm(own - np.median(own, axis=0), axis=1).argmin()]
                edge = [withStroke(linewidth=2, foreground="white")]
                cell.annotate(f"{pid}", place, fontsize=7.5, path_effects=edge)
        cell.set(title=title, xticks=[], yticks=[])
    markers = {"gallery": ".", "clean query": "o", "attacked query": "X"}
    dots = [(name, NEUTRAL, marker) for name, marker in markers.items()]
    dots += [(f"identity {pid}", color, "o") for pid, color in colors.items()]
    handles = [
        Line2D([], [], linestyle="", label=name, color=color, marker=marker)
        for name, color, marker in dots
    ]
    figure.legend(handles=handles, loc="outside right center")
    return figure, {"gallery": len(places), "queries": len(query_pids), "shown": len(colors)}


@paper_style
def similarity_histograms(similarities: Mapping[str, pd.DataFrame]) -> Drawn:
    """How similar queries are to identities, clean in the first row, attacked in the second.

    {queries} queries; cosine similarity to the mean clean embedding of the other queries of their
    own identity, if there are any, of all queries of the identity nearest to them, and of the one
    farthest from them when clean. Unlike distances on a map these are the similarities that
    rank, of identities as a whole: where “nearest other” passes “own”, somebody else comes first.

    Args:
        similarities: model → a row a query, a column “TO, STATE” a curve; see `UnderAttack`.
    """
    parts = [
        table.melt(var_name="curve", value_name="similarity").assign(model=model)
        for model, table in similarities.items()
    ]
    rows = pd.concat(parts).dropna(subset="similarity")
    rows[["to", "state"]] = rows["curve"].str.split(", ", expand=True).to_numpy()
    grid = seaborn.displot(
        rows, x="similarity", hue="to", col="model", row="state", element="step", height=1.7,
        aspect=1.3, binwidth=0.05, alpha=0.25,
    )  # fmt: skip
    grid.set_titles("{col_name}, {row_name}").set_axis_labels("cosine similarity", "queries")
    grid.legend.set_title(None)
    return grid.figure, {"queries": len(next(iter(similarities.values())))}


def _draw(
    axes: Axes, gallery: np.ndarray, clean: np.ndarray, attacked: np.ndarray, color: Any
) -> None:
    moves = list(np.stack([clean, attacked], axis=1))  # (points, 2 ends, 2)
    axes.add_collection(LineCollection(moves, colors=[color], linewidths=0.5))
    _dots(axes, gallery, s=7, color=color)
    _dots(axes, clean, s=22, color=color, edgecolors="white")
    _dots(axes, attacked, s=26, color=color, edgecolors="white", marker="X")


def _dots(axes: Axes, points: np.ndarray, **style: Any) -> None:
    axes.scatter(points[:, 0], points[:, 1], linewidths=0.4, **style)

"""Grad-CAM maps laid over clean and attacked queries."""

from collections.abc import Mapping

import numpy as np

from ddid.report.figures.style import Drawn, new_figure, paper_style, show_image

OPACITY = 0.65  # of the heat where it is greatest


@paper_style
def attention_maps(
    pictures: np.ndarray, columns: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Drawn:
    """A row a query: the picture, then where each model looks, clean and attacked.

    Grad-CAM: bright pixels speak for the query's own identity. Each image has its own scale, so
    compare places, not brightness. The maps are coarse and enlarged: their edges mean nothing.

    Args:
        pictures: clean queries, uint8 (B, H, W, 3), the first column.
        columns: label → (pictures the model saw (B, H, W, 3), their maps (B, H, W) in [0, 1]).
    """
    rows, (height, width) = len(pictures), pictures.shape[1:3]
    tall = min(1.3, 6 / rows)
    size = (1.08 * tall * width / height * (len(columns) + 1) + 0.7, tall * rows + 0.3)
    figure, axes = new_figure(*size, rows, len(columns) + 1)
    for place, line in enumerate(axes):
        show_image(line[0], pictures[place], "" if place else "query")
        for cell, (label, (seen, maps)) in zip(line[1:], columns.items(), strict=True):
            show_image(cell, seen[place], "" if place else label)
            alpha = OPACITY * maps[place]  # where nothing speaks for the identity, nothing is laid
            heat = cell.imshow(maps[place], alpha=alpha, cmap="inferno", vmin=0, vmax=1)
    label = "share of the image's\nlargest contribution"
    figure.colorbar(heat, ax=axes, shrink=min(1, 2.5 / tall / rows), aspect=30, label=label)
    return figure, {}

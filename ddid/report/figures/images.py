"""Figures made of images: sheets of them, and Grad-CAM maps laid over queries."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ddid.report.figures.style import Drawn, new_figure, paper_style, pictures, show_image

GAP = 2  # white pixels between images
WIDTH = 6.4  # inches of a sheet of images
OPACITY = 0.65  # of a map's heat where it is greatest


@paper_style
def image_sheet(
    rows: Mapping[str, Tensor], heads: Sequence[str] = (), *, caption: str = ""
) -> Drawn:
    """Rows of images on a white ground, labelled left and on top.

    {caption}

    Args:
        rows: row label to images, uint8 (n, 3, H, W), as many in each; see `filled`.
        heads: the n columns' labels.
    """
    images = torch.stack(list(rows.values()))
    lines, columns, _, height, width = images.shape
    edged = pictures(pad(images.flatten(0, 1), (GAP, 0, GAP, 0), value=255))
    sheet = edged.reshape(lines, columns, height + GAP, width + GAP, 3).swapaxes(1, 2)
    figure, axes = new_figure(WIDTH, WIDTH * lines * height / width / columns + 0.3)
    show_image(axes[0, 0], sheet.reshape(-1, columns * (width + GAP), 3))
    centres = GAP + np.arange(max(lines, columns))[:, None] * (height + GAP, width + GAP)
    axes[0, 0].set_yticks(centres[:lines, 0] + height / 2, list(rows))
    axes[0, 0].set_xticks(centres[: len(heads), 1] + width / 2, heads)
    axes[0, 0].set_anchor("S")  # on the caption; what is left of the height is cut off on top
    axes[0, 0].tick_params(top=False, labeltop=True, labelbottom=False)
    return figure, {"caption": caption}


def filled(images: Tensor, columns: int) -> Tensor:
    """The first `columns` of images (n, 3, H, W), filled up with white ones."""
    images = images[:columns]
    return torch.cat([images, images.new_full((columns - len(images), *images.shape[1:]), 255)])


@paper_style
def attention_maps(
    queries: np.ndarray, columns: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Drawn:
    """A row a query: the picture, then where each model looks, clean and attacked.

    Grad-CAM: bright pixels speak for the query's own identity. Each image has its own scale, so
    compare places, not brightness. The maps are coarse and enlarged: their edges mean nothing.

    Args:
        queries: clean ones, uint8 (B, H, W, 3), the first column.
        columns: label → (pictures the model saw (B, H, W, 3), their maps (B, H, W) in [0, 1]).
    """
    rows, (height, width) = len(queries), queries.shape[1:3]
    tall = min(1.3, 6 / rows)
    size = (1.08 * tall * width / height * (len(columns) + 1) + 0.7, tall * rows + 0.3)
    figure, axes = new_figure(*size, rows, len(columns) + 1)
    for place, line in enumerate(axes):
        show_image(line[0], queries[place], "" if place else "query")
        for cell, (label, (seen, maps)) in zip(line[1:], columns.items(), strict=True):
            show_image(cell, seen[place], "" if place else label)
            alpha = OPACITY * maps[place]  # where nothing speaks for the identity, nothing is laid
            heat = cell.imshow(maps[place], alpha=alpha, cmap="inferno", vmin=0, vmax=1)
    label = "share of the image's\nlargest contribution"
    figure.colorbar(heat, ax=axes, shrink=min(1, 2.5 / tall / rows), aspect=30, label=label)
    return figure, {}

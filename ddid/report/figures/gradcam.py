"""Grad-CAM maps laid over clean and attacked queries."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from ddid.report.figures.style import new_figure, paper_style, show_image

MAP_WEIGHT = 0.55  # of the heat over the picture


@paper_style
def attention_maps(pictures: np.ndarray, rows: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Queries in columns; each row is one model on clean or attacked pictures.

    Args:
        pictures: clean queries, uint8 (B, H, W, 3), the first row.
        rows: label → (pictures the model saw (B, H, W, 3), their maps (B, H, W) in [0, 1]).
    """
    figure, axes = new_figure(
        0.75 * len(pictures), 1.4 * (len(rows) + 1), len(rows) + 1, len(pictures)
    )
    _line(axes[0], "query", pictures)
    for line, (label, (seen, maps)) in zip(axes[1:], rows.items(), strict=True):
        heat = 255 * colormaps["inferno"](maps)[..., :3]
        weight = MAP_WEIGHT * maps[..., None]
        _line(line, label, ((1 - weight) * seen + weight * heat).astype(np.uint8))
    return figure


def _line(line: np.ndarray, label: str, pictures: np.ndarray) -> None:
    for cell, picture in zip(line, pictures, strict=True):
        show_image(cell, picture)
    line[0].set_ylabel(label, fontsize=7)

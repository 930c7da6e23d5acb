"""Figures of synthesis: real beside synthetic, denoising step by step, what the gate did."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from torch import Tensor
from torch.nn.functional import pad

from ddid.report.figures.style import Drawn, new_figure, paper_style, pictures, show_image

GAP = 2  # white pixels between images
WIDTH = 6.4  # inches of a sheet of images


@paper_style
def real_beside_synthetic(pairs: Mapping[str, tuple[Tensor, Tensor]], columns: int = 6) -> Drawn:
    """Real images on the left and synthetic ones of the same identity on the right, a row each.

    The number of the identity stands on the left. Look for the same clothes on both sides, on the
    right in other poses and places.

    Args:
        pairs: row label to (real, synthetic), uint8 (n, 3, H, W); empty places stay white.
        columns: images shown on each side.
    """
    rows = {
        label: torch.cat([_filled(side, columns) for side in pair]) for label, pair in pairs.items()
    }
    heads = [""] * 2 * columns
    heads[columns // 2], heads[columns + columns // 2] = "real", "synthetic"
    return _sheet(rows, heads), {}


@paper_style
def exemplar_views(person: Tensor, views: Tensor, cameras: Sequence[int]) -> Drawn:
    """Where an image shows its person, and one exemplar as each camera would see it.

    Left: where the training images show their person (white: always). Then one image, recoloured
    and placed as each camera would see it.

    Args:
        person: (h, w) in [0, 1].
        views: (C, 3, h, w) in [0, 1].
        cameras: their C numbers.
    """
    images = torch.cat([person.cpu().expand(1, 3, -1, -1), views.cpu()])
    return _sheet({"": (255 * images).round().byte()}, ["person", *map(str, cameras)]), {}


@paper_style
def denoising(images: Tensor, sigmas: Sequence[float]) -> Drawn:
    """What the denoiser believes the image is, from pure noise (left) to the sample (right).

    Columns: noise level σ, in standard deviations of pixels that span −1 to 1. Shown is the
    estimate D(x; σ), not its noisy input x: where the input is noise alone, the best estimate is
    the mean image of the asked identity and camera, so a blurred person is there from the start;
    pose and detail come as σ falls.

    Args:
        images: D(x; σ) at every step, uint8 (steps, n, 3, H, W).
        sigmas: the steps' noise levels.
    """
    rows = {str(place + 1): row for place, row in enumerate(images.unbind(1))}
    return _sheet(rows, [f"{sigma:.2g}" for sigma in sigmas]), {}


@paper_style
def kept_and_rejected(groups: Mapping[str, tuple[Tensor, int]], columns: int = 12) -> Drawn:
    """A row of images for each verdict, and how many there were.

    Drafts by the gate's verdict, evenly spread over all that got it (their number in brackets).

    Args:
        groups: verdict to (its images, uint8 (n, 3, H, W), in the order of identities; their
            number in all).
        columns: images shown of each.
    """
    rows = {}
    for verdict, (images, count) in groups.items():
        spread = torch.linspace(0, len(images) - 1, min(columns, len(images))).long()
        rows[f"{verdict}\n({count})"] = _filled(images[spread], columns)
    return _sheet(rows), {}


@paper_style
def solver_curves(table: pd.DataFrame) -> Drawn:
    """Error of each solver against its cost.

    Root mean square difference of pixels in [0, 1] to the image that Heun's method draws from the
    same noise in {exact} steps, which counts as exact. Lower is better, further left is cheaper.

    Args:
        table: of `solver_errors`.
    """
    figure, axes = new_figure(3.8, 2.4)
    ax = seaborn.lineplot(
        table, x="evaluations", y="error", hue="solver", style="solver", markers=True, ax=axes[0, 0]
    )
    ax.set(xlabel="evaluations of the denoiser", ylabel="RMS difference of pixels", yscale="log")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.legend(title=None)
    return figure, {"exact": 4 * table["steps"].max()}


def _sheet(rows: Mapping[str, Tensor], heads: Sequence[str] = ()) -> Figure:
    """Rows of equally many images (n, 3, H, W) on a white ground, labelled left and on top."""
    images = torch.stack(list(rows.values()))
    lines, columns, _, height, width = images.shape
    edged = pictures(pad(images.flatten(0, 1), (GAP, 0, GAP, 0), value=255))
    sheet = edged.reshape(lines, columns, height + GAP, width + GAP, 3).swapaxes(1, 2)
    figure, axes = new_figure(WIDTH, WIDTH * lines * height / width / columns + 0.3)
    show_image(axes[0, 0], sheet.reshape(-1, columns * (width + GAP), 3))
    centres = GAP + np.arange(max(lines, columns))[:, None] * (height + GAP, width + GAP)
    axes[0, 0].set_yticks(centres[:lines, 0] + height / 2, list(rows))
    axes[0, 0].set_xticks(centres[: len(heads), 1] + width / 2, heads)
    axes[0, 0].tick_params(top=False, labeltop=True, labelbottom=False)
    return figure


def _filled(images: Tensor, columns: int) -> Tensor:
    """The first `columns` images, filled up with white ones."""
    images = images[:columns]
    return torch.cat([images, images.new_full((columns - len(images), *images.shape[1:]), 255)])

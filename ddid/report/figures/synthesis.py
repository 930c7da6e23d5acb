"""Figures of synthesis: real beside synthetic, denoising step by step, what the gate did."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

from ddid.report.figures.style import PALETTE, new_figure, paper_style, pictures, show_image

GAP = 2  # white pixels between images


@paper_style
def real_beside_synthetic(pairs: Mapping[str, tuple[Tensor, Tensor]], columns: int = 6) -> Figure:
    """Real images on the left and synthetic ones of the same identity on the right, a row each.

    Args:
        pairs: row label to (real, synthetic), uint8 (n, 3, H, W); empty places stay white.
        columns: images shown on each side.
    """
    sides = [torch.cat([_row(pair[i], columns) for pair in pairs.values()]) for i in (0, 1)]
    height = 6.4 * len(pairs) * 2 / (2 * columns) + 0.3
    figure, axes = new_figure(6.4, height, 1, 2, sharey=True)
    for ax, title, images in zip(axes[0], ("real", "synthetic"), sides, strict=True):
        show_tiles(ax, images, columns)
        ax.set_title(title)
    _label_rows(axes[0, 0], list(pairs), sides[0].shape[-2])
    return figure


@paper_style
def exemplar_views(person: Tensor, views: Tensor, cameras: Sequence[int]) -> Figure:
    """Where an image shows its person, and one exemplar as each camera would see it.

    Args:
        person: (h, w) in [0, 1].
        views: (C, 3, h, w) in [0, 1].
        cameras: their C numbers.
    """
    figure, axes = new_figure(0.8 * (len(views) + 1), 1.8, 1, len(views) + 1)
    show_image(axes[0, 0], pictures(person.expand(1, 3, -1, -1))[0], "person")
    for ax, view, camid in zip(axes[0, 1:], pictures(views), cameras, strict=True):
        show_image(ax, view, f"camera {camid}")
    return figure


@paper_style
def denoising(images: Tensor, sigmas: Sequence[float]) -> Figure:
    """What the denoiser believes the image is, from pure noise (left) to the sample (right).

    Args:
        images: D(x; σ) at every step, uint8 (steps, n, 3, H, W).
        sigmas: the steps' noise levels.
    """
    steps, count = images.shape[:2]
    figure, axes = new_figure(6.4, 6.4 * count * 2 / steps + 0.4)
    show_tiles(axes[0, 0], images.transpose(0, 1).flatten(0, 1), steps)
    width = images.shape[-1] + GAP
    places = [GAP + width * i + images.shape[-1] / 2 for i in range(steps)]
    axes[0, 0].set_xticks(places, [f"{sigma:.2g}" for sigma in sigmas])
    axes[0, 0].set_xlabel("noise level σ")
    return figure


@paper_style
def kept_and_rejected(groups: Mapping[str, tuple[Tensor, int]], columns: int = 12) -> Figure:
    """A row of images for each verdict, with how many there were.

    Args:
        groups: verdict to (some of its images, uint8 (n, 3, H, W); their number in all).
        columns: images shown of each.
    """
    rows = torch.cat([_row(images, columns) for images, _ in groups.values()])
    figure, axes = new_figure(6.4, 6.4 * len(groups) * 2 / columns + 0.2)
    show_tiles(axes[0, 0], rows, columns)
    labels = [f"{verdict}\n({count})" for verdict, (_, count) in groups.items()]
    _label_rows(axes[0, 0], labels, rows.shape[-2])
    return figure


@paper_style
def solver_curves(table: pd.DataFrame) -> Figure:
    """Error of each solver against its cost.

    Args:
        table: of `solver_errors`.
    """
    figure, axes = new_figure(3.4, 2.3)
    ax = axes[0, 0]
    for colour, (solver, rows) in zip(PALETTE, table.groupby("solver"), strict=False):
        ax.plot(rows["evaluations"], rows["error"], "o-", color=colour, label=solver, markersize=4)
    ax.set(xlabel="evaluations of the denoiser", ylabel="distance to the exact image")
    ax.set(xscale="log", yscale="log")
    ticks: list[int] = []
    for cost in sorted(set(table["evaluations"])):
        if not ticks or cost > 1.2 * ticks[-1]:  # nearer numbers would overlap
            ticks.append(cost)
    ax.set_xticks(ticks, [str(cost) for cost in ticks])
    ax.minorticks_off()
    ax.legend()
    return figure


def show_tiles(ax: Axes, images: Tensor, columns: int) -> None:
    """Show images (n, 3, H, W) as a sheet, `columns` in a row, on a white ground."""
    edged = pad(images, (GAP, 0, GAP, 0), value=255)
    blank = torch.full_like(edged[:1], 255).expand(-len(edged) % columns, -1, -1, -1)
    sheet = pictures(torch.cat([edged, blank]))
    _, height, width, _ = sheet.shape
    sheet = sheet.reshape(-1, columns, height, width, 3).swapaxes(1, 2)
    ax.imshow(sheet.reshape(-1, columns * width, 3), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _row(images: Tensor, columns: int) -> Tensor:
    """The first `columns` images, filled up with white ones."""
    images = images[:columns]
    return torch.cat([images, images.new_full((columns - len(images), *images.shape[1:]), 255)])


def _label_rows(ax: Axes, labels: Sequence[str], height: int) -> None:
    places = GAP + (height + GAP) * np.arange(len(labels)) + height / 2
    ax.set_yticks(places, labels)

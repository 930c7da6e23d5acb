"""Figures of synthesis: real beside synthetic, denoising step by step, what the gate did."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
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
def told_and_drawn(rows: Mapping[str, Tensor]) -> Drawn:
    """What the network was shown for some drafts, and what it drew, a column each.

    From above: the source, with its camera's colours taken away; another image of the person; what
    the wanted camera sees, with somebody else in it; the draft. Look for the person of the first
    row before a place like that of the third.

    Args:
        rows: row label to images, uint8 (n, 3, H, W), as many in each.
    """
    return _sheet(rows), {}


@paper_style
def fillings(rows: Mapping[str, Tensor]) -> Drawn:
    """The same images of a plan made in other ways, a column each.

    From above: what is shown of person and place, then the images by way of making. Look for the
    person of the first row before a place like that of the second, without seams, as in the last
    row, which are photographs.

    Args:
        rows: row label to images, uint8 (n, 3, H, W), as many in each.
    """
    return _sheet(rows), {}


@paper_style
def guidance_grid(rows: Mapping[str, Tensor], heads: Sequence[str]) -> Drawn:
    """One draft under other guidance weights and starts.

    The same seed in every picture. Columns: how strongly the draft follows person and camera, each
    an extrapolation from not being told (1: plain conditional sampling). Rows: the noise level the
    translation starts from; a higher one keeps less of where the person stood.

    Args:
        rows: row label to images, uint8 (n, 3, H, W).
        heads: the n columns' labels.
    """
    return _sheet(rows, heads), {}


@paper_style
def denoising(images: Tensor, sigmas: Sequence[float]) -> Drawn:
    """What the denoiser believes the image is, from pure noise (left) to the sample (right).

    Columns: noise level σ, in standard deviations of pixels that span −1 to 1. Shown is the
    estimate D(x; σ), not its noisy input x: where noise hides the input, the best estimate is made
    of what the network is told, so the person is there from the start; the place and detail come as
    σ falls.

    Args:
        images: D(x; σ) at every step, uint8 (steps, n, 3, H, W).
        sigmas: the steps' noise levels.
    """
    rows = {str(place + 1): row for place, row in enumerate(images.unbind(1))}
    return _sheet(rows, [f"{sigma:.2g}" for sigma in sigmas]), {}


@paper_style
def kept_and_rejected(groups: Mapping[str, Tensor], columns: int = 12) -> Drawn:
    """A row of images for each verdict, and how many there were.

    Drafts by the gate's verdict, evenly spread over all that got it (their number in brackets).

    Args:
        groups: verdict to all its images, uint8 (n, 3, H, W), in the order of identities.
        columns: images shown of each.
    """
    rows = {}
    for verdict, images in groups.items():
        spread = torch.linspace(0, len(images) - 1, min(columns, len(images))).long()
        rows[f"{verdict}\n({len(images)})"] = _filled(images[spread], columns)
    return _sheet(rows), {}


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

"""Figures of bias: images per identity, and which cameras they come from."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddid.report.figures.style import CLEAN, NEUTRAL, PALETTE, new_figure, paper_style

SYNTHETIC = PALETTE[1]


@paper_style
def images_per_identity(manifest: pd.DataFrame, wanted: int | None = None) -> Figure:
    """Real train images per identity, most photographed first, synthetic ones stacked on top.

    Args:
        manifest: its train rows count, by `origin`.
        wanted: δ1, drawn as a line.
    """
    train = manifest[manifest["split"] == "train"]
    counts = pd.crosstab(train["pid"], train["origin"])
    counts = counts.reindex(columns=["real", "synthetic"], fill_value=0)
    counts = counts.sort_values("real", ascending=False)
    figure, axes = new_figure(6, 2.2)
    ax, place = axes[0, 0], np.arange(len(counts))
    ax.bar(place, counts["real"], width=1, color=CLEAN, label="real")
    if counts["synthetic"].any():
        top = counts["real"]
        ax.bar(place, counts["synthetic"], 1, bottom=top, color=SYNTHETIC, label="synthetic")
    if wanted:
        ax.axhline(wanted, color=NEUTRAL, linestyle="--", linewidth=1, label=f"δ1 = {wanted}")
    ax.set(xlabel="identity, most photographed first", ylabel="train images", xlim=(-0.5, None))
    ax.grid(False, axis="x")
    ax.legend(ncols=3)
    return figure


@paper_style
def camera_shares(before: pd.DataFrame, after: pd.DataFrame | None = None) -> Figure:
    """Share of each camera in each identity's images, as a heat map, one panel a manifest.

    Args:
        before: manifest whose train rows are shown.
        after: the balanced one, in a second panel.
    """
    panels = {"before": before} if after is None else {"before": before, "after": after}
    figure, axes = new_figure(3.2 * len(panels), 3, 1, len(panels), sharey=True)
    for ax, (title, manifest) in zip(axes[0], panels.items(), strict=True):
        _share_map(ax, manifest, title if len(panels) > 1 else "")
    axes[0, 0].set_ylabel("identity, most one-sided first")
    figure.colorbar(axes[0, 0].images[0], ax=axes[0], label="share of the identity's images")
    return figure


def _share_map(ax: Axes, manifest: pd.DataFrame, title: str) -> None:
    train = manifest[manifest["split"] == "train"]
    shares = pd.crosstab(train["pid"], train["camid"], normalize="index")
    shares = shares.loc[shares.max(axis=1).sort_values(ascending=False).index]
    ax.imshow(shares, aspect="auto", cmap="mako_r", vmin=0, vmax=1, interpolation="nearest")
    ax.set(title=title, xlabel="camera", yticks=[])
    ax.set_xticks(range(shares.shape[1]), [str(camid) for camid in shares.columns])
    ax.grid(False)


@paper_style
def bias_of_identities(table: pd.DataFrame) -> Figure:
    """Distributions over identities: camera dominance, near-duplicates, effective images.

    Args:
        table: `identity_bias` joined with `image_bias`.
    """
    figure, axes = new_figure(6.6, 2, 1, 3)
    panels = {
        "dominance": "share of the\nmost frequent camera",
        "near_duplicates": "share of\nnear-duplicates",
    }
    for ax, (name, label) in zip(axes[0], panels.items(), strict=False):
        ax.hist(table[name].dropna(), bins=12, range=(0, 1), color=CLEAN)
        ax.set(xlabel=label)
    axes[0, 0].set_ylabel("identities")
    ax = axes[0, 2]
    ax.scatter(table["images"], table["effective_images"], s=9, color=CLEAN, alpha=0.7)
    most = table["images"].max()
    ax.plot([1, most], [1, most], color=NEUTRAL, linestyle="--", linewidth=1)
    ax.set(
        xlabel="images", ylabel="effective images", ylim=(0, table["effective_images"].max() * 1.2)
    )
    return figure

"""Figures of bias: images per identity, and which cameras they come from."""

import pandas as pd
import seaborn

from ddid.report.figures.style import ATTACKED, CLEAN, NEUTRAL, Drawn, new_figure, paper_style


@paper_style
def images_per_identity(manifest: pd.DataFrame, wanted: int | None = None) -> Drawn:
    """Real train images per identity, most photographed first, synthetic ones stacked on top.

    {real} real and {synthetic} synthetic images of {identities} identities; {least} to {most} real
    ones each.

    Args:
        manifest: its train rows count, by `origin`.
        wanted: δ1, drawn as a line.
    """
    train = manifest[manifest["split"] == "train"]
    counts = pd.crosstab(train["pid"], train["origin"])
    counts = counts.reindex(columns=["real", "synthetic"], fill_value=0)
    counts = counts.sort_values("real", ascending=False).reset_index(drop=True)
    figure, axes = new_figure(6, 2.2)
    ax, real = axes[0, 0], counts["real"]
    ax.bar(counts.index, real, width=1, linewidth=0, color=CLEAN, label="real")
    if counts["synthetic"].any():
        drawn = {"width": 1, "linewidth": 0, "color": ATTACKED, "label": "synthetic"}
        ax.bar(counts.index, counts["synthetic"], bottom=real, **drawn)
    if wanted:
        ax.axhline(wanted, color=NEUTRAL, linestyle="--", linewidth=1, label=f"δ1 = {wanted}")
    ax.set(xlabel="identity, most photographed first", ylabel="train images", xlim=(-0.5, None))
    ax.grid(False, axis="x")
    ax.legend(ncols=3)
    sums = {name: int(total) for name, total in counts.sum().items()}
    return figure, sums | {"identities": len(counts), "least": real.min(), "most": real.max()}


@paper_style
def camera_shares(before: pd.DataFrame, after: pd.DataFrame | None = None) -> Drawn:
    """Share of each camera in each identity's images, as a heat map, one panel a manifest.

    A row is one of {identities} identities, the same one in every panel: dark where one camera
    took most of its images, evenly pale where all cameras did.

    Args:
        before: manifest whose train rows are shown, and whose shares order the rows.
        after: the balanced one, in a second panel.
    """
    panels = {"before": before} if after is None else {"before": before, "after": after}
    trains = {t: r[(r["split"] == "train") & (r["camid"] >= 0)] for t, r in panels.items()}
    shares = {t: 100 * pd.crosstab(r.pid, r.camid, normalize="index") for t, r in trains.items()}
    order = shares["before"].max(axis=1).sort_values(ascending=False, kind="stable").index
    figure, axes = new_figure(3.2 * len(panels), 3, 1, len(panels), sharey=True)
    for ax, (title, table) in zip(axes[0], shares.items(), strict=True):
        seaborn.heatmap(
            table.reindex(order), ax=ax, cmap="mako_r", vmin=0, vmax=100, yticklabels=False,
            cbar=ax is axes[0, -1], cbar_kws={"label": "share of its images (%)"},
        )  # fmt: skip
        ax.set(title=title * (len(panels) > 1), xlabel="camera", ylabel="")
    axes[0, 0].set_ylabel("identity, most one-sided first")
    return figure, {"identities": len(order)}


@paper_style
def bias_of_identities(table: pd.DataFrame) -> Drawn:
    """Distributions over identities: camera dominance, near-duplicates, effective images.

    {identities} identities. Effective images (Vendi score): 1 if all images of an identity look
    alike, on the dashed line if all differ.

    Args:
        table: `identity_bias` joined with `image_bias`.
    """
    shares = {
        "dominance": "images from the most\nfrequent camera (%)",
        "near_duplicates": "images that nearly\nrepeat another (%)",
    }
    figure, axes = new_figure(6.8, 2.1, 1, 3)
    for ax, (name, label) in zip(axes[0], shares.items(), strict=False):
        seaborn.histplot(100 * table[name], bins=12, binrange=(0, 100), ax=ax)
        ax.set(xlabel=label, ylabel="identities")
    ax, most = axes[0, 2], table["images"].max()
    seaborn.scatterplot(table, x="images", y="effective_images", s=12, ax=ax)
    ax.plot([1, most], [1, most], color=NEUTRAL, linestyle="--", linewidth=1, label="all differ")
    highest = 1.3 * table["effective_images"].max()
    ax.set(xlabel="images of the identity", ylabel="effective images", ylim=(0, highest))
    ax.legend(loc="lower right")
    return figure, {"identities": len(table)}

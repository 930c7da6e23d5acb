"""Training figures: what is logged is drawn, what is not is refused."""

import pandas as pd
import pytest
import torch

from ddid.report.figures.training import extension_panel, learning_curves

LOG = pd.DataFrame({"step": [1, 2, 3], "clean_cls": [3.0, 2.0, 1.0], "clean_accuracy": [0, 0.5, 1]})


def test_curves_show_each_recipe_where_it_logged():
    logs = {"none": LOG, "ddid": LOG.assign(discriminator_accuracy=[0.9, 0.6, 0.5])}
    axes = learning_curves(logs, smooth=1).axes
    drawn = [[list(line.get_ydata()) for line in ax.lines if len(line.get_xdata())] for ax in axes]
    assert drawn[0] == [[3.0, 2.0, 1.0]] * 2
    assert drawn[2] == [[0.9, 0.6, 0.5], [0.5, 0.5]]


def test_recipes_without_clean_images_show_their_loss():
    log = pd.DataFrame({"step": [1, 2], "loss": [4.0, 3.0], "attacked_cls": [3.0, 2.0]})
    (ax,) = learning_curves({"goat": log}, smooth=1).axes
    assert ax.get_title() == "loss"
    assert list(ax.lines[0].get_ydata()) == [4.0, 3.0]


def test_panel_shows_every_image_with_its_target():
    images = {name: torch.full((3, 8, 4), value) for name, value in (("clean", 0.5), ("far", 0.6))}
    targets = {"clean": torch.tensor([0.9, 0.1]), "far": torch.tensor([0.7, 0.3])}
    axes = extension_panel(images, targets, ["own", "farthest"]).axes
    assert axes[1].get_title() == "far\nmoved ≤ 26/255"
    heights = [bar.get_height() for bar in axes[3].patches]
    assert heights == pytest.approx([0.7, 0.3])

"""Training figures: what is logged is drawn, what is not is refused."""

import pandas as pd
import pytest
import torch

from ddid.data.images import to_uint8
from ddid.defense.fnes import FNES, extend, soften
from ddid.report.figures import style
from ddid.report.figures.training import learning_curves
from tests.cells import code_cells

NOTEBOOK = "03_adversarial_meta_training"

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
    (code,) = (source for source, _ in code_cells(NOTEBOOK) if "def panel(ways)" in source)
    images = torch.full((2, 3, 8, 4), 0.5)
    names = {"style": style, "to_uint8": to_uint8, "extend": extend, "soften": soften}
    names |= {"images": images, "attacked": images + 0.1, "ones": torch.ones(2), "classes": 9}
    names |= {"labels": torch.tensor([3, 4]), "aimed": torch.tensor([5, 3]), "own": 3, "far": 5}
    exec(code, names)
    plain = FNES(gamma=1.0, omega=(0.0, 0.0), shift=0.25)
    axes = names["panel"]({"clean": (1.0, plain), "far": (0.0, plain)}).axes
    assert axes[0].get_title() == "clean"
    assert axes[1].get_title() == "far\nmoved ≤ 26/255"
    heights = [bar.get_height() for bar in axes[3].patches]
    target = soften(names["labels"], names["aimed"], 9, torch.zeros(2), plain)[0]
    assert heights == pytest.approx([float(target[3]), float(target[5])])
    assert heights[1] > float(target[0])

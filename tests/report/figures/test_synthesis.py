"""Figures of synthesis show the images they are given."""

import numpy as np
import torch

from ddid.report.figures.synthesis import (
    guidance_grid,
    kept_and_rejected,
    real_beside_synthetic,
    told_and_drawn,
)


def shown(figure):
    (ax,) = figure.axes
    heads = [label.get_text() for label in ax.get_xticklabels()]
    return np.asarray(ax.images[0].get_array()), heads


def test_what_was_told_stands_above_what_was_drawn():
    rows = {"told": torch.zeros(2, 3, 8, 4), "drawn": torch.full((2, 3, 8, 4), 200)}
    sheet, heads = shown(told_and_drawn({name: row.byte() for name, row in rows.items()}))
    assert heads == []
    assert (sheet[2:10, 2:6].max(), sheet[12:20, 2:6].min()) == (0, 200)


def test_guidance_is_labelled_on_both_sides():
    figure = guidance_grid({"5": torch.zeros(2, 3, 8, 4).byte()}, ["1 / 1", "2 / 1"])
    assert shown(figure)[1] == ["1 / 1", "2 / 1"]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "5"


def test_missing_synthetic_images_stay_white():
    real = torch.zeros(3, 3, 8, 4, dtype=torch.uint8)
    figure = real_beside_synthetic({"7": (real, real[:1])}, columns=2)
    sheet, heads = shown(figure)
    assert heads == ["", "real", "", "synthetic"]
    assert sheet[2:, 14:18].max() == 0
    assert (sheet[:, -4:] == 255).all()


def test_verdicts_show_several_identities():
    images = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 3, 8, 4)
    sheet, _ = shown(kept_and_rejected({"kept": images, "copy": images[:1]}, columns=3))
    assert [int(sheet[5, x, 0]) for x in (3, 9, 15)] == [0, 4, 8]
    assert [int(sheet[15, x, 0]) for x in (3, 9, 15)] == [0, 255, 255]

"""Sheets show the images they are given."""

import numpy as np
import torch

from ddid.report.figures.images import filled, image_sheet


def shown(figure):
    (ax,) = figure.axes
    heads = [label.get_text() for label in ax.get_xticklabels()]
    return np.asarray(ax.images[0].get_array()), heads


def test_rows_stand_below_each_other():
    rows = {"told": torch.zeros(2, 3, 8, 4), "drawn": torch.full((2, 3, 8, 4), 200)}
    sheet, heads = shown(image_sheet({name: row.byte() for name, row in rows.items()}))
    assert heads == []
    assert (sheet[2:10, 2:6].max(), sheet[12:20, 2:6].min()) == (0, 200)


def test_a_sheet_is_labelled_on_both_sides_and_says_what_to_see():
    images = torch.zeros(2, 3, 8, 4).byte()
    figure = image_sheet({"5": images}, ["1 / 1", "2 / 1"], caption="Look at {this}.")
    assert shown(figure)[1] == ["1 / 1", "2 / 1"]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "5"
    assert [text.get_text() for text in figure.texts] == ["Look at {this}."]


def test_missing_images_are_white():
    images = torch.zeros(3, 3, 8, 4, dtype=torch.uint8)
    assert torch.equal(filled(images, 2), images[:2])
    assert (filled(images, 4)[3] == 255).all()

"""Figures of synthesis show the images they are given."""

import numpy as np
import pandas as pd
import torch

from ddid.report.figures.synthesis import (
    exemplar_views,
    kept_and_rejected,
    real_beside_synthetic,
    solver_curves,
)


def shown(figure):
    (ax,) = figure.axes
    heads = [label.get_text() for label in ax.get_xticklabels()]
    return np.asarray(ax.images[0].get_array()), heads


def test_an_exemplar_is_shown_beside_the_person_s_place_camera_by_camera():
    views = torch.rand(2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    person = torch.linspace(0, 1, 32).view(8, 4)
    sheet, heads = shown(exemplar_views(person, views, (3, 5)))
    assert heads == ["person", "3", "5"]
    assert sheet[2:, 2:6, 0].argmax() == 31
    expected = (views[1].permute(1, 2, 0) * 255).round().byte().numpy()
    assert np.array_equal(sheet[2:, -4:], expected)


def test_missing_synthetic_images_stay_white():
    real = torch.zeros(3, 3, 8, 4, dtype=torch.uint8)
    figure = real_beside_synthetic({"7": (real, real[:1])}, columns=2)
    sheet, heads = shown(figure)
    assert heads == ["", "real", "", "synthetic"]
    assert sheet[2:, 14:18].max() == 0
    assert (sheet[:, -4:] == 255).all()


def test_verdicts_show_several_identities():
    images = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 3, 8, 4)
    sheet, _ = shown(kept_and_rejected({"kept": (images, 9), "copy": (images[:1], 1)}, columns=3))
    assert [int(sheet[5, x, 0]) for x in (3, 9, 15)] == [0, 4, 8]
    assert [int(sheet[15, x, 0]) for x in (3, 9, 15)] == [0, 255, 255]


def test_solver_figure_says_what_counts_as_exact():
    rows = [
        (solver, n, n * 2 - (solver == "heun")) for solver in ("heun", "multistep") for n in (6, 12)
    ]
    table = pd.DataFrame(rows, columns=["solver", "steps", "evaluations"]).assign(error=0.1)
    figure = solver_curves(table)
    assert "in 48 steps" in figure.texts[0].get_text().replace("\n", " ")
    names = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert names == {"heun", "multistep"}

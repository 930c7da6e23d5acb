"""Figures of synthesis show the images they are given."""

import numpy as np
import pandas as pd
import torch

from ddid.report.figures.synthesis import exemplar_views, real_beside_synthetic, solver_curves


def test_an_exemplar_is_shown_beside_the_person_s_place_camera_by_camera():
    views = torch.rand(2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    person = torch.linspace(0, 1, 32).view(8, 4)
    axes = exemplar_views(person, views, (3, 5)).axes
    assert [ax.get_title() for ax in axes] == ["person", "camera 3", "camera 5"]
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    assert shown[0][..., 0].argmax() == 31
    assert np.array_equal(shown[2], (views[1].permute(1, 2, 0) * 255).round().byte().numpy())


def test_missing_synthetic_images_stay_white():
    real = torch.zeros(3, 3, 8, 4, dtype=torch.uint8)
    left, right = real_beside_synthetic({"7": (real, real[:1])}, columns=2).axes
    assert [ax.get_title() for ax in (left, right)] == ["real", "synthetic"]
    assert np.asarray(left.images[0].get_array()).min() == 0
    assert (np.asarray(right.images[0].get_array())[:, -4:] == 255).all()


def test_solver_costs_are_labelled_without_overlap():
    rows = [
        (solver, n, n * 2 - (solver == "heun")) for solver in ("heun", "multistep") for n in (6, 12)
    ]
    table = pd.DataFrame(rows, columns=["solver", "steps", "evaluations"]).assign(error=0.1)
    (axes,) = solver_curves(table).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["11", "23"]
    assert {line.get_label() for line in axes.lines} == {"heun", "multistep"}

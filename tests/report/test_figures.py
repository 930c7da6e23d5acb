"""Figures show what they are given; their looks are judged by eye."""

import importlib
import inspect
import pkgutil

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from ddid.report import figures
from ddid.report.embedding import Projection
from ddid.report.figures.bias import images_per_identity
from ddid.report.figures.embedding import embedding_maps, similarity_histograms
from ddid.report.figures.images import attention_maps
from ddid.report.figures.ranking import Answers, attack_card, ranked_lists
from ddid.report.figures.style import (
    RIGHT,
    WRONG,
    new_figure,
    paper_style,
    pictures,
    show_image,
)

PICTURES = np.arange(3 * 8 * 4 * 3, dtype=np.uint8).reshape(3, 8, 4, 3)


def frame(axes) -> tuple[float, ...] | None:
    spine = axes.spines["left"]
    return to_rgb(spine.get_edgecolor()) if spine.get_visible() else None


def shown(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_the_style_leaves_no_trace():
    before = dict(matplotlib.rcParams)

    @paper_style
    def broken():
        """Draw nothing.

        No caption.
        """
        raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert dict(matplotlib.rcParams) == before


def captions() -> dict[str, str]:
    """Every figure with words of its own, which stand between first line and arguments."""
    found = {}
    for module in pkgutil.iter_modules(figures.__path__, "ddid.report.figures."):
        for name, draw in vars(importlib.import_module(module.name)).items():
            if hasattr(draw, "__wrapped__") and draw.__module__ == module.name:
                text = inspect.getdoc(draw).partition("\n\n")[2]
                found[name] = text.partition("Args:")[0]
    return {name: text for name, text in found.items() if text.strip() != "{caption}"}


@pytest.mark.parametrize(("name", "caption"), captions().items(), ids=lambda x: x.split()[0])
def test_every_figure_has_a_caption(name, caption):
    assert len(caption.split()) > 10, f"{name} does not say what to see"


def test_a_caption_names_its_numbers_and_stands_below_the_picture():
    @paper_style
    def drawn():
        """Draw nothing.

        Of {count} things.

        Args:
            None.
        """
        return new_figure(2, 2)[0], {"count": 3}

    (text,) = drawn().texts
    assert text.get_text() == "Of 3 things."
    assert text.get_position()[1] < 0


def test_axes_are_always_a_grid():
    assert new_figure(2, 2)[1].shape == (1, 1)
    assert new_figure(2, 2, 2, 3)[1].shape == (2, 3)


def test_pictures_are_what_matplotlib_draws():
    images = torch.tensor([[[[0, 255]], [[128, 0]], [[255, 51]]]], dtype=torch.uint8)
    assert pictures(images)[0, 0].tolist() == [[0, 128, 255], [255, 0, 51]]


def test_an_image_is_shown_as_it_is_with_its_frame():
    _, axes = new_figure(2, 2, 1, 2)
    show_image(axes[0, 0], PICTURES[0], frame=RIGHT)
    show_image(axes[0, 1], PICTURES[0])
    assert np.array_equal(shown(axes[0, 0]), PICTURES[0])
    assert [frame(cell) for cell in axes[0]] == [RIGHT, None]


def test_ranked_lists_frame_right_and_wrong_answers():
    rows = [
        Answers("first", PICTURES[0], PICTURES, np.array([True, False, True])),
        Answers("second", PICTURES[1], PICTURES[:2], np.array([False, False])),
    ]
    axes = np.array(ranked_lists(rows).axes).reshape(2, 4)
    assert [frame(cell) for cell in axes[0]] == [None, RIGHT, WRONG, RIGHT]
    assert [frame(cell) for cell in axes[1, :3]] == [None, WRONG, WRONG]
    assert np.array_equal(shown(axes[1, 0]), PICTURES[1])
    assert not axes[1, 3].images


def test_an_attack_card_has_its_pictures_then_two_lists():
    lists = [Answers(label, PICTURES[0], PICTURES, np.ones(3, bool)) for label in ("a", "b")]
    card = attack_card("caption", {"image": PICTURES[1], "attacked": PICTURES[2]}, lists)
    axes = np.array(card.axes).reshape(3, 4)
    assert [cell.get_title() for cell in axes[0, :2]] == ["image", "attacked"]
    assert axes[0, 2].texts[0].get_text() == "caption"
    assert [line[0].get_ylabel() for line in axes[1:]] == ["a", "b"]


def test_a_map_without_heat_leaves_the_picture_alone():
    cold, hot = np.zeros((3, 8, 4)), np.ones((3, 8, 4))
    figure = attention_maps(PICTURES, {"cold": (PICTURES, cold), "hot": (PICTURES, hot)})
    axes = np.array(figure.axes[:9]).reshape(3, 3)
    for row, picture in zip(axes, PICTURES, strict=True):
        assert all(np.array_equal(shown(cell), picture) for cell in row)
        assert [cell.images[1].get_alpha().max() > 0 for cell in row[1:]] == [False, True]
    assert figure.axes[-1].get_ylabel() == "share of the image's\nlargest contribution"


def test_a_line_joins_each_shown_query_to_its_attacked_place():
    generator = np.random.default_rng(0)
    points = Projection(
        *(generator.normal(size=(n, 2)) for n in (6, 4, 4)), np.array([0, 1, 2, 3, 4, 7])
    )
    query_pids, gallery_pids = np.array([1, 1, 2, 3]), np.array([1, 1, 2, 2, 3, 1, 1, 0])
    figure = embedding_maps({"none": points, "ddid": points}, query_pids, gallery_pids, [1, 3])
    assert [cell.get_title() for cell in figure.axes] == ["none", "ddid"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["gallery", "clean query", "attacked query", "identity 1", "identity 3"]
    lines = [c.get_segments() for c in figure.axes[0].collections if hasattr(c, "get_segments")]
    assert [len(segments) for segments in lines] == [2, 1]
    assert np.allclose(lines[1][0], [points.clean[3], points.attacked[3]])


def test_similarities_are_counted_per_model():
    table = pd.DataFrame({"own, clean": [0.9, 0.9, 0.1], "own, attacked": [0.2, 0.2, 0.2]})
    figure = similarity_histograms({"none": table, "ddid": table})
    assert [cell.get_title() for cell in figure.axes] == [
        f"{model}, {state}" for state in ("clean", "attacked") for model in ("none", "ddid")
    ]
    assert figure.texts[-1].get_text().startswith("3 queries")


def test_bars_of_many_people_are_not_drawn_over_by_their_edges():
    share = {}
    for people in (50, 751):
        rows = [(pid, "train", "real") for pid in range(1, people + 1) for _ in range(10)]
        figure = images_per_identity(pd.DataFrame(rows, columns=["pid", "split", "origin"]))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        red, _, blue, _ = np.moveaxis(np.asarray(canvas.buffer_rgba()).astype(int), -1, 0)
        share[people] = (blue - red > 60).mean()
    assert share[751] > 0.8 * share[50] > 0.1

"""Ranked lists with right and wrong answers framed, alone or below the attack that changed them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ddid.report.figures import style
from ddid.report.figures.style import Drawn, new_figure, paper_style, show_image


@dataclass(frozen=True)
class Answers:
    """One query and its nearest gallery images; pictures are uint8 (H, W, 3)."""

    label: str
    query: np.ndarray
    gallery: np.ndarray  # (k, H, W, 3), nearest first
    right: np.ndarray  # (k,) bool
    notes: Sequence[str] = ()  # k lines to write below the gallery images
    judged: bool = True  # False: of a stranger, to whom no answer is right or wrong


@paper_style
def ranked_lists(rows: Sequence[Answers]) -> Drawn:
    """One line a query: the query, then its answers from the nearest.

    Gallery images from the most similar, numbered. Green, ✓: the right person, in another camera;
    orange, ✗: a stranger.
    """
    return _lists(rows), {}


@paper_style
def attack_card(text: str, pictures: Mapping[str, np.ndarray], lists: Sequence[Answers]) -> Drawn:
    """What an attack does to one query: pictures, text, ranked lists.

    Gallery images from the most similar, numbered; below them cosine similarity and camera. Green,
    ✓: the right person, in another camera; orange, ✗: a stranger.

    Args:
        text: what was done, beside the pictures.
        pictures: title → (H, W, 3).
        lists: before and after, for each model.
    """
    figure = _lists(lists, len(pictures) + 1)
    for cell, (title, picture) in zip(figure.axes, pictures.items(), strict=False):
        cell.set_axis_on()
        show_image(cell, picture, title)
    cell = figure.axes[len(pictures)]
    cell.text(0, 1, text, fontsize=8, transform=cell.transAxes, va="top", in_layout=False)
    return figure, {}


def _lists(rows: Sequence[Answers], above: int = 0) -> Figure:
    """Lists, one a line; an empty line of at least `above` cells on top if that is not 0."""
    columns = max(above, *(1 + len(row.gallery) for row in rows))
    lines = len(rows) + bool(above)
    figure, axes = new_figure(0.62 * columns, 1.4 * lines, lines, columns)
    for cell in axes.flat:
        cell.set_axis_off()
    for line, row in zip(axes[bool(above) :], rows, strict=True):
        show_image(line[0], row.query, "query")
        line[0].set_axis_on()
        line[0].set_ylabel(row.label, fontsize=7)
        for place, (cell, right) in enumerate(zip(line[1:], row.right, strict=False)):
            cell.set_axis_on()
            mark, frame = ("✓", style.RIGHT) if right else ("✗", style.WRONG)
            mark, frame = (mark, frame) if row.judged else ("", style.NEUTRAL)
            show_image(cell, row.gallery[place], f"{place + 1} {mark}", frame)
            cell.set_xlabel("".join(row.notes[place : place + 1]), fontsize=6)
    return figure

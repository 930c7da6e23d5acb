"""Ranked lists with right and wrong answers framed, alone or below the attack that changed them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from ddid.report.figures.style import RIGHT, WRONG, new_figure, paper_style, show_image


@dataclass(frozen=True)
class Answers:
    """One query and its nearest gallery images; pictures are uint8 (H, W, 3)."""

    label: str
    query: np.ndarray
    gallery: np.ndarray  # (k, H, W, 3), nearest first
    right: np.ndarray  # (k,) bool


@paper_style
def ranked_lists(rows: Sequence[Answers]) -> Figure:
    """One line a query: the query, then its answers from the nearest; right green, wrong red."""
    figure, axes = _grid(len(rows), max(len(row.gallery) for row in rows))
    for line, row in zip(axes, rows, strict=True):
        _draw(line, row)
    return figure


@paper_style
def attack_card(
    caption: str, pictures: dict[str, np.ndarray], before: Answers, after: Answers
) -> Figure:
    """What an attack does to one query: pictures (title → (H, W, 3)), caption, two ranked lists."""
    figure, axes = _grid(3, max(len(before.gallery), len(pictures)))
    for cell, (title, picture) in zip(axes[0], pictures.items(), strict=False):
        show_image(cell, picture, title)
    for cell in axes[0, len(pictures) :]:
        cell.set_axis_off()
    place = {"transform": axes[0, len(pictures)].transAxes, "va": "top", "in_layout": False}
    axes[0, len(pictures)].text(0, 1, caption, fontsize=8, linespacing=1.6, **place)
    _draw(axes[1], before)
    _draw(axes[2], after)
    return figure


def _grid(lines: int, answers: int) -> tuple[Figure, np.ndarray]:
    return new_figure(0.62 * (answers + 1), 1.35 * lines, lines, answers + 1)


def _draw(line: np.ndarray, row: Answers) -> None:
    for cell in line:
        cell.set_axis_off()
    show_image(line[0], row.query, "query")
    line[0].set_axis_on()
    line[0].set_ylabel(row.label, fontsize=7)
    for place, (cell, picture, right) in enumerate(
        zip(line[1:], row.gallery, row.right, strict=False), start=1
    ):
        cell.set_axis_on()
        mark = f"{place} ✓" if right else f"{place} ✗"
        show_image(cell, picture, mark, RIGHT if right else WRONG)

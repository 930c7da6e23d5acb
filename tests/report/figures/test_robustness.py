"""Robustness figures draw what the table says."""

import pandas as pd
import pytest

from ddid.report.figures.robustness import budget_curves, identity_spread, robustness_bars

FAMILIES = {"patch": "unseen", "worst": "worst", "fna": "standard", "clean": "clean"}
TABLE = pd.DataFrame(
    [
        {"model": model, "attack": attack, "family": family, "metric": metric, "value": value}
        for model in ("none", "ddid")
        for (attack, family), value in zip(FAMILIES.items(), (10, 20, 30, 40), strict=True)
        for metric in ("mAP", "rank1")
    ]
)


def test_bars_are_grouped_by_family_and_as_high_as_the_table():
    ax = robustness_bars(TABLE).axes[0]
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["clean", "FNA", "worst case", "patch"]
    assert [bar.get_height() for bar in ax.containers[1]] == [40, 30, 20, 10]


def test_curves_start_at_the_clean_score():
    table = pd.concat([TABLE.assign(eps=level / 255) for level in (4, 8)])
    ax = budget_curves({"eps": table}).axes[0]
    line = next(line for line in ax.lines if len(line.get_xdata()))
    assert list(line.get_xdata()) == pytest.approx([0, 4, 8])
    assert list(line.get_ydata()) == [40, 30, 30]


def test_spread_shows_every_identity_once():
    ax = identity_spread({"clean": {"none": [50.0, 10.0], "ddid": [20.0, 40.0, 30.0]}}).axes[0]
    assert list(ax.lines[0].get_xdata()) == [10.0, 50.0]
    assert len(ax.lines[1].get_xdata()) == 3

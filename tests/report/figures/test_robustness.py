"""Robustness figures draw what the rankings and the table say."""

import pandas as pd
import pytest

from ddid.report.figures.robustness import budget_curves, identity_spread, robustness_bars

TABLE = pd.DataFrame(
    [
        {"model": model, "attack": attack, "metric": metric, "value": value}
        for model in ("none", "ddid")
        for attack, value in (("patch", 10), ("fna", 30), ("clean", 40))
        for metric in ("mAP", "rank1")
    ]
)


def queries(**models) -> pd.DataFrame:
    """Rows of `Robustness.queries`: model → attack → one AP (percent) for each of `pids`."""
    rows = []
    for model, (pids, attacks) in models.items():
        for attack, values in attacks.items():
            scores = {"query": range(len(pids)), "pid": pids, "ap": values}
            rows.append(pd.DataFrame(scores).assign(model=model, attack=attack))
    return pd.concat(rows).assign(rank1=lambda found: 100 * (found["ap"] >= 50))


TWO = queries(
    none=([1, 2], {"clean": [50, 10], "fna": [20, 0]}),
    ddid=([1, 2], {"clean": [20, 40], "fna": [20, 20]}),
)


def test_bars_are_means_over_the_queries_in_the_order_given():
    figure = robustness_bars(TWO)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["clean", "fna"]
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers[:2]]
    assert heights == [pytest.approx([30, 10]), pytest.approx([30, 20])]
    assert "2 queries of 2 identities" in figure.texts[0].get_text()


def test_bars_over_fewer_queries_are_named():
    few = queries(none=([1, 2], {"clean": [50, 10]})), queries(none=([1], {"square": [20]}))
    told = robustness_bars(pd.concat(few)).texts[0].get_text()
    assert "2 queries of 2 identities (of which square 1)" in " ".join(told.split())


def test_bars_stand_under_their_attacks_family():
    many = {name: [30, 10] for name in ("clean", "fna", "sma", "gallery", "patch", "worst")}
    (ax,) = robustness_bars(queries(none=([1, 2], many))).axes
    families = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert families == {"": 0, "standard": 1.5, "gallery": 3, "unseen": 4, "in short": 5}


def test_an_interval_is_over_identities_not_over_queries():
    """Twenty alike queries of one identity say no more than one of them."""
    alike = queries(none=([1] * 20 + [2] * 20, {"clean": [10] * 20 + [50] * 20}))
    ends = [line.get_ydata() for line in robustness_bars(alike).axes[0].lines]
    assert ends[0] == pytest.approx([10, 50])


def test_curves_start_at_the_clean_score():
    parts = [TABLE.assign(budget=f"eps_{n}", eps=n / 255, steps=15) for n in (4, 8)]
    figure = budget_curves(pd.concat(parts), queries=7, mark=4)
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()))
    assert list(line.get_xdata()) == pytest.approx([0, 4, 8])
    assert list(line.get_ydata()) == [40, 30, 30]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [4, 4]
    assert "7 queries" in figure.texts[0].get_text()


def test_spread_shows_every_identity_once():
    many = queries(none=([1, 2, 2], {"clean": [50, 10, 30]}))
    figure = identity_spread(many, ["clean"])
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert list(line.get_xdata()) == pytest.approx([20, 50])
    assert list(line.get_ydata()) == pytest.approx([50, 100])
    assert "none: clean 15.0" in figure.texts[0].get_text().replace("\n", " ")

"""What an experiment's figure shows is what the rows say."""

import pandas as pd
import pytest

from ddid.errors import InputError
from ddid.report.figures.experiment import seed_dots

ROWS = pd.DataFrame(
    [
        (name, seed, attack, metric, value + slope * seed)
        for name, value, slope in (("none", 10.0, 1), ("hm", 30.0, 1), ("ddid", 40.0, 2))
        for seed in (0, 2)
        for attack in ("clean", "fna")
        for metric in ("mAP", "rank1")
    ],
    columns=["recipe", "seed", "attack", "metric", "value"],
)


def test_every_mean_gain_stands_in_the_line_of_its_name_paired_by_seed():
    axes = seed_dots(ROWS, ("clean", "worst", "fna"), "none").axes
    assert [ax.get_title() for ax in axes] == ["clean", "fna"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["hm", "ddid"]
    for ax in axes:
        points = [line for line in ax.lines if len(line.get_xdata()) == 2]
        assert points[0].get_xdata() == pytest.approx([20.0, 31.0])
        seeds = [tuple(x) for dots in ax.collections for x in dots.get_offsets().tolist()]
        assert sorted(seeds) == [(20.0, 0.0), (20.0, 0.0), (30.0, 1.0), (32.0, 1.0)]


def test_nothing_gains_over_what_is_not_there():
    with pytest.raises(InputError, match="no row of 'gpt'"):
        seed_dots(ROWS, ("clean",), "gpt")

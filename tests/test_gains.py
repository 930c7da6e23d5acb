"""Gains and their intervals: paired, monotone, and as wide as a plain loop finds them."""

import numpy as np
import pandas as pd
import pytest

from ddid.gains import bootstrap, gains_of

GROUPS = [np.random.default_rng(seed).normal(seed, 3, 40) for seed in range(3)]


def test_the_bootstrap_draws_as_a_loop_would():
    draw = np.random.default_rng(7)
    means = []
    for _ in range(3000):
        seeds = [GROUPS[draw.integers(len(GROUPS))] for _ in GROUPS]
        means.append(np.mean([draw.choice(own, len(own)).mean() for own in seeds]))
    fast = bootstrap(GROUPS, 3000)
    for level in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(fast, level) == pytest.approx(np.quantile(means, level), abs=0.1)


def gain_of(groups):
    """Gain and interval of `mine` over `none`, whose AP is 0 throughout."""
    found = [(seed, query, ap) for seed, own in enumerate(groups) for query, ap in enumerate(own)]
    rows = pd.DataFrame(found, columns=["seed", "query", "ap"]).assign(recipe="mine", attack="fna")
    (row,) = gains_of(pd.concat([rows, rows.assign(recipe="none", ap=0.0)]), "recipe", ["none"])[
        ["gain", "low", "high"]
    ].to_numpy()
    return tuple(row)


def test_gains_that_are_all_alike_have_no_interval():
    assert gain_of([np.full(5, 2.0), np.full(9, 2.0)]) == (2.0, 2.0, 2.0)


def test_a_shift_moves_the_interval_with_it():
    gain, low, high = gain_of(GROUPS)
    assert low < gain < high
    assert gain_of([own + 5 for own in GROUPS]) == pytest.approx((gain + 5, low + 5, high + 5))


def test_only_queries_that_both_were_asked_count():
    rows = pd.DataFrame(
        [
            ("a", 0, "fna", "x", 10.0), ("a", 0, "fna", "y", 20.0), ("a", 1, "fna", "x", 30.0),
            ("b", 0, "fna", "x", 13.0), ("b", 1, "fna", "x", 34.0), ("b", 1, "fna", "z", 99.0),
        ],
        columns=["recipe", "seed", "attack", "query", "ap"],
    )  # fmt: skip
    (row,) = gains_of(rows, "recipe", ["a", "missing"]).to_dict("records")
    assert (row["recipe"], row["over"], row["attack"], row["pairs"]) == ("b", "a", "fna", 2)
    assert row["gain"] == 3.5
    assert (row["low"], row["high"]) == (3.0, 4.0)

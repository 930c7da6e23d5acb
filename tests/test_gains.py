"""Gains and their intervals: paired, monotone, and as wide as a plain loop finds them."""

import numpy as np
import pandas as pd
import pytest

from ddid.errors import InputError
from ddid.gains import gains_of
from ddid.metric.bootstrap import bootstrap

GROUPS = [np.random.default_rng(seed).normal(seed, 3, 40) for seed in range(3)]


def test_the_bootstrap_draws_as_a_loop_would():
    """Seeds, then people with all their queries; wider by what resampling few seeds leaves out."""
    draw = np.random.default_rng(7)
    people = [[own[start : start + 1 + start % 3] for start in range(0, 40, 3)] for own in GROUPS]
    means = []
    for _ in range(3000):
        seeds = [people[draw.integers(len(people))] for _ in people]
        chosen = [[own[k] for k in draw.integers(len(own), size=len(own))] for own in seeds]
        means.append(np.mean([np.concatenate(own).mean() for own in chosen]))
    sums = [np.array([[len(who) * who.mean(), len(who)] for who in own]) for own in people]
    fast = bootstrap(sums, 3000)
    for level in (0.025, 0.25, 0.5, 0.75, 0.975):
        wider = np.mean(means) + 1.5**0.5 * (np.quantile(means, level) - np.mean(means))
        assert np.quantile(fast, level) == pytest.approx(wider, abs=0.12)


def test_queries_of_one_person_are_no_independent_witnesses():
    """The same gains, ten queries of each of four people or of forty people: a wider interval."""
    gains = np.repeat([0.0, 2.0, 4.0, 6.0], 10)
    rows = pd.DataFrame({"query": range(40), "ap": gains, "seed": 0, "attack": "fna"})
    widths = []
    for people in (range(40), np.repeat(range(4), 10)):
        mine = rows.assign(recipe="mine", pid=people)
        both = pd.concat([mine, mine.assign(recipe="none", ap=0.0)])
        (row,) = gains_of(both, "recipe", ["none"]).to_dict("records")
        widths.append(row["high"] - row["low"])
    assert widths[1] > 2 * widths[0]


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


def test_few_people_who_differ_from_seed_to_seed_have_an_interval_all_the_same():
    rows = pd.DataFrame({"pid": range(12), "query": range(12), "ap": np.arange(12.0)})
    rows = rows.assign(seed=rows["pid"] // 4, attack="fna", people="everybody")
    both = pd.concat([rows.assign(recipe="mine"), rows.assign(recipe="none", ap=0.0)])
    (row,) = gains_of(both, "recipe", ["none"]).to_dict("records")
    assert row["low"] < row["gain"] < row["high"]


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
    reach = 0.5 * 2**0.5  # two seeds of one query each, and widened
    assert (row["low"], row["high"]) == pytest.approx((3.5 - reach, 3.5 + reach), abs=0.05)


def test_intervals_of_few_seeds_are_as_sure_as_the_docstring_says():
    """Of three simulated seeds with no gain, how often the interval says so."""
    draw = np.random.default_rng(1)

    def covered(spread):
        hits = 0
        for _ in range(120):
            people = draw.normal(draw.normal(0, spread, 3)[:, None], 48**0.5, (3, 48))
            groups = [np.stack([4 * own, np.full(48, 4)], 1) for own in people]
            low, high = np.quantile(bootstrap(groups, 200), [0.025, 0.975])
            hits += low <= 0 <= high
        return hits / 120

    assert covered(0) > 0.95
    assert 0.7 < covered(3.5) < 0.93


def test_seeds_do_not_average_away_people_whom_all_of_them_share():
    """Six trainings asked the same forty people: that these are chance, more seeds do not mend."""
    person = np.random.default_rng(3).normal(0, 6, 40)
    rows = pd.DataFrame(
        [(seed, k, gain) for seed in range(6) for k, gain in enumerate(person)],
        columns=["seed", "query", "ap"],
    ).assign(attack="fna", recipe="mine")
    both = pd.concat([rows, rows.assign(recipe="none", ap=0.0)])
    widths = {}
    for people in ("own", "shared"):
        named = both.assign(people=both["seed"] if people == "own" else 0)
        (row,) = gains_of(named, "recipe", ["none"]).to_dict("records")
        widths[people] = row["high"] - row["low"]
    assert widths["shared"] == pytest.approx(2 * 1.96 * person.std() / 40**0.5 * 1.2**0.5, rel=0.1)
    assert widths["own"] < 0.6 * widths["shared"]


def test_seeds_that_asked_different_people_of_one_set_are_paired_by_person():
    """Whom a seed did not ask adds nothing there, and their number is no other seed's."""
    rows = pd.DataFrame(
        [(seed, k, float(k % 7)) for seed in range(3) for k in range(120) if k % (seed + 1) == 0],
        columns=["seed", "query", "ap"],
    ).assign(attack="fna", recipe="mine", people=0)
    both = pd.concat([rows, rows.assign(recipe="none", ap=0.0)])
    (row,) = gains_of(both, "recipe", ["none"]).to_dict("records")
    assert row["low"] < 3.0 < row["high"] < row["low"] + 2.0


def test_runs_that_differ_in_something_else_are_not_averaged():
    rows = pd.DataFrame({"query": [0, 0], "ap": [1.0, 9.0], "seed": 0, "attack": "fna"})
    with pytest.raises(InputError, match="differ in more than recipe"):
        gains_of(rows.assign(recipe="mine"), "recipe", ["none"])

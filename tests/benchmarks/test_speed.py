"""The benchmarks run and keep their memory; times are read from their table, never asserted."""

import math

import pytest

from tests.benchmarks import attack_step, data, ranking, training_step
from tests.benchmarks.timing import compare


def is_measured(row):
    return row["measured"] > 0 and row["floor"] > 0 and math.isfinite(row["ratio"])


def test_a_ratio_is_of_what_was_measured_to_its_floor():
    row = compare("sums", lambda: sum(range(2000)), lambda: sum(range(1000)))
    assert is_measured(row)
    assert row["ratio"] == pytest.approx(row["measured"] / row["floor"], rel=0.01)


@pytest.mark.slow
def test_ranking_stays_in_memory():
    time, memory = ranking.rows(repeats=1, queries=512)  # whose scores alone would be 2 GiB
    assert is_measured(time)
    assert memory["measured"] < ranking.LIMIT, memory


@pytest.mark.slow
def test_reading_again_is_quick_and_measuring_bias_stays_in_memory():
    again, nearest, memory = data.rows(images=400)
    assert again["ratio"] < 0.5, again
    assert is_measured(nearest)
    assert memory["ratio"] < 2, memory


@pytest.mark.slow
def test_an_attack_needs_no_more_memory_than_its_bare_passes():
    *times, memory = attack_step.rows()
    assert all(is_measured(row) for row in times)
    assert memory["ratio"] < 1.1, memory


@pytest.mark.slow
def test_training_steps_are_measured_for_every_listed_recipe():
    rows = [training_step.row(name) for name in training_step.RECIPES]
    assert rows
    assert all(is_measured(row) for row in rows)

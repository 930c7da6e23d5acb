"""Progress: few lines, nested bars, words for times."""

import io
import json
import sys
import time

import pytest

from ddid import progress
from ddid.progress import overall, progress_bars, progress_lines, progress_told


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def lines(monkeypatch):
    """Lines told of tasks, given as (name, done, total), each step of which takes some seconds."""

    def told(tasks, seconds):
        now, stream = [0.0], io.StringIO()
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        tell = progress_lines(stream)
        for task in tasks:
            now[0] += seconds
            tell(*task)
        return stream.getvalue().splitlines()

    return told


def test_without_a_terminal_short_tasks_leave_a_line_now_and_then(lines):
    tasks = [(f"attack {task}", done, 32) for task in range(35) for done in range(1, 33)]
    found = lines(tasks, seconds=0.02)
    assert len(found) <= 6
    assert found[0] == "    attack 0: 1/32"


def test_a_long_task_tells_its_remaining_time_and_its_end(lines):
    found = lines([("training", done, 100) for done in range(1, 101)], seconds=1)
    assert len(found) == 11
    assert found[5] == "    training: 51/100, 49 seconds left"
    assert found[-1] == "    training: 100/100"


def test_a_resumed_task_is_timed_by_what_it_did_itself(lines):
    found = lines([("training", done, 950) for done in range(901, 922)], seconds=1)
    assert found[1] == "    training: 911/950, 39 seconds left"


def test_bars_are_nested_and_leave_nothing_if_they_were_short(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(progress, "SECONDS_WORTH_A_BAR", 0)
    bars = progress_bars()
    for step in range(1, 4):
        bars("training", step, 4)
        for inner in range(1, 3):
            bars("attack", inner, 2)
        assert list(bars.open) == ["training"]
    bars("training", 4, 4)
    assert not bars.open
    shown = stream.getvalue()
    assert "training" in shown
    assert "attack" in shown
    monkeypatch.setattr(progress, "SECONDS_WORTH_A_BAR", 9)
    stream.truncate(0)
    for step in range(1, 5):
        bars("training", step, 4)
    assert stream.getvalue().strip("\0") == ""


@pytest.mark.parametrize("browser", [True, False])
def test_a_notebook_draws_bars_for_a_browser_alone(monkeypatch, browser):
    monkeypatch.setitem(sys.modules, "ipykernel", progress)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if browser:
        monkeypatch.setenv("JPY_SESSION_NAME", "01_bias_analysis.ipynb")
    assert hasattr(progress_bars(), "open") == browser


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_run_shows_what_its_notebook_tells(monkeypatch, tmp_path, kind):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0.01)
    stream, channel = kind(), tmp_path / "told.json"
    channel.write_text('["training of a killed run", 1, 10]')
    with overall(channel, stream, lambda: "notebook 3 of 6, about 6 minutes left") as say:
        say("a table\n")
        tell = progress_told(channel)
        tell("training ddid", 3, 10)
        end = time.monotonic() + 10
        while "training ddid" not in stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    for text in ("a table", "training ddid", "3/10", "notebook 3 of 6, about 6 minutes left"):
        assert text in stream.getvalue()
    assert "killed" not in stream.getvalue()
    assert not channel.exists()


def test_a_notebook_under_a_run_prints_nothing_itself(tmp_path, capsys):
    tell = progress_told(tmp_path / "told.json")
    for done in range(1, 101):
        tell("work", done, 100)
    assert capsys.readouterr() == ("", "")
    assert json.loads((tmp_path / "told.json").read_text()) == ["work", 100, 100]

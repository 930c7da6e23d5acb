"""The sweep: tidy, resumable, and refusing what it does not know."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import yaml

from ddid.errors import InputError
from ddid.experiment import BALANCING, RECIPES, Cell, Sweep, cell_plan, recipe_of
from ddid.sweep import COLUMNS, by_strategy, run_sweep

TINY = {
    "out": "unused",
    "image_height": 32,
    "image_width": 16,
    "train_steps": 2,
    "identities_per_batch": 4,
    "images_per_identity": 2,
    "train_attack_steps": 1,
}


@pytest.fixture
def tiny(tmp_path):
    profile = tmp_path / "tiny.yaml"
    profile.write_text(yaml.safe_dump(TINY))
    return Sweep(str(profile), ("none", "ddid"), (0,), attacks=("fgsm",), unseen=("color",))


@pytest.mark.slow
def test_sweep_is_tidy_and_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    run = {"out": tmp_path / "cells", "csv": tmp_path / "defenses.csv", "workers": 2}
    table = run_sweep(tiny, **run)
    assert list(table.columns) == COLUMNS
    assert not table.duplicated(["recipe", "seed", "domain", "attack", "metric"]).any()
    home = table[table["domain"] == "downtown"]
    wanted = {"clean", "fgsm", "color", "unseen", "worst", "training"}
    assert set(home["attack"]) == wanted
    assert set(table["recipe"]) == {"none", "ddid"}
    one = home[(home["recipe"] == "none") & (home["metric"] == "mAP")].set_index("attack")["value"]
    assert one["unseen"] == pytest.approx(one["color"], rel=1e-3)
    assert one["worst"] <= min(one["clean"], one["fgsm"]) + 1e-3
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*.json")}
    again = run_sweep(tiny, **run)
    pd.testing.assert_frame_equal(table, again)
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").rglob("*.json")}


ORPHANS = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from ddid.sweep import enter_worker

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, enter_worker)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_workers_leave_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = not is_running(worker)
    if not left:
        os.kill(worker, signal.SIGKILL)
    assert left, "the worker goes on without its parent"


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"recipes": ("magic",)}, "no recipe 'magic'"),
        ({"recipes": ("ddid@magic",)}, "no strategy 'magic'"),
        ({"attacks": ("magic",)}, "unknown attack 'magic'"),
        ({"seeds": ()}, "a seed at least"),
        ({"profile": "magic"}, "no profile 'magic'"),
    ],
)
def test_what_it_does_not_know_is_refused_before_anything_runs(wrong, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run_sweep(Sweep(**wrong), tmp_path / "cells", tmp_path / "x.csv")
    assert not (tmp_path / "cells").exists()


def test_the_profile_reaches_the_recipes_and_their_plan(tmp_path):
    plans = []
    for gamma in (1.5, 2.0):
        profile = tmp_path / f"gamma{gamma}.yaml"
        profile.write_text(yaml.safe_dump(TINY | {"fnes_gamma": gamma}))
        cell = Cell(Sweep(str(profile)), "ddid", 0, tmp_path)
        assert recipe_of(cell).fnes.gamma == gamma
        plans.append(cell_plan(cell)["recipe"])
    assert plans[0] != plans[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("street_tail", 1.0), ("data_root", "x"), ("attack_steps", 3), ("recipes", ["none"])],
)
def test_a_profile_that_sets_what_a_sweep_would_ignore_is_refused(name, value, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text(yaml.safe_dump(TINY | {name: value}))
    with pytest.raises(InputError, match=f"sets {name}, but a sweep has its own streets"):
        run_sweep(Sweep(str(profile)), tmp_path / "cells")


def test_a_mistyped_setting_is_named_before_anything_else(tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text(yaml.safe_dump(TINY | {"tran_steps": 2}))
    with pytest.raises(InputError, match="did you mean `train_steps`"):
        run_sweep(Sweep(str(profile)), tmp_path / "cells")


def test_every_recipe_is_in_the_experiment():
    from ddid.defense.recipes import recipes

    assert {name for name in RECIPES if "@" not in name} == recipes().keys()


def test_no_balancing_is_the_plain_recipe(tmp_path):
    plain, named = (Cell(Sweep(), name, 0, tmp_path) for name in ("metric_at", "metric_at@none"))
    assert plain.folder == named.folder
    assert (named.defense, named.strategy) == ("metric_at", "none")


def test_strategies_keep_the_home_domain():
    row = {"seed": 0, "attack": "fna", "metric": "mAP", "profile": "x", "hardware": "y"}
    table = pd.DataFrame(
        [
            row | {"recipe": name, "domain": domain, "value": value}
            for value, (name, domain) in enumerate(
                (name, domain) for name in BALANCING for domain in ("downtown", "campus")
            )
        ]
    )[COLUMNS]
    shaped = by_strategy(table)
    assert shaped["strategy"].tolist() == ["none", "repeat", "classical", "ungated", "gated"]
    assert shaped["value"].tolist() == [0, 2, 4, 6, 8]
    assert list(shaped.columns) == [
        "strategy", "seed", "attack", "metric", "value", "profile", "hardware"
    ]  # fmt: skip

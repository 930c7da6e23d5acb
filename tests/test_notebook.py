import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ddid.errors import InputError
from ddid.files import lock, read_json
from ddid.notebook import REPOSITORY, TOLD, open_run, resolve


@pytest.fixture
def namespace(tmp_path, monkeypatch):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}}
    cell["source"] = ['out = "runs/x"\n', "seed = 0\n"]
    (tmp_path / "01_one.ipynb").write_text(json.dumps({"cells": [cell]}))
    monkeypatch.setattr("ddid.notebook.NOTEBOOKS", tmp_path)
    return {"out": str(tmp_path / "run"), "seed": 3, "other": object()}


def test_opening_a_run_writes_parameters_and_environment(namespace):
    run = open_run("01_one", namespace)
    assert read_json(run.folder / "parameters.json") == {"out": namespace["out"], "seed": 3}
    assert "torch" in read_json(run.folder / "environment.json")["packages"]


def test_opening_a_run_refuses_what_papermill_only_warns_of(namespace):
    namespace |= {"sede": 4, "In": ["# Parameters\nsede = 4"]}
    with pytest.raises(InputError, match="unknown parameter `sede`"):
        open_run("01_one", namespace)


def test_a_folder_is_its_own_runs_and_nobody_elses(namespace, monkeypatch):
    root = Path(namespace["out"])
    with lock(root):
        with pytest.raises(InputError, match="in use by process"):
            open_run("01_one", namespace)
        monkeypatch.setattr(os, "getppid", os.getpid)
        open_run("01_one", namespace).progress("work", 1, 1)
        assert json.loads((root / TOLD).read_text()) == ["work", 1, 1]


def test_records_merge_and_are_collected_for_the_run(namespace):
    run = open_run("01_one", namespace)
    run.record(gini=np.float64(0.5))
    run.record(images=np.arange(2))
    assert read_json(run.root / "metrics.json") == {"01_one": {"gini": 0.5, "images": [0, 1]}}


def test_opening_again_forgets_the_old_record(namespace):
    open_run("01_one", namespace).record(stale=1)
    run = open_run("01_one", namespace)
    run.record(fresh=2)
    assert read_json(run.folder / "metrics.json") == {"fresh": 2}


def test_a_missing_artefact_names_the_notebook_to_run(namespace):
    run = open_run("01_one", namespace)
    with pytest.raises(InputError, match="run notebook 00_zero"):
        run.needs("00_zero", "manifest.csv")
    (run.path("manifest.csv")).write_text("x")
    assert run.needs("01_one", "manifest.csv").read_text() == "x"


def test_the_same_figure_gives_the_same_bytes(namespace):
    run = open_run("01_one", namespace)
    figure = Figure()
    figure.subplots().plot([1, 2])
    first = run.save_figure(figure, "line").data
    assert run.save_figure(figure, "line").data == first
    assert b"Software" not in first


def test_relative_paths_start_at_the_repository(tmp_path):
    assert resolve("runs/demo") == REPOSITORY / "runs/demo"
    assert resolve(tmp_path) == tmp_path

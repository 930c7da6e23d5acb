import errno
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors import SafetensorError

from ddid.errors import InputError
from ddid.files import atomic_write, read_json, write_json
from ddid.notebook import REPOSITORY, open_run, resolve


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


def test_progress_prints_the_end_and_not_every_step(namespace, capsys):
    run = open_run("01_one", namespace)
    for done in range(1, 101):
        run.progress("work", done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["    work: 1/100", "    work: 100/100"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def interrupted():
        with atomic_write(path) as temporary:
            temporary.write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full():
        with atomic_write(path):
            raise error

    with pytest.raises(InputError, match="disk is full"):
        full()
    assert read_json(path) == {"old": 1}


def test_other_errors_pass_through_unchanged(tmp_path):
    def broken():
        with atomic_write(tmp_path / "a.json"):
            raise OSError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        broken()


def test_numbers_that_json_cannot_say_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_broken_json_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")


def test_relative_paths_start_at_the_repository(tmp_path):
    assert resolve("runs/demo") == REPOSITORY / "runs/demo"
    assert resolve(tmp_path) == tmp_path

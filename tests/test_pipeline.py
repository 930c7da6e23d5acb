"""The pipeline on two toy notebooks: order, overrides, resume, failures."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from ddid import pipeline
from ddid.__main__ import main
from ddid.errors import InputError
from ddid.files import lock, read_json, write_json
from ddid.notebook import check_parameters
from ddid.pipeline import run_notebooks, run_profile
from ddid.profiles import parse_setting, plan_run

FIRST = """
from pathlib import Path
from ddid.files import write_json
print("step one")
write_json(Path(out) / "01_one" / "metrics.json", {"seed": seed})
with (Path(out) / "calls.txt").open("a") as calls: calls.write("one ")
"""
SECOND = """
import time
from pathlib import Path
from ddid.errors import InputError
from ddid.files import read_json, write_json
with (Path(out) / "calls.txt").open("a") as calls: calls.write("two ")
time.sleep(wait)
if not ok: raise InputError("the gallery is empty: add images")
before = read_json(Path(out) / "01_one" / "metrics.json")
write_json(Path(out) / "02_two" / "metrics.json", {"seed": before["seed"] * 2})
"""
DRIVER = """
import sys
from pathlib import Path
from ddid import notebook, pipeline, profiles
notebook.NOTEBOOKS = profiles.NOTEBOOKS = Path(sys.argv[1])
profiles.PROFILES = profiles.NOTEBOOKS / "profiles"
pipeline.run_profile("toy", sys.argv[2], ["wait=60.0"], resume=True)
"""


def write_notebook(folder, name, values, code):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    cell = nbformat.v4.new_code_cell(values, metadata={"tags": ["parameters"]})
    notebook.cells = [cell, nbformat.v4.new_code_cell(code)]
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    (folder / "profiles").mkdir(parents=True)
    write_notebook(folder, "01_one", 'out = ""\nseed = 0', FIRST)
    write_notebook(folder, "02_two", 'out = ""\nok = True\nwait = 0.0', SECOND)
    (folder / "profiles/toy.yaml").write_text("out: runs/toy\nseed: 4\n")
    monkeypatch.setattr("ddid.notebook.NOTEBOOKS", folder)
    monkeypatch.setattr("ddid.profiles.PROFILES", folder / "profiles")
    return folder


def calls(root):
    return (root / "calls.txt").read_text().split()


@pytest.mark.usefixtures("notebooks")
def test_settings_name_one_notebook_by_number_or_name_or_all():
    for setting in ("01.seed=3", "one.seed=3", "01_one.seed=3", "seed=3"):
        assert plan_run("toy", Path("x"), [setting])["01_one"]["seed"] == 3
    assert plan_run("toy", Path("x"), ["02_two.ok=false"])["02_two"]["ok"] is False
    assert {plan["out"] for plan in plan_run("toy", Path("x")).values()} == {"x"}
    for wrong in ("seed", "seed=[1"):
        with pytest.raises(InputError, match="--set"):
            parse_setting(wrong)


def test_paths_of_settings_start_at_the_working_directory():
    assert parse_setting("data_root=a/b") == ("data_root", str(Path.cwd() / "a/b"))
    assert parse_setting("data_root=''") == ("data_root", "")


def test_everything_is_checked_before_anything_runs(notebooks, tmp_path):
    assert plan_run("toy", tmp_path, ["seed=5"])["01_one"]["seed"] == 5
    for settings, sentence in [
        (["01.sede=5"], "takes `01.sede`; did you mean `01.seed`"),
        (["02.seed=5"], "takes `02.seed`"),
        (["07.seed=5"], "takes `07.seed`"),
        (["01.seed=1e-3"], "a valid integer"),
    ]:
        with pytest.raises(InputError, match=sentence):
            plan_run("toy", tmp_path, settings)
    (notebooks / "profiles/bad.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="parameter: value"):
        plan_run("bad", tmp_path)
    with pytest.raises(InputError, match="choose one of bad, toy"):
        plan_run("nowhere", tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_notebooks_run_in_order_and_metrics_are_collected(tmp_path, capsys):
    root = run_profile("toy", tmp_path / "run")
    assert calls(root) == ["one", "two"]
    assert read_json(root / "metrics.json") == {"01_one": {"seed": 4}, "02_two": {"seed": 8}}
    assert (root / "02_two/02_two.ipynb").is_file()
    assert "step one" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_resume_repeats_only_what_changed(tmp_path):
    root = run_profile("toy", tmp_path / "run")
    run_profile("toy", root, resume=True)
    assert calls(root) == ["one", "two"]
    run_profile("toy", root, ["02.wait=0.1"], resume=True)
    assert calls(root) == ["one", "two", "two"]
    run_profile("toy", root, ["01.seed=5"], resume=True)
    assert calls(root) == ["one", "two", "two", "one", "two"]
    assert read_json(root / "metrics.json")["02_two"] == {"seed": 10}


@pytest.mark.slow
def test_what_a_notebook_does_not_read_does_not_execute_it_again(notebooks, tmp_path):
    root = run_profile("toy", tmp_path / "run")
    write_notebook(notebooks, "01_one", 'out = ""\nseed = 0', FIRST + "print('a figure')  # new")
    run_profile("toy", root, resume=True)
    assert calls(root) == ["one", "two", "one"], "the first writes what it wrote before"
    write_notebook(
        notebooks, "01_one", 'out = ""\nseed = 0  # a comment', FIRST + "print('a figure')"
    )
    run_profile("toy", root, resume=True)
    assert calls(root) == ["one", "two", "one"]


@pytest.mark.slow
def test_changed_images_under_the_same_names_are_noticed(notebooks, tmp_path):
    (tmp_path / "data").mkdir()
    image = tmp_path / "data" / "1.png"
    image.write_bytes(b"one")
    write_notebook(notebooks, "02_two", 'out = ""\nok = True\nwait = 0.0\ndata_root = ""', SECOND)
    settings = [f"data_root={tmp_path / 'data'}"]
    root = run_profile("toy", tmp_path / "run", settings)
    run_profile("toy", root, settings, resume=True)
    assert calls(root) == ["one", "two"]
    image.write_bytes(b"two!")
    run_profile("toy", root, settings, resume=True)
    assert calls(root) == ["one", "two", "two"]


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_a_damaged_artefact_is_made_again(tmp_path):
    root = run_profile("toy", tmp_path / "run")
    write_json(root / "01_one/metrics.json", {"seed": 5})
    run_profile("toy", root, resume=True)
    assert calls(root) == ["one", "two", "one"]
    assert read_json(root / "metrics.json") == {"01_one": {"seed": 4}, "02_two": {"seed": 8}}


@pytest.mark.slow
def test_only_some_notebooks(notebooks, tmp_path):
    root = run_profile("toy", tmp_path / "run", only=["01"])
    assert calls(root) == ["one"]
    run_profile("toy", root, only=["two"])
    assert calls(root) == ["one", "two"]
    with pytest.raises(InputError, match="--only 07: no such notebook"):
        run_profile("toy", root, only=["07"])


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_a_run_folder_may_move(tmp_path):
    run_profile("toy", tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    root = run_profile("toy", tmp_path / "new", resume=True)
    assert calls(root) == ["one", "two"]


@pytest.mark.usefixtures("notebooks")
def test_an_earlier_run_is_never_overwritten_unasked(tmp_path):
    write_json(tmp_path / "run/01_one/metrics.json", {})
    with pytest.raises(InputError, match="--resume"):
        run_profile("toy", tmp_path / "run")
    write_json(tmp_path / "other/precious.json", {})
    with pytest.raises(InputError, match="holds no run of ddid"):
        run_profile("toy", tmp_path / "other", overwrite=True)
    write_json(tmp_path / "other/01_bias_analysis/mine.json", {})
    with pytest.raises(InputError, match="holds no run of ddid"):
        run_profile("toy", tmp_path / "other", overwrite=True)
    assert (tmp_path / "other/precious.json").is_file()
    assert (tmp_path / "other/01_bias_analysis/mine.json").is_file()


@pytest.mark.slow
def test_a_file_beside_the_data_shadows_no_package(notebooks, tmp_path, monkeypatch):
    told = "import kornia, pathlib\npathlib.Path(out, 'told.txt').write_text(kornia.__file__)"
    write_notebook(notebooks, "01_one", 'out = ""\nseed = 0', told)
    (tmp_path / "kornia.py").write_text("raise ValueError('run by who only has data here')")
    monkeypatch.chdir(tmp_path)
    root = run_profile("toy", tmp_path / "run", only=["01"])
    assert "site-packages" in (root / "told.txt").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(tmp_path):
    root = run_profile("toy", tmp_path / "run")
    (root / "letter.txt").write_text("mine")
    (root / "01_one/old.csv").write_text("the run's")
    run_profile("toy", root, overwrite=True)
    assert calls(root) == ["one", "two", "one", "two"], "the list of calls is not the run's own"
    assert (root / "letter.txt").read_text() == "mine"
    assert not (root / "01_one/old.csv").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_overwriting_only_some_keeps_the_others(tmp_path):
    root = run_profile("toy", tmp_path / "run")
    for name in ("01_one", "02_two"):
        (root / name / "model.safetensors").write_text("days of work")
    run_profile("toy", root, only=["02"], overwrite=True)
    assert calls(root) == ["one", "two", "two"]
    assert (root / "01_one/model.safetensors").is_file()
    assert not (root / "02_two/model.safetensors").exists()
    assert read_json(root / "metrics.json") == {"01_one": {"seed": 4}, "02_two": {"seed": 8}}


@pytest.mark.usefixtures("notebooks")
def test_a_run_of_a_study_is_not_overwritten(tmp_path):
    write_json(tmp_path / "steps/one/01_one/state.json", {"finished": True})
    (tmp_path / "runs/cell").mkdir(parents=True)
    (tmp_path / "runs/cell/01_one").symlink_to(tmp_path / "steps/one/01_one")
    with pytest.raises(InputError, match="is a run of a study, whose notebooks others share"):
        run_profile("toy", tmp_path / "runs/cell", overwrite=True)
    assert (tmp_path / "steps/one/01_one/state.json").exists()


@pytest.mark.usefixtures("notebooks")
def test_who_goes_on_does_not_overwrite(tmp_path, capsys):
    write_json(tmp_path / "01_one/state.json", {"finished": True})
    assert main(["run", "toy", "--out", str(tmp_path), "--resume", "--overwrite"]) == 2
    assert "--overwrite deletes it: give one of the two" in capsys.readouterr().err
    assert (tmp_path / "01_one/state.json").is_file()


def test_who_overwrites_keeps_what_the_run_is_told_to_read(tmp_path):
    write_json(tmp_path / "run/02_two/state.json", {"finished": True})
    generator = tmp_path / "run/02_two/generator"
    generator.mkdir()
    settings = [f"generator_start={generator}"]
    with pytest.raises(InputError, match=r"would delete generator_start .*generator.* move it"):
        run_profile("smoke", tmp_path / "run", settings, overwrite=True)
    assert generator.is_dir()


def test_a_run_in_its_data_is_none_of_the_data(tmp_path):
    (tmp_path / "image.jpg").touch()
    before = pipeline._stamps(tmp_path, str(tmp_path / "run"))
    write_json(tmp_path / "run/01_one/state.json", {"finished": True})
    assert pipeline._stamps(tmp_path, str(tmp_path / "run")) == before
    assert pipeline._stamps(tmp_path, "") != before


def test_a_run_that_lost_its_images_does_not_stand(tmp_path):
    (tmp_path / "image.jpg").touch()
    (tmp_path / "run/01_one").mkdir(parents=True)
    (tmp_path / "run/01_one/m.csv").write_text("path,pid\n../../image.jpg,1\n")
    before = pipeline._wrote(tmp_path / "run/01_one")
    (tmp_path / "deep").mkdir()
    (tmp_path / "run").rename(tmp_path / "deep/run")
    assert pipeline._wrote(tmp_path / "deep/run/01_one") != before


@pytest.mark.usefixtures("notebooks")
def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        lock(tmp_path / "run"),
        pytest.raises(InputError, match=rf"in use by process {os.getpid()} on \w* since"),
    ):
        run_profile("toy", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
@pytest.mark.usefixtures("notebooks")
def test_a_damaged_record_is_one_sentence(tmp_path, content):
    root = run_profile("toy", tmp_path / "run", only=["01"])
    (root / "01_one/state.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="delete it and start again"):
        run_profile("toy", root, only=["01"])


def test_the_notebooks_of_the_demo_together_take_what_the_readme_says(tmp_path):
    root, readme = tmp_path / "run", Path(__file__).parents[1] / "README.md"
    said = re.search(r"(about \d+ minutes) on two CPU", readme.read_text(encoding="utf-8"))[1]
    clock = pipeline._Clock(plan_run("demo", root), root)
    assert clock.headline() == f"notebook 1 of 6, {said} left"
    clock = pipeline._Clock(plan_run("demo", root, ["refit_steps=1"]), root)
    assert clock.headline() == "notebook 1 of 6"


@pytest.mark.usefixtures("notebooks")
def test_what_is_left_is_told_only_if_it_is_known(tmp_path):
    plans = {"01_one": {"seed": 1, "steps": 5}, "02_two": {"steps": 5}}
    clock = pipeline._Clock(plans, tmp_path / "run")
    assert clock.headline() == "notebook 1 of 2"
    for name, seconds in (("01_one", 100), ("02_two", 200)):
        settings = pipeline._settings(plans[name] | {"seed": 2, "out": "elsewhere"})
        state = {"settings": settings, "seconds": seconds}
        write_json(tmp_path / "earlier" / name / "state.json", state)
    (tmp_path / "broken" / "01_one").mkdir(parents=True)
    (tmp_path / "broken" / "01_one" / "state.json").write_text(
        ""
    )  # a neighbour's, no reason to stop
    clock = pipeline._Clock(plans, tmp_path / "run")
    assert clock.headline() == "notebook 1 of 2, about 5 minutes left"
    clock.begin(2)
    assert clock.headline() == "notebook 2 of 2, about 3 minutes left"


@pytest.mark.slow
@pytest.mark.usefixtures("notebooks")
def test_bad_input_inside_a_notebook_is_one_sentence_and_status_2(tmp_path, capsys):
    root = tmp_path / "run"
    assert main(["run", "toy", "--out", str(root), "--set", "02.ok=false"]) == 2
    message = capsys.readouterr().err
    assert "02_two stopped: the gallery is empty: add images" in message
    assert "Traceback" not in message
    assert (root / "01_one/metrics.json").is_file()
    assert main(["run", "toy", "--out", str(root), "--resume"]) == 0
    assert calls(root) == ["one", "two", "two"]


@pytest.mark.slow
def test_a_dead_kernel_is_one_sentence(notebooks, tmp_path):
    write_notebook(notebooks, "02_two", 'out = ""\nok = True\nwait = 0.0', "import os; os._exit(9)")
    with pytest.raises(InputError, match="02_two stopped: its kernel was killed"):
        run_profile("toy", tmp_path / "run")


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(notebooks, tmp_path):
    root = tmp_path / "run"
    command = [sys.executable, "-c", DRIVER, str(notebooks), str(root)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (root / "calls.txt").exists() or calls(root) != ["one", "two"]:
        assert time.monotonic() < deadline, "the second notebook never began"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run_profile("toy", root, resume=True)
    assert calls(root) == ["one", "two", "two"]
    assert json.loads((root / "metrics.json").read_text())["02_two"] == {"seed": 8}


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Runs notebooks of the kit in `tmp_path/run`, which write a manifest of one image outside, and
    returns the numbers of those that were executed."""
    ran = []

    def execute(path, parameters, folder, say):
        ran.append(folder.name[:2])
        listed = "path,pid\n../../data/a.png,1\n" if folder.name[:2] == "01" else "ap\n1\n"
        (folder / "manifest.csv").write_text(listed)

    def run(**given):
        ran.clear()
        names = ("01_bias_analysis", "03_adversarial_meta_training", "04_robustness_report")
        given = {"out": str(tmp_path / "run"), **given}
        plans = {name: check_parameters(name, given) for name in names}
        run_notebooks(plans, Path(given["out"]), io.StringIO())
        return list(ran)

    monkeypatch.setattr(pipeline, "_execute", execute)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").write_bytes(b"one")
    return run


def test_an_image_replaced_outside_the_run_concerns_all_that_read_it(executed, tmp_path):
    assert executed() == ["01", "03", "04"]
    assert executed() == []
    (tmp_path / "data/a.png").write_bytes(b"another")
    assert executed() == ["03", "04"]
    (tmp_path / "data/a.png").unlink()
    assert executed() == ["01", "03", "04"], "01 reads the data, and would tell"
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    assert executed(out=str(tmp_path / "moved")) == []


def test_lists_and_models_that_settings_name_beside_the_notebooks_count(executed, tmp_path):
    lists, model = tmp_path / "run/strategies", tmp_path / "run/other/model"
    lists.mkdir(parents=True)
    model.mkdir(parents=True)
    (lists / "mine.csv").write_text("path,pid\n../../data/a.png,1\n")
    given = {"recipes": ["metric_at@mine"], "surrogate_model": "other/model"}
    assert executed(**given) == ["01", "03", "04"]
    assert executed(**given) == []
    (model / "weights.safetensors").write_bytes(b"weights")
    assert executed(**given) == ["04"]
    (lists / "mine.csv").write_text("path,pid\n../../data/a.png,2\n")
    assert executed(**given)[0] == "03"
    assert executed(**given) == []


def test_images_behind_a_link_count_as_the_readers_see_them(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(tmp_path / "elsewhere")
    before = pipeline._stamps(tmp_path / "data")
    (tmp_path / "elsewhere/a.png").write_bytes(b"one")
    assert len(pipeline._stamps(tmp_path / "data")) == len(before) + 1


def test_a_field_that_no_reader_takes_is_left_for_them_to_tell(tmp_path):
    (tmp_path / "a.csv").write_text("path,pid\n" + "a" * 200_000 + ",1\n")
    assert len(pipeline._stamps(tmp_path / "a.csv")) == 1


@pytest.mark.parametrize(("name", "encoding"), [("a.csv", "utf-8-sig"), ("a.CSV", "utf-8")])
def test_a_spreadsheets_manifest_names_its_images_too(name, encoding, tmp_path):
    (tmp_path / name).write_text("path,pid\na.png,1\n", encoding=encoding)
    (tmp_path / "a.png").write_bytes(b"one")
    before = pipeline._stamps(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"another")
    assert pipeline._stamps(tmp_path / name) != before


@pytest.mark.parametrize("parameter", ["audited_model", "audited_surrogate"])
def test_an_edited_model_is_audited_again(parameter, executed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text("import my_layers\ndef load(): return my_layers.f\n")
    (tmp_path / "my_layers.py").write_text("def f(x): return x\n")
    given = {parameter: "my_model:load"}
    executed(**given)
    assert executed(**given) == []
    (tmp_path / "my_model.py").write_text("import my_layers\ndef load(): return my_layers.g\n")
    assert executed(**given) == ["04"]
    (tmp_path / "my_layers.py").write_text("def f(x): return -x\n")
    assert executed(**given) == ["04"]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/__init__.py").write_text("from .inner import load\n")
    (tmp_path / "my_package/inner.py").write_text("def load(): return 1\n")
    (tmp_path / "my_package/old.py").write_text("print 'of another Python'\n")
    given = {parameter: "my_package:load"}
    assert executed(**given) == ["04"]
    (tmp_path / "my_package/inner.py").write_text("def load(): return 2\n")
    assert executed(**given) == ["04"]
    for missing in ("no such:thing", ":", "json:loads"):
        assert executed(**{parameter: missing}) == ["04"]
        assert executed(**{parameter: missing}) == []


def test_unknown_commands_and_profiles_end_with_status_2(capsys):
    assert main(["run", "nowhere"]) == 2
    assert "no profile 'nowhere'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["dance"])
    assert stop.value.code == 2

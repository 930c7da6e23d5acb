"""Studies on a cluster: equal beginnings run once, killed workers change nothing, it resumes."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pandas as pd
import psutil
import pytest
import yaml

from ddid.errors import InputError
from ddid.files import lock, write_json
from ddid.profiles import PROFILES
from ddid.street.street import StreetConfig, write_street
from ddid.study import STUDIES, Cell, cells_of, read_study
from ddid.sweep import connect, run_step, run_study

START = "import json, os, time\nfrom pathlib import Path\nhere = Path(out)\n"
EXECUTED = "with open(here.parents[1] / 'executed.txt', 'a') as log: log.write(NAME + '\\n')\n"
DRAW = "(here / 'draw/number.json').write_text(json.dumps(10 * seed))\n"
TRAIN = """
number = json.loads((here / 'draw/number.json').read_text())
found = {name: {'clean': {'mAP': number + gain}} for name in recipes}
(here / 'train/metrics.json').write_text(json.dumps({'results': found}))
(here / 'train/environment.json').write_text(json.dumps({'hardware': 'an abacus'}))
rows = [f'{name},fna,{query},{number + gain}' for name in recipes for query in 'xy']
(here / 'train/queries.csv').write_text('\\n'.join(['recipe,attack,query,ap', *rows]))
"""


def write_notebook(path, parameters, body):
    body = START + EXECUTED.replace("NAME", repr(path.stem)) + body
    cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(body),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return str(path)


@pytest.fixture
def study(tmp_path):
    """Two notebooks of a few lines, two seeds, two recipes."""

    def write(train=TRAIN, **changes):
        content = {
            "profile": "smoke",
            "notebooks": [
                write_notebook(tmp_path / "draw.ipynb", "out = ''\nseed = 0", DRAW),
                write_notebook(
                    tmp_path / "train.ipynb", "out = ''\nrecipes = ['x']\ngain = 0.0", train
                ),
            ],
            "grid": {"seed": [0, 1]},
            "variants": {
                "none": {"recipes": "none"},
                "mine": {"recipes": "mine", "train.gain": 2.5},
            },
            "columns": ["recipe", "seed", "attack", "value", "gain", "hardware", "profile"],
            "gather": [{"record": "train.results", "levels": ["recipe", "attack", "metric"]}],
            "gains": {"over": ["none"], "file": "train/queries.csv"},
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes; what a stranger's cluster is to a sweep."""
    with connect(workers=2) as client:
        yield client


def address(client):
    return {"scheduler": client.scheduler.address}


@pytest.mark.slow
def test_two_processes_give_the_table_of_one_and_equal_notebooks_run_once(study, tmp_path, cluster):
    path = study()
    two = run_study(read_study(str(path)), tmp_path / "two", **address(cluster))
    one = run_study(read_study(str(path)), tmp_path / "one", workers=1)
    pd.testing.assert_frame_equal(one, two)
    assert two["value"].tolist() == [0, 2.5, 10, 12.5]
    assert two["recipe"].tolist() == ["none", "mine"] * 2
    assert set(two["hardware"]) == {"an abacus"}
    done = (tmp_path / "two/executed.txt").read_text().split()
    assert sorted(done) == ["draw"] * 2 + ["train"] * 4
    gains = pd.read_csv(tmp_path / "two/study_gains.csv")
    assert gains[["recipe", "over", "gain", "low", "high", "pairs"]].to_numpy().tolist() == [
        ["mine", "none", 2.5, 2.5, 2.5, 2]
    ]
    view = tmp_path / "two/runs/seed=0,variant=mine"
    assert (view / "draw/number.json").read_text() == "0"
    again = run_study(read_study(str(path)), tmp_path / "two", **address(cluster))
    pd.testing.assert_frame_equal(again, two)
    assert (tmp_path / "two/executed.txt").read_text().split() == done


@pytest.mark.slow
def test_two_studies_on_one_scheduler_have_their_own_files(study, tmp_path, cluster):
    same, where = read_study(str(study())), address(cluster)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: run_study(same, tmp_path / name, **where), "ab")
    assert first.equals(second)
    assert all((tmp_path / name / "runs/seed=1,variant=mine/draw").is_dir() for name in "ab")


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(study, tmp_path, cluster):
    murder = """
flag = here.parents[1] / 'killed.txt'
if gain and not flag.exists():
    flag.write_text(str(os.getppid()))
    os.kill(os.getppid(), 9)
    time.sleep(60)
"""
    path, out = study(murder + TRAIN, grid={"seed": [3]}), tmp_path / "out"
    table = run_study(read_study(str(path)), out, **address(cluster))
    assert table["value"].tolist() == [30, 32.5]
    assert not is_running(int((out / "killed.txt").read_text()))
    assert (out / "executed.txt").read_text().split().count("draw") == 1


@pytest.mark.slow
def test_what_stops_on_bad_input_is_named_and_loses_nothing_else(study, tmp_path, cluster, capsys):
    wrong = "from ddid.errors import InputError\nif gain: raise InputError('gain is not free')\n"
    path, out = study(wrong + TRAIN), tmp_path / "out"
    with pytest.raises(InputError, match="2 of 4 runs of study stopped"):
        run_study(read_study(str(path)), out, **address(cluster))
    said = capsys.readouterr().err
    assert "seed=0,variant=mine: train stopped: gain is not free" in said
    assert said.count("is not free") == 2
    assert not (out / "study.csv").exists()
    assert pd.read_csv(out / "so_far.csv")["recipe"].tolist() == ["none", "none"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"notebooks": ["dreams"]}, "no notebook dreams"),
        ({"profile": "dreams"}, "no profile 'dreams'"),
        ({"set": {"sede": 3}}, "takes `sede`; did you mean `seed`"),
        ({"set": {"gain": "high"}}, "`gain` .* a valid number"),
        ({"grid": {"seed": 3}}, "`grid.seed`: input should be a valid list"),
        ({"gird": {}}, "`gird`: extra inputs"),
        ({"columns": ["dreams"]}, "nothing fills the column"),
        ({"grid": {"seed": []}}, "seed is an empty list"),
        ({"grid": {}}, "gains are paired by seed, which no grid has"),
        ({"grid": {"seed": [0], "gain": [1, 2]}}, "varies seed and recipe alone, not gain"),
        ({"gather": [{"record": "x.y", "levels": ["recipe", "attack"]}]}, "is of no notebook here"),
        (
            {"gather": [{"record": "train.results", "levels": [], "only": {"metrc": ["mAP"]}}]},
            "metrc",
        ),
        ({"gains": {"over": ["none"], "file": "x/queries.csv"}}, "x/queries.csv is of no notebook"),
    ],
)
def test_a_mistake_in_a_study_is_named_before_anything_runs(study, tmp_path, change, sentence):
    with pytest.raises(InputError, match=sentence):
        run_study(read_study(str(study(**change))), tmp_path / "out")
    assert not (tmp_path / "out/steps").exists()


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ({"levels": ["recipe", "attack"]}, "train.results has more levels than the study says"),
        ({"levels": ["recipe", "attack", "m", "x"]}, "train.results has fewer levels than the"),
        ({"only": {"metric": ["map"]}}, r"recorded nothing of .*'map'.* in train.results"),
    ],
)
def test_records_that_the_study_mistakes_are_named(study, tmp_path, records, sentence):
    given = {"record": "train.results", "levels": ["recipe", "attack", "metric"]} | records
    read = read_study(str(study(gather=[given])))
    (tmp_path / "train").mkdir()
    write_json(tmp_path / "train/metrics.json", {"results": {"mine": {"clean": {"mAP": 3.0}}}})
    write_json(tmp_path / "train/environment.json", {"hardware": "an abacus"})
    with pytest.raises(InputError, match=sentence):
        list(cells_of(read)[0].rows(read, tmp_path))


def test_runs_have_folders_of_their_own_whatever_they_are_called():
    names = [Cell({"weights": value}, {}).name for value in ("a/b", "a_b", "c" * 300, "c" * 301)]
    assert len(set(names)) == 4
    assert all("/" not in name and len(name) < 200 for name in names)


def test_a_study_of_balancing_has_the_notebook_that_balances():
    assert cells_of(read_study("balancing"), {"variant": "ddid@gated"})
    with pytest.raises(InputError, match="none@gated trains on what notebook 02 draws"):
        cells_of(read_study("defenses"), {"recipes": "none@gated"})


def test_settings_overrule_a_study_and_single_values_become_lists(study):
    two = {name: {"recipes": name} for name in ("none", "mine")}
    cells = cells_of(read_study(str(study(variants=two))), {"gain": 1})
    plans = [list(cell.plans.values()) for cell in cells]
    assert [train["gain"] for _, train in plans] == [1, 1, 1, 1]
    assert {tuple(train["recipes"]) for _, train in plans} == {("none",), ("mine",)}
    own = read_study(str(study(variants=two, set={"gain": 3, "train.gain": 4})))
    assert {[*cell.plans.values()][1]["gain"] for cell in cells_of(own)} == {4}
    assert {[*cell.plans.values()][1]["gain"] for cell in cells_of(own, {"gain": 1})} == {1}


@pytest.mark.parametrize("seeds", [5, [5, 7]])
def test_of_what_is_varied_settings_choose(study, seeds):
    """No run is labelled with what it was not made with."""
    cells = cells_of(read_study(str(study())), {"seed": seeds, "variant": "mine"})
    assert [cell.chosen["seed"] for cell in cells] == ([5, 7] if seeds != 5 else [5])
    for cell in cells:
        draw, train = cell.plans.values()
        assert draw["seed"] == cell.chosen["seed"]
        assert (cell.chosen["variant"], train["recipes"]) == ("mine", ["mine"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"variant": "dreams"}, "no variant 'dreams' of none, mine"),
        ({"recipes": "x"}, "recipes: runs of study differ in it; choose by seed or variant"),
        ({"variant": [["x"]]}, "no variant"),
        ({"seed": []}, "seed is an empty list"),
        ({"gain": 1}, "gain: runs of study differ in it"),
        ({"draw.seed": 5}, "draw.seed: runs of study differ in it"),
    ],
)
def test_what_would_mislabel_runs_is_refused(study, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        cells_of(read_study(str(study())), settings)


def test_fewer_than_no_workers_are_refused():
    with pytest.raises(InputError, match="-1 workers: give their number"):
        connect(workers=-1)


def test_two_sweeps_do_not_share_a_folder(study, tmp_path):
    with (
        lock(tmp_path / "out"),
        pytest.raises(InputError, match=rf"in use by process {os.getpid()} on \w* since"),
    ):
        run_study(read_study(str(study())), tmp_path / "out")
    assert not (tmp_path / "out/steps").exists()


@pytest.mark.slow
@pytest.mark.notebook
def test_a_study_on_a_folder_of_images(tmp_path, cluster):
    config = StreetConfig(train_identities=8, test_identities=6, domain="campus", seed=9)
    mine = write_street(tmp_path / "mine", config)
    path = tmp_path / "study.yaml"
    path.write_text("""
profile: smoke
notebooks: [01_bias_analysis]
set: {effect_steps: 0}
grid: {seed: [0, 1]}
columns: [seed, measure, value]
gather: [{record: 01_bias_analysis.bias, levels: [measure], only: {measure: [gini]}}]
""")
    settings = {"data_root": str(mine)}
    table = run_study(
        read_study(str(path)), tmp_path / "out", settings=settings, **address(cluster)
    )
    assert table["seed"].tolist() == [0, 1]
    assert table["value"].nunique() == 1
    manifest = pd.read_csv(tmp_path / "out/runs/seed=1/01_bias_analysis/manifest.csv")
    assert manifest["path"].str.contains("mine/").all()


def test_the_cluster_of_the_readme_asks_slurm_for_workers(monkeypatch, capsys):
    jobqueue = pytest.importorskip("dask_jobqueue")
    example = re.search(r"```python\n(.*?)```", (STUDIES / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.setattr(jobqueue.SLURMCluster, "adapt", lambda *_, **__: None)
    monkeypatch.setattr("builtins.input", print)
    names = {}
    exec(example, names)
    with names["cluster"] as cluster:
        script = cluster.job_script()
        assert capsys.readouterr().out.startswith(cluster.scheduler_address)
    assert "#SBATCH --cpus-per-task=1" in script
    assert "source .venv/bin/activate" in script
    assert "--nthreads 1" in script


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_committed_studies_are_in_order(path, tmp_path):
    study = read_study(path.stem)
    assert (PROFILES / f"{study.profile}.yaml").is_file()
    cells = cells_of(study, {"data_root": str(tmp_path)})
    assert len({cell.name for cell in cells}) == len(cells)


ORPHANS = """
import os, time
from ddid.sweep import connect

if __name__ == "__main__":
    with connect(workers=1) as client:
        print(client.submit(os.getpid).result(), flush=True)
        time.sleep(600)
"""


def test_a_notebook_does_not_inherit_the_allocator_of_a_dask_worker(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # by which a training takes 1.6 times
    monkeypatch.setattr("ddid.sweep.run_notebooks", lambda *_: seen.update(os.environ))
    assert run_step({"draw": {}}, tmp_path / "steps/one", None, None) == ""
    assert seen
    assert "MALLOC_TRIM_THRESHOLD_" not in seen


def test_what_one_step_decodes_is_there_for_all(monkeypatch, tmp_path):
    monkeypatch.setattr("ddid.sweep.run_notebooks", lambda *_: None)
    (tmp_path / "steps/old/decoded").mkdir(parents=True)
    for step in ("one", "old", "two"):
        run_step({"draw": {}}, tmp_path / "steps" / step, None, None)
    (tmp_path / "steps/one/decoded/a.npy").write_bytes(b"pixels")
    assert (tmp_path / "steps/two/decoded/a.npy").exists()
    assert not (tmp_path / "steps/old/decoded/a.npy").exists(), "an earlier study's is kept"


@pytest.mark.slow
def test_a_sweep_listens_on_this_machine_alone(cluster):
    here = psutil.Process()
    found = [c for p in (here, *here.children(recursive=True)) for c in p.net_connections()]
    assert {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN} <= {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_an_interrupted_sweep_prints_no_traceback_of_its_workers(tmp_path):
    script = tmp_path / "patient.py"
    lines = ORPHANS.replace("time.sleep(600)", "signal.pause()").replace("os, time", "os, signal")
    script.write_text(lines)
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    parent = subprocess.Popen([sys.executable, str(script)], **both, start_new_session=True)
    parent.stdout.readline()
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    told = parent.communicate(timeout=60)[1]
    assert told.count("Traceback") == 1, told
    assert "KeyboardInterrupt" in told


@pytest.mark.slow
def test_workers_leave_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
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

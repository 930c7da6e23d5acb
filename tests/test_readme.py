"""Every command of the README, run as a new user would: the whole kit from end to end.

Long ones are run under the profile `smoke`, which takes the same path with less work.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import save_model
from torch import nn

from ddid.data import read_data, reopen
from ddid.errors import InputError
from ddid.files import read_json
from ddid.notebook import REPOSITORY, notebook_names
from ddid.page import audit_run
from ddid.street.street import StreetConfig, write_street

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

VENV = Path(sys.prefix)
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RUN_BY = {
    "make demo": "test_make_demo_keeps_its_promises",
    "ddid run smoke --out runs/first": "test_a_killed_run_resumes_to_the_same_metrics",
    "ddid run smoke --out runs/first --resume": "test_a_killed_run_resumes_to_the_same_metrics",
    "make test": "test_make_knows_the_targets_that_cannot_run_inside_a_test",
    "make explore": "test_make_knows_the_targets_that_cannot_run_inside_a_test",
    "make lab": "test_make_lab_serves_the_notebooks",
    "papermill notebooks/01_bias_analysis.ipynb 01.ipynb "
    "-f notebooks/profiles/smoke.yaml -p seed 3": "test_a_notebook_runs_alone_from_anywhere",
    "ddid list": "test_own_data_in_market_layout",
    "ddid doctor": "test_own_data_in_market_layout",
    "ddid doctor --data my_data": "test_own_data_in_market_layout",
    "ddid run smoke --out runs/mine --set data_root=my_data": "test_own_data_in_market_layout",
    "ddid audit --model my_model:load --weights my_weights.safetensors --data my_data "
    "--size 64 32 --out runs/audit": "test_own_model_is_audited",
}


def shell(command, folder=REPOSITORY, status=0):
    environment = os.environ | {"PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,  # what hangs is named
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def readme_commands():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_every_command_is_run_by_a_test():
    assert set(readme_commands()) == set(RUN_BY)
    assert set(RUN_BY.values()) <= set(globals())


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "run"
    printed = shell(f"make VENV={VENV} PROFILE=smoke OUT={root} demo")
    return root, printed


def test_make_demo_keeps_its_promises(demo):
    root, printed = demo
    for name in notebook_names():
        assert (root / name / f"{name}.ipynb").is_file()
        assert list((root / name / "figures").glob("*.png"))
        assert name in read_json(root / "metrics.json")
    for words in ("executed notebooks", "metrics.json", "figures", "fna", "ddid", "gini"):
        assert words in printed


def test_balancing_and_attacks_go_the_way_they_must(demo):
    metrics = read_json(demo[0] / "metrics.json")
    resampling = metrics["02_diffusion_resampling"]
    assert resampling["bias_after"]["gini"] < resampling["bias_before"]["gini"]
    balanced = reopen(demo[0] / "02_diffusion_resampling/balanced_manifest.csv").manifest
    synthetic = balanced[balanced["origin"] == "synthetic"]
    assert len(synthetic) == resampling["kept"]
    assert all(Path(path).is_file() for path in synthetic["path"])
    for attacks in metrics["04_robustness_report"]["results"].values():
        for name in ("fna", "sma", "ifgsm", "worst"):
            assert attacks[name]["mAP"] <= attacks["clean"]["mAP"]
    asked = metrics["03_adversarial_meta_training"]["classifier"]
    kinds = {kind for name, found in asked.items() if "@" in name for kind in found}
    assert kinds == {"unseen identities"}, "its drafts may have been made of the probes"


def test_a_killed_run_resumes_to_the_same_metrics(demo, tmp_path):
    root = tmp_path / "run"
    training = root / "03_adversarial_meta_training"
    command = [VENV / "bin/ddid", "run", "smoke", "--out", root]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(training.rglob("train_log.jsonl")):
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert "already done" in shell(f"ddid run smoke --out {root} --resume")
    assert read_json(root / "metrics.json") == read_json(demo[0] / "metrics.json")


def test_own_data_in_market_layout(tmp_path):
    config = StreetConfig(train_identities=20, test_identities=8, domain="campus", seed=9)
    mine = write_street(tmp_path / "mine", config)
    a_train_image = next((mine / "bounding_box_train").glob("*.jpg"))
    shutil.copy(a_train_image, mine / "bounding_box_train/0900_c1s1_000000_00.jpg")  # its only one
    shutil.copy(a_train_image, mine / "query/0901_c1s1_000000_00.jpg")  # has no match
    (mine / "query/Thumbs.db").write_text("stray")
    assert "train:" in shell(f"ddid doctor --data {mine}")
    assert "kernel python3" in shell("ddid doctor")
    assert "metric_at" in shell("ddid list")
    shell(f"ddid run smoke --out {tmp_path}/run --set data_root={mine}")
    manifest = reopen(tmp_path / "run/01_bias_analysis/manifest.csv").manifest
    assert all(Path(path).is_relative_to(mine) for path in manifest["path"])


def test_a_manifest_without_cameras_is_trained_on_and_measured(tmp_path):
    street = write_street(tmp_path / "street", StreetConfig(train_identities=16, test_identities=4))
    csv = tmp_path / "street/mine.csv"
    read_data(street).manifest.drop(columns="camid").to_csv(csv, index=False)
    run = f"ddid run smoke --only 01 03 04 --out {tmp_path}/run --set data_root={csv}"
    shell(f"{run} --set recipes=metric_at --set effect_steps=0")
    results = read_json(tmp_path / "run/metrics.json")["04_robustness_report"]["results"]
    assert results["metric_at"]["worst"]["mAP"] <= results["metric_at"]["clean"]["mAP"]
    wrong = f"ddid run smoke --resume --only 04 --out {tmp_path}/run --set data_root={csv}"
    shell(f"{wrong} --set recipes=metric_at --set image_height=128", status=2)
    with pytest.raises(InputError, match="holds a run of notebooks"):
        audit_run("any:model", street, tmp_path / "run")


def test_own_model_is_audited(tmp_path):
    source = re.search(r"```python\n(# my_model.py\n.*?)```", README, re.DOTALL)[1]
    (tmp_path / "my_model.py").write_text(source)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d((6, 1)), nn.Flatten()
    )
    save_model(net, tmp_path / "my_weights.safetensors")
    write_street(tmp_path / "my_data", StreetConfig(train_identities=4, test_identities=8))
    (command,) = [c for c in readme_commands() if c.startswith("ddid audit")]
    assert "worst" in shell(command, folder=tmp_path)
    assert read_json(tmp_path / "runs/audit/audit.json")["flags"] == []
    assert (tmp_path / "runs/audit/audit.html").is_file()


def test_the_ten_lines_of_python_and_a_recipe_of_ones_own(tmp_path):
    ten, own = re.findall(r"```python\n(import ddid\n.*?)```", README, re.DOTALL)
    ten = ten.replace("delta1=8", "delta1=8, steps=2")
    write_street(tmp_path / "my_data", StreetConfig(train_identities=16, test_identities=4))
    ten, own = (source.replace("steps=300", "steps=2") for source in (ten, own))
    assert "worst" in shell(f"{sys.executable} -c {shlex.quote(ten)}", folder=tmp_path)
    shell(f"{sys.executable} -c {shlex.quote(own)}", folder=tmp_path)
    for name in ("mine", "softer"):
        log = (tmp_path / "out" / name / "train_log.jsonl").read_text(encoding="utf-8")
        assert ('"apart"' in log) == (name == "mine")


def test_a_notebook_runs_alone_from_anywhere(tmp_path):
    books = REPOSITORY / "notebooks"
    shell(
        f"papermill {books}/01_bias_analysis.ipynb 01.ipynb -f {books}/profiles/smoke.yaml "
        f"-p seed 3 -p out {tmp_path}/run",
        folder=tmp_path,
    )
    assert read_json(tmp_path / "run/01_bias_analysis/parameters.json")["seed"] == 3


def test_an_unknown_parameter_stops_a_notebook_alone(tmp_path):
    books = REPOSITORY / "notebooks"
    command = f"papermill {books}/01_bias_analysis.ipynb 01.ipynb -p sede 3 -p out {tmp_path}/run"
    shell(command, folder=tmp_path, status=1)
    assert "did you mean `seed`" in (tmp_path / "01.ipynb").read_text()


def test_make_lab_serves_the_notebooks():
    options = "--no-browser --allow-root --ServerApp.port=0"
    command = ["make", f"VENV={VENV}", f"LAB_OPTIONS={options}", "lab"]
    lab = subprocess.Popen(
        command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    try:
        lines = iter(lab.stderr.readline, "")
        served = next(x for x in lines if "is running at" in x or time.monotonic() > deadline)
    finally:
        os.killpg(lab.pid, signal.SIGTERM)
        lab.wait()
    assert "is running at" in served


TARGETS = ["test", "check", "explore", "figures", "bench", "bench-speed"]


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_targets_that_cannot_run_inside_a_test(target):
    assert str(VENV) in shell(f"make -n VENV={VENV} {target}")

"""A wheel of ddid serves outside a clone: notebooks and profiles come with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddid.notebook import declared_parameters, notebook_names

ROOT = Path(__file__).resolve().parents[1]


def _ddid(target, folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ddid", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_an_installed_wheel_brings_its_notebooks(tmp_path):
    source, target, work = tmp_path / "source", tmp_path / "target", tmp_path / "work"
    work.mkdir()
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("ddid", "notebooks"):
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-build-isolation", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = ["install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True)

    found = _ddid(target, work, "doctor")
    assert str(target / "share/ddid/notebooks") in found.stdout, found.stderr
    made = _ddid(target, work, "init", "mine")
    assert made.returncode == 0, made.stderr
    mine = work / "mine" / "notebooks"
    assert sorted(path.stem for path in mine.glob("*.ipynb")) == notebook_names()
    for name in ("demo.yaml", "demo_generator/generator.safetensors"):
        assert (mine / "profiles" / name).is_file()
    found = _ddid(target, mine, "doctor")
    assert str(mine) in found.stdout, "one's own notebooks come first"
    assert f"({len(declared_parameters(notebook_names()[0]))} parameters)" in found.stdout
    again = _ddid(target, work, "init", "mine")
    assert again.returncode == 2
    assert "is there already" in again.stderr

"""The repository guards itself: layers, sizes, notebooks, README, environment."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "ddid").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))

# From the ground up. A module imports from lower layers and from its own room; rooms of one layer
# do not know each other: balance and defense meet at CSV files, report at safetensors.
LAYERS = [
    {"errors"},
    {"files", "seeds", "progress", "identity", "modules"},
    {"sources"},
    {"data", "metric"},
    {"street", "backbones"},
    {"model"},
    {"foreign"},
    {"training"},
    {"balance", "attack"},
    {"defense"},
    {"report"},
    {"notebook", "gains"},
    {"summary", "doctor"},
    {"profiles"},
    {"pipeline"},
    {"page", "study"},
    {"sweep", "front"},
    {"__init__", "__main__"},
]
APART = {"report": {"balance", "defense"}, "defense": {"balance"}}
MOST_LINES = 10_378


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_of(path): path for path in LIBRARY}


def imported_modules(path: Path) -> set[str]:
    """Modules of the library that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & MODULES.keys()
            names |= modules if modules and len(modules) == len(inner) else modules | {node.module}
    return {name for name in names if name in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    level = {name: height for height, layer in enumerate(LAYERS) for name in layer}
    own = room(module)
    assert own in level, f"{module}: give its room a layer"
    for name in imported_modules(MODULES[module]):
        other = room(name)
        assert other == own or level[other] < level[own], f"{module} imports {name}"
        assert other not in APART.get(own, set()), f"{module} imports {name}"


def test_no_module_imports_itself_by_a_detour():
    below = {module: imported_modules(path) - {module} for module, path in MODULES.items()}
    while free := {module for module, names in below.items() if not names}:
        below = {module: names - free for module, names in below.items() if module not in free}
    assert below == {}


def test_the_library_stays_thin():
    lines = sorted(path.read_text().count("\n") for path in LIBRARY)
    assert sum(lines) <= MOST_LINES
    assert lines[len(lines) // 2] <= 90


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{node.name} is too long"


def test_the_package_imports_nothing_heavy():
    code = "import ddid, sys; print(sorted({'torch','diffusers','matplotlib'} & set(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def code_cells(path: Path) -> list[dict]:
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids), "two cells of one name"
    for cell in code_cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert set(cell["metadata"]) <= {"tags"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_cells_only_tell_the_story(path):
    for cell in code_cells(path):
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 25 or "parameters" in cell["metadata"].get("tags", [])
        assert not re.search(r"^\s*[%!]", source, re.MULTILINE)
        banned = ast.ClassDef | ast.Try | ast.AsyncFunctionDef
        assert not [n for n in ast.walk(ast.parse(source)) if isinstance(n, banned)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_in_the_house_order(path):
    cells = json.loads(path.read_text())["cells"]
    title = "".join(cells[0]["source"])
    assert cells[0]["cell_type"] == "markdown"
    assert all(word in title.lower() for word in ("reads", "writes", "takes"))
    tagged = [i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", [])]
    first_code = next(i for i, c in enumerate(cells) if c["cell_type"] == "code")
    assert tagged == [first_code]
    assert "open_run(" in "".join("".join(c["source"]) for c in cells)
    last = [c for c in cells if c["cell_type"] == "code"][-1]
    assert "run.record(" in "".join(last["source"])
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    assert any("$$" in text for text in texts) or path.parent.name == "studies"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_parameter_says_what_it_is(path):
    (cell,) = [c for c in code_cells(path) if "parameters" in c["metadata"].get("tags", [])]
    silent = [line for line in "".join(cell["source"]).splitlines() if "  # " not in line]
    assert silent == []


def test_a_parameter_has_one_default_type_in_all_notebooks():
    from ddid.notebook import declared_parameters, notebook_names

    kinds: dict[str, set[str]] = {}
    for notebook in notebook_names():
        for name, value in declared_parameters(notebook).items():
            kinds.setdefault(name, set()).add(type(value).__name__)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks/profiles").glob("*.yaml")))
def test_profiles_name_real_parameters_of_the_right_type(path):
    from ddid.notebook import check_parameters, notebook_names

    profile = yaml.safe_load(path.read_text())
    profile = {name: value for name, value in profile.items() if value is not None}  # to be given
    for notebook in notebook_names():
        assert check_parameters(notebook, profile)["out"] == profile["out"]


def test_conda_environment_keeps_in_step_with_pyproject():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {re.sub(r"^torch\b(?=[>=])", "pytorch", line) for line in wanted}
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = {line for line in conda if isinstance(line, str)} - {"pip", "make", "git"}
    assert listed - {"python>=3.11"} == wanted


CONDA = {"micromamba": ["create", "--yes"], "mamba": ["env", "create"], "conda": ["env", "create"]}


@pytest.mark.slow
def test_conda_finds_versions_that_fit_together(tmp_path):
    tool = next(filter(shutil.which, CONDA), None)
    if not tool:
        pytest.skip("no conda, mamba or micromamba here")
    asked = yaml.safe_load((ROOT / "environment.yml").read_text())
    *asked["dependencies"], _ours = asked["dependencies"]
    file = tmp_path / "environment.yml"
    file.write_text(yaml.safe_dump(asked))
    command = [tool, *CONDA[tool], "--dry-run", "--name", "ddid-solved", "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if re.search("CONNECTION FAILED|Could not (resolve host|connect)", done.stdout + done.stderr):
        pytest.skip("conda's channel is out of reach")
    assert done.returncode == 0, done.stdout + done.stderr


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python ::" in line]
PARSE = """import ast, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("*.py"): ast.parse(path.read_text(encoding="utf-8"))"""


@pytest.mark.parametrize("version", PYTHONS)
def test_every_declared_python_understands_the_library(version):
    python = shutil.which(f"python{version}")
    if not python or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    found = subprocess.run([python, "-W", "error", "-c", PARSE, ROOT / "ddid"])
    assert found.returncode == 0


def test_every_dependency_is_pinned_for_make():
    names = r"^([A-Za-z0-9_.-]+)"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {re.match(names, x)[1].lower().replace("_", "-") for x in lines if x[0] != "#"}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(names, x)[1].lower() for x in wanted} <= pinned


PROGRAMS = {"jupyterlab", "ipykernel"}  # which are run, not imported


def test_every_dependency_is_used():
    owners = packages_distributions()
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*LIBRARY, *NOTEBOOKS])
    imported = set(re.findall(r"\b(?:import|from) (\w+)", text))
    used = {owner.lower() for name in imported for owner in owners.get(name, [])}
    wanted = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert wanted - PROGRAMS - used == set()


def test_nothing_on_disk_is_executable_by_a_loader():
    calls = re.compile(
        r"\b(pickle\.\w|torch\.load\((?!.*weights_only=True)|torch\.save\(|joblib\.|allow_pickle=True)"
    )
    guilty = [str(path) for path in LIBRARY if calls.search(path.read_text())]
    assert guilty == []


def test_the_paper_is_mapped_to_code_and_tests_that_exist():
    import importlib

    text = (ROOT / "notebooks/METHOD.md").read_text(encoding="utf-8")
    section = text.split("## From the paper to the code")[1].split("\n## ")[0]
    names = re.findall(r"`(ddid\.[\w.]+)`", section)
    assert len(names) > 10
    for name in names:
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.import_module(name)
    trust = (ROOT / "README.md").read_text(encoding="utf-8")
    for test in re.findall(r"`(tests/[\w/.]+)`", text + trust):
        assert (ROOT / test).is_file(), test


def test_every_figure_is_explained_and_small():
    text = (ROOT / "figures/README.md").read_text(encoding="utf-8")
    pictures = list((ROOT / "figures").glob("*.png"))
    assert {path.name for path in pictures} == set(re.findall(r"`(\w+\.png)`", text))
    assert max(path.stat().st_size for path in pictures) < 700_000


def test_readme_pictures_exist_and_nothing_is_left_to_fill_in():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).is_file(), picture
    assert re.findall(r"\b[A-Z]+_TEXT\b", text) == []

import json
import re

import pytest

from ddid.errors import InputError
from ddid.notebook import check_parameters, declared_parameters, injected_names

CELL = 'out = "runs/x"\nseed = 0\nlr = 0.1\nrecipes = ["none"]\nfast = False\n'


def write_notebook(folder, name, source):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source]}
    (folder / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))


@pytest.fixture(autouse=True)
def notebooks(tmp_path, monkeypatch):
    write_notebook(tmp_path, "01_one", CELL)
    write_notebook(tmp_path, "02_two", "out = ''\nsteps = 3\n")
    monkeypatch.setattr("ddid.notebook.NOTEBOOKS", tmp_path)
    return tmp_path


def test_given_values_replace_defaults_and_the_rest_stays():
    values = check_parameters("01_one", {"seed": 3})
    assert values == declared_parameters("01_one") | {"seed": 3}


def test_a_whole_number_serves_where_a_number_is_wanted():
    value = check_parameters("01_one", {"lr": 1})["lr"]
    assert value == 1.0
    assert isinstance(value, float)


def test_names_of_other_notebooks_are_ignored():
    assert "steps" not in check_parameters("01_one", {"steps": 5})


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(InputError, match="did you mean `seed`"):
        check_parameters("01_one", {"sede": 3})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("lr", "1e-3", "write 1.0e-3"),
        ("seed", 1.5, "a valid integer, such as 0"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", True, "a valid integer"),
        ("fast", 1, "a valid boolean, such as False"),
        ("recipes", "none", "a valid list"),
        ("recipes", [3], "a valid string"),
        ("out", None, "a valid string"),
        ("out", False, "put them in quotes"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, sentence):
    with pytest.raises(InputError, match=sentence):
        check_parameters("01_one", {name: value})


def test_defaults_must_be_literals(notebooks):
    for line in ("eps = 8 / 255", "%matplotlib inline", "eps = (8"):
        write_notebook(notebooks, "03_three", f"seed = 0\n{line}\n")
        with pytest.raises(InputError, match=re.escape(f"`{line}` is not `name = literal`")):
            declared_parameters("03_three")


def test_a_notebook_without_parameters_cell_is_refused(notebooks):
    (notebooks / "03_three.ipynb").write_text(json.dumps({"cells": []}))
    with pytest.raises(InputError, match="needs one cell tagged"):
        declared_parameters("03_three")


def test_an_unknown_notebook_is_refused_with_the_choices():
    with pytest.raises(InputError, match="01_one, 02_two"):
        declared_parameters("09_nine")


def test_injected_names_come_from_papermills_cell_only():
    history = ["", CELL, "# Parameters\nseed = 3\nsede = 4\n", "import torch"]
    assert injected_names(history) == {"seed", "sede"}

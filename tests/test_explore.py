import nbformat
import pandas as pd
import pytest
from voila.app import Voila

from ddid.data import read_data
from ddid.data.manifest import write_manifest
from ddid.errors import InputError
from ddid.files import write_json
from ddid.model import ModelConfig, ReIDNet, save_model
from ddid.page import explorer_of, serve, write_page
from ddid.street.street import StreetConfig, write_street


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="give the folder of a run"):
        serve(tmp_path)
    with pytest.raises(InputError, match="no file"):
        explorer_of(tmp_path)


def test_the_explorer_shows_the_people_that_were_measured(tmp_path):
    street = StreetConfig(train_identities=4, test_identities=4, height=32, width=16)
    data = read_data(write_street(tmp_path / "street", street)).hold_out(0.5, seed=0)
    write_manifest(data.manifest, tmp_path / "01_bias_analysis" / "manifest.csv")
    trained = tmp_path / "03_adversarial_meta_training"
    save_model(ReIDNet(ModelConfig(4, height=32, width=16)).eval(), trained / "models" / "none")
    settings = {"recipes": ["none"], "image_height": 32, "image_width": 16, "seed": 0}
    write_json(trained / "parameters.json", settings)
    for held_out in (False, True):
        measured = tmp_path / "04_robustness_report" / "parameters.json"
        write_json(measured, {"on_validation": held_out})
        sides = data.validation() if held_out else data
        assert explorer_of(tmp_path).query.paths == sides.images("query", size=(32, 16)).paths


def test_the_page_is_served_to_this_machine_alone_and_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "03_adversarial_meta_training/models").mkdir(parents=True)
    monkeypatch.setattr(Voila, "launch_instance", lambda argv: told.extend(argv))
    told = []
    serve(tmp_path, 4321, browser=False)
    assert {"--Voila.ip=127.0.0.1", "--port=4321", "--Voila.port_retries=0", "--no-browser"} <= set(
        told
    )
    assert "on this machine only" in capsys.readouterr().out
    with pytest.raises(InputError, match="port is 70000: give a number from 1 to 65535"):
        serve(tmp_path, 70000)


def test_a_page_of_a_notebook_runs_nothing(tmp_path):
    evil = "<img src=x onerror=alert(1)><script>alert(1)</script><b>bold</b>"
    table = pd.DataFrame({("mAP", "a"): [1.0], ("mAP", "b"): [2.0]}, index=["fna"])._repr_html_()
    evil += "<a href='javascript:alert(1)'>link</a>"
    outputs = [nbformat.v4.new_output("display_data", {"text/html": h}) for h in (evil, table)]
    cells = [nbformat.v4.new_code_cell("1", outputs=outputs), nbformat.v4.new_markdown_cell(evil)]
    formula = r"## Verdict" "\n\n" r"$x_i$, $$\|\hat x - x\|_\infty \le \varepsilon$$"
    cells.append(nbformat.v4.new_markdown_cell(formula))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    write_page(tmp_path / "a.ipynb", tmp_path / "a.html", "<script>alert(1)</script>")
    page = (tmp_path / "a.html").read_text()
    assert "bold" in page
    assert "<h2" in page
    assert 'colspan="2"' in page
    assert "javascript:" not in page
    assert page.count("</math>") == 2, "formulas are shown, not spelt"
    assert "infty" not in page
    assert "dataframe tbody" not in page, "a style sheet is shown as text"
    assert "&lt;t" not in page
    assert "<img src=x" not in page
    assert "<script" not in page

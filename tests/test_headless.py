"""Notebooks without a browser, whose widgets must neither hide their output nor block the run."""

import nbformat
import pytest

from ddid.pipeline import _execute

CELL = """import ipywidgets
ipywidgets.interactive(lambda level: print("level", level), level=ipywidgets.IntSlider(7))"""


@pytest.mark.slow
def test_what_a_widget_prints_stays_in_its_cell(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbformat.write(book, tmp_path / "book.ipynb")
    (tmp_path / "done").mkdir()
    _execute(tmp_path / "book.ipynb", {}, tmp_path / "done", print)
    done = nbformat.read(tmp_path / "done" / "book.ipynb", as_version=4)
    printed = [out["text"] for out in done.cells[-1].outputs if out.output_type == "stream"]
    assert "".join(printed) == "level 7\n"

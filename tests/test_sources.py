"""Modules that a text may import, as the pipeline sees them."""

from ddid.sources import code_of


def _modules(text):
    return {name for name in code_of([text]) if name.endswith(".py")}


def test_imports_are_followed_wherever_they_stand():
    modules = _modules("def f():\n    from ddid.notebook import open_run\n")
    assert {"notebook.py", "files.py", "errors.py", "progress.py"} <= modules
    assert "pipeline.py" not in modules
    assert not _modules("import numpy\nfrom pathlib import Path")


def test_a_figure_belongs_to_the_notebooks_that_draw_it():
    modules = _modules("from ddid.report.figures.bias import camera_shares")
    assert "report/figures/bias.py" in modules
    assert "report/figures/training.py" not in modules
    assert not _modules("import ddid.balance.bias") & {"report/figures/bias.py"}


def test_a_name_from_a_package_counts_with_all_its_modules():
    assert {"metric/distance.py", "metric/ranking.py"} <= _modules("from ddid.metric import x")


def test_comments_and_docstrings_do_not_count():
    plain = "def f(x):\n    return x\n"
    told = 'def f(x):\n    """Says."""  # much\n    return x  # more\n'
    assert code_of([told.replace("Says", "Tells")]) == code_of([told])
    assert code_of([plain + "# end"]) == code_of([plain])
    assert code_of([plain.replace("return x", "return -x")]) != code_of([plain])


def test_names_of_keywords_count():
    assert code_of(["Budget(eps=.1, step=.2)"]) != code_of(["Budget(step=.1, eps=.2)"])
    assert code_of(["x.clamp(min=0)"]) != code_of(["x.clamp(max=0)"])


def test_the_version_depends_on_nothing():
    assert not _modules("from ddid import __version__")


def test_cells_may_have_what_ipython_alone_understands():
    """Magics, commands and awaits are read as IPython would; a slip is left for the run to tell."""
    plain = "from ddid.errors import require\nx = 1\n"
    for line in ("%matplotlib inline", "!ls", "await later()", "%%time"):
        cell = f"{line}\n{plain}"
        assert code_of([cell])["cell 0"] != code_of([plain])["cell 0"]
        assert ("errors.py" in _modules(cell)) == (line != "%%time")
    assert code_of(["x = ("]) != code_of(["x = (("])

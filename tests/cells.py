"""Cells of a notebook, for tests that run some of them with small things in their names."""

import json

from ddid.notebook import notebook_path


def code_cells(notebook):
    """Its cells of code, from the first to the last, as (source, tags)."""
    cells = json.loads(notebook_path(notebook).read_text(encoding="utf-8"))["cells"]
    code = (cell for cell in cells if cell["cell_type"] == "code")
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in code]

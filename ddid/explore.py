"""The explorer as a page in the browser, on a run of one's own."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ddid.errors import require
from ddid.files import read_json
from ddid.notebook import resolve

if TYPE_CHECKING:
    from ddid.report.explorer import Explorer

PAGE = """from ddid.explore import explorer_of
from ddid.report.panel import panel
panel(explorer_of({root!r}))"""


def explorer_of(run: str | Path) -> "Explorer":
    """The explorer over the models and test images of a run folder.

    Raises:
        InputError: notebooks 01 and 03 have not run there.
    """
    from accelerate import PartialState

    from ddid.data import reopen
    from ddid.model import load_model
    from ddid.report.explorer import Explorer

    root = resolve(run)
    trained = root / "03_adversarial_meta_training"
    settings = read_json(trained / "parameters.json")
    folders = [trained / "models" / name for name in settings["recipes"]]
    folders = [folder for folder in folders if folder.is_dir()]
    require(bool(folders), f"{trained} holds no model yet: run notebook 03 first")
    data = reopen(root / "01_bias_analysis" / "manifest.csv")
    size = settings["image_height"], settings["image_width"]
    device = PartialState().device
    models = {folder.name: load_model(folder).to(device) for folder in folders}
    return Explorer(models, *data.images("query", "gallery", size=size), seed=settings["seed"])


def serve(run: str | Path, port: int = 8866, *, browser: bool = True) -> None:
    """Show the explorer of a run folder as a page of this machine, until interrupted.

    Raises:
        InputError: there is no such run.
    """
    import nbformat
    from voila.app import Voila

    root = resolve(run)
    models = root / "03_adversarial_meta_training" / "models"
    require(models.is_dir(), f"{models} is missing: give the folder of a run, such as runs/demo")
    sys.stdout.write(
        f"explorer of {root}: http://localhost:{port}/ (this machine only; Ctrl-C ends it)\n"
    )
    sys.stdout.flush()
    cells = [
        nbformat.v4.new_markdown_cell(f"# Attack explorer: {root.name}"),
        nbformat.v4.new_code_cell(PAGE.format(root=str(root))),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    with TemporaryDirectory() as folder:
        page = Path(folder, "explorer.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), page)
        options = [f"--port={port}", "--Voila.ip=127.0.0.1", "--show_tracebacks=True"]
        Voila.launch_instance([str(page), *options, *([] if browser else ["--no-browser"])])

"""Pages: the audit of somebody's own model, which is notebook 04, and the explorer of a run."""

import re
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ddid.attack.budget import Budget
from ddid.errors import require
from ddid.files import atomic_write, from_here, lock, read_json, write_json
from ddid.notebook import check_parameters, resolve
from ddid.pipeline import run_notebooks

if TYPE_CHECKING:
    from ddid.report.explorer import Explorer

SHOWN = """a b blockquote br code div em h1 h2 h3 h4 hr i li ol p pre span strong
table tbody td th thead tr ul"""  # of a page; bleach's own list lacks tables and headings
FORMULA = re.compile(r"(\$\$?)(.+?)\1", re.DOTALL)
PANDAS = re.compile(r"<style scoped>.*?</style>", re.DOTALL)  # a style sheet in every table
NOTEBOOK = "04_robustness_report"
PAGE = """from ddid.page import explorer_of
from ddid.report.panel import Panel
Panel(explorer_of({root!r})).box"""
LEGEND = """A query and what a model finds for it, before and after an attack. Framed green, ✓: the
same person by another camera; orange, ✗: somebody else. Average precision: 100 % is best."""


def audit_run(
    model: str,
    data: str | Path,
    out: str | Path,
    *,
    weights: str = "",
    surrogate: str = "",
    size: tuple[int, int] = (256, 128),
    queries: int = 0,
    eps: float = 255 * Budget.eps,
    steps: int = Budget.steps,
) -> dict[str, Any]:
    """Audit anybody's model: notebook 04 alone in the run folder `out`, and the page `audit.html`.

    `model` and `surrogate` are "package.module:factory", see `load_factory`, which gets `weights`;
    `data` is a folder in a known layout or a CSV manifest; images are brought to `size` = (height,
    width), and `queries` of them attacked, 0 for all, by `eps` levels of 255. Returns what is in
    `out/audit.json`: `verdicts`, `results` and `flags`.
    """
    from ddid.data import read_data
    from ddid.data.manifest import write_manifest

    first = (root := from_here(out)) / "01_bias_analysis"
    told = f"{root} holds a run of notebooks: choose another --out for the audit"
    require(not (first / "parameters.json").exists(), told)
    given = {
        "out": str(root),
        "recipes": [],
        "audited_model": model,
        "audited_weights": str(from_here(weights)) if weights else "",
        "audited_surrogate": surrogate,
        "attacked_queries": queries,
        "image_height": size[0],
        "image_width": size[1],
        "attack_eps_255": float(eps),
        "attack_steps": steps,
        "square_queries": Budget.queries,  # and the next as `ddid.audit`
        "audit_queries": 64,
    }
    parameters = check_parameters(NOTEBOOK, given)
    _try(parameters)
    found = read_data(Path(data))
    _ = found.rows("query"), found.rows("gallery")  # both must be there
    with lock(root):
        write_manifest(found.manifest, first / "manifest.csv")
    run_notebooks({NOTEBOOK: parameters}, root)
    write_page(root / NOTEBOOK / f"{NOTEBOOK}.ipynb", root / "audit.html", f"Audit of {model}")
    result = read_json(root / NOTEBOOK / "models" / model / "audit.json")
    write_json(root / "audit.json", result)
    return result


def _try(given: dict[str, Any]) -> None:
    """Say within seconds what would stop the notebook."""
    import torch

    from ddid.attack import Budget
    from ddid.data.decoding import check_size
    from ddid.report.robustness import Plan
    from ddid.report.subject import check_model, load_factory

    plan = Plan((), Budget(given["attack_eps_255"] / 255, steps=given["attack_steps"]))
    require(plan.budget.eps > 0, "eps is 0, which attacks nothing: give levels of 255, say 8")
    size = given["image_height"], given["image_width"]
    check_size(size)
    images = torch.rand(3, 3, *size)
    check_model(load_factory(given["audited_model"], given["audited_weights"]), images)
    if given["audited_surrogate"]:
        check_model(load_factory(given["audited_surrogate"]), images)


def write_page(notebook: Path, page: Path, title: str) -> None:
    """Write an executed notebook as one HTML file without its code; what it shows is escaped."""
    import nbformat
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    hidden = dict.fromkeys(("exclude_input", "exclude_input_prompt", "exclude_output_prompt"), True)
    exporter = HTMLExporter(**hidden, sanitize_html=True, embed_images=True)
    kept = ["class", "id", "href", "colspan", "rowspan"]
    clean = SanitizeHTML(tags=SHOWN.split(), attributes=kept).sanitize_html_tags
    exporter.register_filter("clean_html", lambda html: clean(PANDAS.sub("", str(html))))
    cells = nbformat.read(notebook, as_version=4)
    cells.metadata.title = title
    formulas = dict[str, str]()  # mark to MathML, which no sanitizer keeps and every browser shows

    def mark(formula: re.Match[str]) -> str:
        found = secrets.token_hex(8)
        formulas[found] = convert(formula[2], display="block" if formula[1] == "$$" else "inline")
        return found

    for cell in (cell for cell in cells.cells if cell.cell_type == "markdown"):
        cell.source = FORMULA.sub(mark, cell.source)
    html, _ = exporter.from_notebook_node(cells)
    html = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)  # needs no network
    for found, formula in formulas.items():
        html = html.replace(found, formula)
    with atomic_write(page) as temporary:
        temporary.write_text(html, encoding="utf-8")


def explorer_of(run: str | Path) -> "Explorer":
    """The explorer over the models and test images of a run folder."""
    from accelerate import PartialState

    from ddid.data import reopen
    from ddid.model import load_model
    from ddid.report.explorer import Explorer

    trained = resolve(run) / "03_adversarial_meta_training"
    settings = read_json(trained / "parameters.json")
    folders = [trained / "models" / name for name in settings["recipes"]]
    device = PartialState().device
    models = {f.name: load_model(f).to(device) for f in folders if (f / "model.json").is_file()}
    data = reopen(resolve(run) / "01_bias_analysis" / "manifest.csv")
    measured = resolve(run) / NOTEBOOK / "parameters.json"
    if read_json(measured, {}).get("on_validation"):
        data = data.validation()
    size = settings["image_height"], settings["image_width"]
    return Explorer(models, *data.images("query", "gallery", size=size), seed=settings["seed"])


def serve(run: str | Path, port: int = 8866, *, browser: bool = True) -> None:
    """Show the explorer of a run folder as a page of this machine, until interrupted."""
    import nbformat
    from voila.app import Voila

    root = from_here(run)
    models = root / "03_adversarial_meta_training" / "models"
    require(models.is_dir(), f"{models} is missing: give the folder of a run, such as runs/demo")
    require(0 < port < 2**16, f"port is {port}: give a number from 1 to 65535")
    where = f"http://localhost:{port}/, on this machine only (Ctrl-C ends it)"
    print(f"explorer of {root}: {where}", flush=True)
    cells = [
        nbformat.v4.new_markdown_cell(f"# Attack explorer: {root.name}\n\n{LEGEND}"),
        nbformat.v4.new_code_cell(PAGE.format(root=str(root))),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    with TemporaryDirectory() as folder:
        page = Path(folder, "explorer.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), page)
        options = [f"--port={port}", "--Voila.port_retries=0", "--Voila.ip=127.0.0.1"]
        options += ["--show_tracebacks=True"]
        Voila.launch_instance([str(page), *options, *([] if browser else ["--no-browser"])])

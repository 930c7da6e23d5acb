"""Tables of results for people: after a run, and in pages, so that no number is typed by hand."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ddid.attack import attack_names
from ddid.errors import require
from ddid.files import atomic_write, read_json, write_figure
from ddid.gains import gains_of
from ddid.notebook import REPOSITORY
from ddid.report.figures.experiment import seed_dots

FIGURES = REPOSITORY / "figures"
RESULTS = FIGURES / "results"
PAGES = (REPOSITORY / "README.md", FIGURES / "README.md")
MARKER = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
DOTS = re.compile(r"<!-- dots: (\S+) (\S+) -->")
IDENTITIES = {"mAP": "mAP", "worst_decile": "worst decile", "std": "spread"}
ATTACKED = ("fna", "sma", "ifgsm")  # the paper's three


def update_pages(pages: Sequence[Path] = PAGES, results: Path = RESULTS) -> list[str]:
    """Fill the tables of `pages` in place and draw their dots; the pages that changed.

    A table stands between `<!-- table: FILE VIEW WORD… -->` and `<!-- end -->`, where FILE is in
    `results`, the view one of `VIEWS` and the words its arguments. `<!-- dots: FILE OVER -->` makes
    `FILE.png` beside the page: what each gains over another, seed by seed.

    Raises:
        InputError: no such file or view.
    """
    changed = []
    for page in pages:
        before = page.read_text(encoding="utf-8")
        after = fill(before, results)
        for name, over in DOTS.findall(after):
            rows = at_home(pd.read_csv(results / f"{name}.csv"))
            write_figure(page.parent / f"{name}.png", seed_dots(rows, shown(rows), over=over))
        if after != before:
            changed.append(str(page))
            with atomic_write(page) as temporary:
                temporary.write_text(after, encoding="utf-8")
    return changed


def fill(text: str, results: Path = RESULTS) -> str:
    """`text` with every table filled, see `update_pages`."""
    return MARKER.sub(lambda found: found[1] + _view(found[2], results) + found[3], text)


def _view(marker: str, results: Path) -> str:
    name, view, *words = marker.split()
    if view == "text":
        return f"```text\n{metrics_text(read_json(results / f'{name}.json'))}```\n"
    require(view in VIEWS, f"table {marker!r}: no view {view!r}, choose of {', '.join(VIEWS)}")
    path = results / f"{name}.csv"
    require(path.is_file(), f"table {marker!r}: no file {path}")
    table = VIEWS[view](path, *words)
    head, *lines = [f"| {' | '.join(map(str, x))} |" for x in (table.columns, *table.to_numpy())]
    return "\n".join([head, "|" + "---|" * table.shape[1], *lines]) + "\n"


def shown(rows: pd.DataFrame, attacks: Sequence[str] = ()) -> list[str]:
    """Attacks that a table shows where it has them: not every family that training never saw."""
    usual = ["clean", *attack_names("standard"), "gallery", "worst", "worst_gallery", "unseen"]
    return [name for name in attacks or usual if name in set(rows["attack"])]


def at_home(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the domain trained in: it comes first in a file, or there is no other."""
    return rows[rows["domain"] == rows["domain"].iloc[0]] if "domain" in rows else rows


def over_seeds(rows: pd.DataFrame, across: str) -> pd.DataFrame:
    """`mean ± sd` over the seeds: names in the first column down, `across` as columns."""
    groups = rows.groupby([rows.columns[0], across], sort=False)["value"]
    cells = groups.agg(["mean", "std"]).apply(lambda cell: "{:.1f} ± {:.1f}".format(*cell), axis=1)
    wide = cells.str.removesuffix(" ± nan").unstack(across)
    return wide.reindex(list(rows.iloc[:, 0].unique())).fillna("")


def scores(path: Path, *attacks: str) -> pd.DataFrame:
    """mAP in percent in the domain trained in: a row for each thing compared."""
    rows = at_home(pd.read_csv(path))
    rows = rows[rows["metric"] == "mAP"]
    return over_seeds(rows, "attack")[shown(rows, attacks)].reset_index()


def away(path: Path, *attacks: str) -> pd.DataFrame:
    """mAP in percent in the domain that nobody trained in."""
    rows = pd.read_csv(path)
    rows = rows[(rows["domain"] != rows["domain"].iloc[0]) & (rows["metric"] == "mAP")]
    return over_seeds(rows, "attack")[shown(rows, attacks)].reset_index()


def identities(path: Path) -> pd.DataFrame:
    """How the identities are served, clean and on average over the paper's attacks."""
    rows = at_home(pd.read_csv(path))
    rows = rows[rows["metric"].isin(IDENTITIES) & rows["attack"].isin(["clean", *ATTACKED])]
    condition = rows["attack"].where(rows["attack"] == "clean", "attacked")
    rows = rows.assign(what=rows["metric"].map(IDENTITIES) + ", " + condition)
    means = rows.groupby([rows.columns[0], "seed", "what"], sort=False)["value"].mean()
    order = [f"{name}, {c}" for name in IDENTITIES.values() for c in ("clean", "attacked")]
    return over_seeds(means.reset_index(), "what")[order].reset_index()


def metrics(path: Path, *wanted: str) -> pd.DataFrame:
    """Metrics as columns, in a file without attacks."""
    rows = pd.read_csv(path)
    return over_seeds(rows, "metric")[list(wanted or rows["metric"].unique())].reset_index()


def gains(path: Path, over: str, *attacks: str) -> pd.DataFrame:
    """Points of mAP that each gains over another, with its 95 % interval; bold if that excludes 0.

    From `FILE_gains.csv` (over queries and seeds); where there is none, over seeds alone, which is
    little more than their range, and nothing is bold.
    """
    finer = path.with_name(f"{path.stem}_gains.csv")
    rows = at_home(pd.read_csv(finer if finer.is_file() else path))
    if not finer.is_file():
        means = rows[rows["metric"] == "mAP"].rename(columns={"value": "ap"}).assign(query=0)
        rows = gains_of(means, rows.columns[0], [over])
    require(over in set(rows["over"]), f"no row of {over!r} to compare the others with")
    rows = rows[rows["over"] == over]
    form = "{0}{1:+.1f}{0} [{2:+.1f}, {3:+.1f}]"
    cells = [
        form.format("**" if finer.is_file() and low * high > 0 else "", gain, low, high)
        if low < high
        else f"{gain:+.1f}"  # one run, its queries not kept
        for gain, low, high in rows[["gain", "low", "high"]].to_numpy()
    ]
    wide = rows.assign(cell=cells).pivot(index=rows.columns[0], columns="attack", values="cell")
    return wide.reindex(rows.iloc[:, 0].unique())[shown(rows, attacks)].fillna("").reset_index()


def plain(path: Path, *wanted: str) -> pd.DataFrame:
    """The file as it is, or some of its columns."""
    frame = pd.read_csv(path)
    return frame[list(wanted or frame)].round(3).astype(str)


VIEWS: dict[str, Callable[..., pd.DataFrame]] = {
    each.__name__: each for each in (scores, away, identities, metrics, gains, plain)
}


def summary(root: Path) -> str:
    """The last words of a run: where things are, and its main numbers."""
    return (
        f"\nexecuted notebooks  {root}/*/*.ipynb\n"
        f"results             {root / 'metrics.json'}\n"
        f"figures             {root}/*/figures/*.png\n\n"
        f"{metrics_text(read_json(root / 'metrics.json'))}"
    )


def metrics_text(metrics: dict[str, Any]) -> str:
    """MAP of a run's models, and its bias before and after balancing, where it recorded them."""
    parts = []
    if results := metrics.get("04_robustness_report", {}).get("results"):
        rows = [(m, a, v["mAP"]) for m, attacks in results.items() for a, v in attacks.items()]
        frame = pd.DataFrame(rows, columns=["model", "attack", "mAP"])
        wide = frame.pivot(index="model", columns="attack", values="mAP")[shown(frame)]
        wide = wide.sort_values(wide.columns[-1]).rename_axis("mAP (%)", axis=1)
        parts.append(wide.rename_axis(None).to_string(float_format="{:.1f}".format))
    balancing = metrics.get("02_diffusion_resampling", {})
    if "bias_before" in balancing:
        bias = pd.DataFrame({"before": balancing["bias_before"], "after": balancing["bias_after"]})
        bias = bias.rename(lambda name: name.replace("_", " ")).rename_axis("bias", axis=1)
        parts.append(bias.to_string(float_format="{:.3f}".format))
    return "\n\n".join(parts) + "\n"

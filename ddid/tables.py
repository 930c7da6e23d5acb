"""Tables of results for people: after a run, and in pages, so that no number is typed by hand."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from ddid.attack import attack_names
from ddid.errors import require
from ddid.files import atomic_write, read_json, write_figure
from ddid.gains import gains_of
from ddid.notebook import REPOSITORY
from ddid.report.figures.experiment import seed_dots

FIGURES = REPOSITORY / "figures"
RESULTS = FIGURES / "results"
ATTACKED = ("fna", "sma", "ifgsm")  # the paper's three
PAGES = (REPOSITORY / "README.md", FIGURES / "README.md")
MARKER = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
IDENTITIES = {"mAP": "mAP", "worst_decile": "worst decile", "std": "spread"}


def columns() -> list[str]:
    """Attacks that a table shows, where it has them: not each family that training never saw."""
    return ["clean", *attack_names("standard"), "worst", "worst_gallery", "unseen"]


def update_pages(pages: Sequence[Path] = PAGES, results: Path = RESULTS) -> list[str]:
    """Fill the tables of `pages` in place and draw the pictures of results; what has changed."""
    changed = []
    for page in pages:
        before = page.read_text(encoding="utf-8")
        after = fill(before, results)
        if after != before:
            changed.append(str(page))
            with atomic_write(page) as temporary:
                temporary.write_text(after, encoding="utf-8")
    return changed


def draw(folder: Path = FIGURES, results: Path = RESULTS) -> None:
    """Write `folder/FILE.png` for every `<!-- dots: FILE OVER -->` of the folder's page."""
    page = (folder / "README.md").read_text(encoding="utf-8")
    for name, over in re.findall(r"<!-- dots: (\S+) (\S+) -->", page):
        rows = at_home(pd.read_csv(results / f"{name}.csv"))
        write_figure(folder / f"{name}.png", seed_dots(rows, columns(), over=over))


def fill(text: str, results: Path = RESULTS) -> str:
    """`text` with every `<!-- table: FILE VIEW WORD… -->` … `<!-- end -->` filled from `results`.

    The view is one of `VIEWS`; the words are its arguments.

    Raises:
        InputError: no such file or view.
    """
    return MARKER.sub(lambda found: found[1] + _view(found[2], results) + found[3], text)


def _view(marker: str, results: Path) -> str:
    name, view, *words = marker.split()
    if view == "text":
        return f"```text\n{metrics_text(read_json(results / f'{name}.json'))}```\n"
    require(view in VIEWS, f"table {marker!r}: no view {view!r}, choose of {', '.join(VIEWS)}")
    path = results / f"{name}.csv"
    require(path.is_file(), f"table {marker!r}: no file {path}")
    return markdown(VIEWS[view](path, *words))


def scores(path: Path, *attacks: str) -> pd.DataFrame:
    """MAP in percent where people were trained on: a row for each thing compared."""
    return by_attack(at_home(pd.read_csv(path)), attacks)


def away(path: Path, *attacks: str) -> pd.DataFrame:
    """The same in the domain that nobody trained in."""
    rows = pd.read_csv(path)
    return by_attack(rows[rows["domain"] != rows["domain"].iloc[0]], attacks)


def at_home(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the domain trained in: it comes first in a file, or there is no other."""
    return rows[rows["domain"] == rows["domain"].iloc[0]] if "domain" in rows else rows


def by_attack(rows: pd.DataFrame, attacks: Sequence[str] = ()) -> pd.DataFrame:
    """`mean ± sd` of mAP over seeds, attacks as columns; the first column says what is compared."""
    rows = rows[rows["metric"] == "mAP"]
    shown = [name for name in attacks or columns() if name in set(rows["attack"])]
    return over_seeds(rows, "attack")[shown].reset_index()


def identities(path: Path) -> pd.DataFrame:
    """How the identities are served, clean and on average over the standard attacks."""
    rows = at_home(pd.read_csv(path))
    rows = rows[rows["metric"].isin(IDENTITIES) & rows["attack"].isin(["clean", *ATTACKED])]
    condition = rows["attack"].where(rows["attack"] == "clean", "attacked")
    rows = rows.assign(what=rows["metric"].map(IDENTITIES) + ", " + condition)
    means = rows.groupby([rows.columns[0], "seed", "what"], sort=False)["value"].mean()
    order = [f"{name}, {c}" for name in IDENTITIES.values() for c in ("clean", "attacked")]
    return over_seeds(means.reset_index(), "what")[order].reset_index()


def metrics(path: Path, *wanted: str) -> pd.DataFrame:
    """`mean ± sd` over seeds, the metrics as columns."""
    rows = pd.read_csv(path)
    return over_seeds(rows, "metric")[list(wanted or dict.fromkeys(rows["metric"]))].reset_index()


def over_seeds(rows: pd.DataFrame, across: str) -> pd.DataFrame:
    """`mean ± sd` over the seeds: names in the first column down, `across` as columns."""
    by = rows.columns[0]
    groups = rows.groupby([by, across], sort=False)["value"]
    cells = [
        f"{own.mean():.1f}" + (f" ± {own.std():.1f}" if len(own) > 1 else "") for _, own in groups
    ]
    wide = pd.Series(cells, groups.mean().index).unstack(across)
    return wide.reindex(list(dict.fromkeys(rows[by]))).fillna("")


def gains(path: Path, over: str, *attacks: str) -> pd.DataFrame:
    """Points of mAP that each gains over another, with its 95 % interval; bold if that excludes 0.

    From `FILE_gains.csv` (over queries and seeds); where there is none, over seeds alone, which is
    little more than their range, and nothing is bold.
    """
    finer = path.with_name(f"{path.stem}_gains.csv")
    frame = pd.read_csv(finer if finer.is_file() else path)
    if not finer.is_file():
        rows = at_home(frame[frame["metric"] == "mAP"]).assign(query=0)
        frame = gains_of(rows.rename(columns={"value": "ap"}), frame.columns[0], [over])
    require(over in set(frame["over"]), f"no row of {over!r} to compare the others with")
    frame = at_home(frame[frame["over"] == over])
    cells = [_gain(*row, finer.is_file()) for row in frame[["gain", "low", "high"]].to_numpy()]
    wide = frame.assign(cell=cells).pivot(index=frame.columns[0], columns="attack", values="cell")
    shown = [name for name in attacks or columns() if name in wide]
    return wide.reindex(list(dict.fromkeys(frame.iloc[:, 0])))[shown].fillna("").reset_index()


def _gain(gain: float, low: float, high: float, finer: bool) -> str:
    if low == high:  # one run, its queries not kept
        return f"{gain:+.1f}"
    mark = "**" if low * high > 0 and finer else ""
    return f"{mark}{gain:+.1f}{mark} [{low:+.1f}, {high:+.1f}]"


def plain(path: Path, *wanted: str) -> pd.DataFrame:
    """The file as it is, or some of its columns."""
    frame = pd.read_csv(path)
    return frame[list(wanted or frame)].round(3).astype(str)


VIEWS: dict[str, Callable[..., pd.DataFrame]] = {
    each.__name__: each for each in (scores, away, identities, metrics, gains, plain)
}


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown writes it."""
    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*head, *rows]) + "\n"


def summary(root: Path) -> str:
    """The last words of a run: where things are, and its main numbers."""
    return (
        f"\nexecuted notebooks  {root}/*/*.ipynb\n"
        f"results             {root / 'metrics.json'}\n"
        f"figures             {root}/*/figures/*.png\n\n"
        f"{metrics_text(read_json(root / 'metrics.json'))}"
    )


def metrics_text(metrics: dict) -> str:
    """mAP of a run's models, and its bias before and after balancing; what it recorded of both."""
    parts = []
    if robustness := metrics.get("04_robustness_report", {}).get("results"):
        wide = pd.DataFrame(
            {m: {a: v["mAP"] for a, v in of.items()} for m, of in robustness.items()}
        )
        shown = [name for name in columns() if name in wide.index]
        wide = wide.loc[shown].T.sort_values(shown[-1])
        parts.append(wide.rename_axis("mAP (%)", axis=1))
    balancing = metrics.get("02_diffusion_resampling", {})
    if "bias_before" in balancing:
        bias = pd.DataFrame({"before": balancing["bias_before"], "after": balancing["bias_after"]})
        parts.append(bias.rename(lambda name: name.replace("_", " ")).rename_axis("bias", axis=1))
    forms = ["{:.1f}".format, "{:.3f}".format]
    texts = [part.to_string(float_format=f) for part, f in zip(parts, forms, strict=False)]
    return "\n\n".join(texts) + "\n" if texts else ""

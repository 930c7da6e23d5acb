"""README tables, regenerated from the committed results so that no number is typed by hand."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ddid.errors import require
from ddid.parameters import REPOSITORY
from ddid.run import atomic_write, read_json
from ddid.summary import bias_table, robustness_table

RESULTS = REPOSITORY / "figures" / "results"
MARKER = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = ["clean", "fna", "sma", "ifgsm", "worst", "unseen"]


def fill_tables(text: str, results: Path = RESULTS) -> str:
    """`text` with every `<!-- table: NAME -->` … `<!-- end -->` filled from `results`.

    Raises:
        InputError: a marker names no known table.
    """
    return MARKER.sub(lambda found: found[1] + _table(found[2], results) + found[3], text)


def update_readme(path: Path = REPOSITORY / "README.md") -> bool:
    """Fill the tables of `path` in place; true if anything changed."""
    before = path.read_text(encoding="utf-8")
    after = fill_tables(before)
    with atomic_write(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    return after != before


def demo_table(results: Path) -> str:
    """What `make demo` printed: the committed run's two tables."""
    metrics = read_json(results / "demo.json")
    resampling = metrics["02_diffusion_resampling"]
    lines = [
        *robustness_table(metrics["04_robustness_report"]["results"]),
        "",
        *bias_table(resampling["bias_before"], resampling["bias_after"]),
    ]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def defenses_table(results: Path) -> str:
    """mAP of every recipe in the domain it trained in, mean ± standard deviation over seeds."""
    frame = pd.read_csv(results / "defenses.csv")
    home = frame["domain"] == frame["domain"].iloc[0]
    return _pivot(frame[home & (frame["metric"] == "mAP")])


def away_table(results: Path) -> str:
    """mAP of every recipe in the domain nobody trained in, mean ± standard deviation over seeds."""
    frame = pd.read_csv(results / "defenses.csv")
    home = frame["domain"] == frame["domain"].iloc[0]
    return _pivot(frame[~home & (frame["metric"] == "mAP")])


def speed_table(results: Path) -> str:
    """Measured times beside their floors."""
    frame = pd.read_csv(results / "speed.csv")
    return _markdown(frame[["what", "measured", "floor", "ratio"]].round(3).astype(str))


TABLES: dict[str, Callable[[Path], str]] = {
    "demo": demo_table,
    "defenses": defenses_table,
    "away": away_table,
    "speed": speed_table,
}


def _table(name: str, results: Path) -> str:
    require(name in TABLES, f"no table {name!r}: choose one of {', '.join(TABLES)}")
    return TABLES[name](results)


def _pivot(frame: pd.DataFrame) -> str:
    """Recipes in the order of the file, attacks as columns, `mean ± sd` as cells."""
    order = list(dict.fromkeys(frame["recipe"]))
    columns = [name for name in COLUMNS if name in set(frame["attack"])]
    value = frame.groupby(["recipe", "attack"])["value"].agg(["mean", "std"])
    cells = [f"{mean:.1f} ± {sd:.1f}" for mean, sd in value.fillna(0).to_numpy()]
    table = pd.Series(cells, index=value.index).unstack("attack")
    return _markdown(table.loc[order, columns].reset_index())


def _markdown(table: pd.DataFrame) -> str:
    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*head, *rows]) + "\n"

"""README tables and figures, made from the committed results so that no number is typed by hand."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ddid.errors import require
from ddid.files import atomic_write, read_json, write_figure
from ddid.notebook import REPOSITORY
from ddid.report.figures.experiment import seed_dots
from ddid.summary import bias_table, robustness_table

FIGURES = REPOSITORY / "figures"
RESULTS = FIGURES / "results"
EXPERIMENTS = ("defenses", "balancing")
MARKER = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = ["clean", "fna", "sma", "ifgsm", "worst", "unseen"]
CELL, GAIN = "{:.1f} ± {:.1f}", "{:+.1f} ± {:.1f}"
ATTACKED = ("fna", "sma", "ifgsm")
CONDITIONS = ("clean", "attacked")
IDENTITY_METRICS = {"mAP": "mAP", "worst_decile": "worst decile", "std": "spread"}


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


def draw_experiments(folder: Path = FIGURES, results: Path = RESULTS) -> None:
    """Write `folder/NAME.png`, the dots of every committed experiment over seeds."""
    for name in EXPERIMENTS:
        write_figure(folder / f"{name}.png", seed_dots(read_rows(name, results), COLUMNS))


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


def read_rows(name: str, results: Path = RESULTS, *, away: bool = False) -> pd.DataFrame:
    """Committed rows of `results/NAME.csv` in the domain trained in, or in the other one.

    The domain trained in comes first in a file; a file of one domain has no such column.
    """
    frame = pd.read_csv(results / f"{name}.csv")
    if "domain" not in frame:
        return frame
    return frame[(frame["domain"] == frame["domain"].iloc[0]) != away]


def defenses_table(results: Path) -> str:
    """mAP of every recipe in the domain it trained in, mean ± standard deviation over seeds."""
    return _markdown(_attack_pivot(read_rows("defenses", results)))


def away_table(results: Path) -> str:
    """mAP of every recipe in the domain nobody trained in, mean ± standard deviation over seeds."""
    return _markdown(_attack_pivot(read_rows("defenses", results, away=True)))


def balancing_table(results: Path) -> str:
    """What each balancing strategy does to the identities, mean ± standard deviation over seeds."""
    return _markdown(identity_table(read_rows("balancing", results)))


def identities_table(results: Path) -> str:
    """What each recipe does to the identities, mean ± standard deviation over seeds."""
    return _markdown(identity_table(read_rows("defenses", results)))


def identity_table(rows: pd.DataFrame, form: str = CELL) -> pd.DataFrame:
    """mAP, worst decile and spread of the identities' AP, clean and attacked, `mean ± sd`.

    Args:
        rows: tidy; the first column names what is compared. Attacked is the mean over `ATTACKED`.
        form: how mean and deviation are written.
    """
    by = rows.columns[0]
    rows = rows[rows["metric"].isin(IDENTITY_METRICS) & rows["attack"].isin(["clean", *ATTACKED])]
    attack = rows["attack"].where(rows["attack"] == "clean", "attacked")
    keys = [by, "seed", "metric", "attack"]
    means = rows.assign(attack=attack).groupby(keys, sort=False)["value"].mean().reset_index()
    cells = _mean_and_spread(means, [by, "metric", "attack"], form)
    columns = {(m, a): f"{label}, {a}" for m, label in IDENTITY_METRICS.items() for a in CONDITIONS}
    table = cells.unstack(["metric", "attack"])[list(columns)]
    table.columns = pd.Index(columns.values())
    return table.reset_index()


def gains_table(results: Path) -> str:
    """What each recipe gains over metric adversarial training, seed by seed."""
    return _markdown(gain_table(read_rows("defenses", results), over="metric_at"))


def gain_table(rows: pd.DataFrame, over: str) -> pd.DataFrame:
    """mAP less that of `over` under the same seed, so without the spread that seeds share.

    Args:
        rows: tidy; the first column names what is compared.
        over: the name that the others are compared with.

    Raises:
        InputError: there is no row of `over`.
    """
    return _attack_pivot(_gained(rows[rows["metric"] == "mAP"], over), GAIN)


def _gained(rows: pd.DataFrame, over: str) -> pd.DataFrame:
    by = rows.columns[0]
    require(over in set(rows[by]), f"no row of {over!r} to compare the others with: sweep it too")
    keys = ["attack", "metric", "seed"]
    base = rows[rows[by] == over].set_index(keys)["value"]
    own = base.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy()
    return rows.assign(value=rows["value"].to_numpy() - own)[rows[by] != over]


def gate_table(results: Path) -> str:
    """What metric adversarial training gains from each filling of the plan over an empty one."""
    return _markdown(identity_gain_table(read_rows("gate", results), over="nothing"))


def identity_gain_table(rows: pd.DataFrame, over: str) -> pd.DataFrame:
    """`identity_table` of what each gains over `over` under the same seed, as in `gain_table`."""
    return identity_table(_gained(rows, over), GAIN)


def verdicts_table(results: Path) -> str:
    """How often the gate's verdicts are right."""
    return _markdown(verdict_table(read_rows("verdicts", results)))


def verdict_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Drafts of each generator by the gate's verdict: their number, and how many are right.

    Args:
        rows: `generator`, `street`, `drafts`, `number`, and `right`, the percentage whose identity
            and camera an oracle recognises.
    """
    rows = rows.assign(right=rows["right"] * rows["number"])
    sums = rows.groupby(["generator", "drafts"], sort=False)[["number", "right"]].sum()
    sums["right"] = (sums["right"] / sums["number"]).map("{:.0f} %".format)
    return sums.reset_index()


def tuning_table(results: Path) -> str:
    """mAP that each variant tried on every street gains over metric adversarial training there."""
    frame = pd.read_csv(results / "tuning.csv")
    tried = frame.groupby("variant")["street"].nunique()
    everywhere = tried.index[tried == frame["street"].nunique()]
    return _street_gains(frame[frame["variant"].isin(everywhere)], over="metric_at")


def options_table(results: Path) -> str:
    """mAP that each option of the method gains over the method itself on the first street."""
    frame = pd.read_csv(results / "tuning.csv")
    first = frame[frame["street"] == frame["street"].iloc[0]]
    return _street_gains(first[first["variant"].str.startswith("ddid")], over="ddid")


def _street_gains(frame: pd.DataFrame, over: str) -> str:
    keys = ["variant", "street"]
    wide = frame.pivot_table(index=keys, columns="attack", values="value", sort=False)
    gained = wide - wide.loc[over].reindex(wide.index, level="street")
    means = gained.groupby("variant", sort=False).mean().drop(over)
    return _markdown(means.map("{:+.1f}".format).reset_index())


def speed_table(results: Path) -> str:
    """Measured times beside their floors."""
    frame = pd.read_csv(results / "speed.csv")
    return _markdown(frame[["what", "measured", "floor", "ratio"]].round(3).astype(str))


TABLES: dict[str, Callable[[Path], str]] = {
    "demo": demo_table,
    "defenses": defenses_table,
    "away": away_table,
    "gains": gains_table,
    "identities": identities_table,
    "balancing": balancing_table,
    "gate": gate_table,
    "verdicts": verdicts_table,
    "tuning": tuning_table,
    "options": options_table,
    "speed": speed_table,
}


def _table(name: str, results: Path) -> str:
    require(name in TABLES, f"no table {name!r}: choose one of {', '.join(TABLES)}")
    return TABLES[name](results)


def _attack_pivot(rows: pd.DataFrame, form: str = CELL) -> pd.DataFrame:
    """mAP of the first column's names, attacks as columns, mean and deviation as `form` writes."""
    rows = rows[rows["metric"] == "mAP"]
    columns = [name for name in COLUMNS if name in set(rows["attack"])]
    by = rows.columns[0]
    return _mean_and_spread(rows, [by, "attack"], form).unstack("attack")[columns].reset_index()


def _mean_and_spread(rows: pd.DataFrame, keys: list[str], form: str = CELL) -> pd.Series:
    """Mean and standard deviation over what `keys` leave, in the order of the rows."""
    ordered = rows.assign(**{k: pd.Categorical(rows[k], rows[k].unique()) for k in keys})
    value = ordered.groupby(keys, observed=True)["value"].agg(["mean", "std"])
    cells = [form.format(*pair).removesuffix(" ± nan") for pair in value.to_numpy()]
    return pd.Series(cells, value.index)


def _markdown(table: pd.DataFrame) -> str:
    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*head, *rows]) + "\n"

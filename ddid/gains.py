"""What one defence gains over another, query by query, with bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DRAWS = 1000  # our choice: the ends of an interval then move by a thirtieth of its width


def gains_of(
    rows: pd.DataFrame, by: str, over: Sequence[str], paired: Sequence[str] = ("seed",)
) -> pd.DataFrame:
    """What every name in the column `by` gains over each of `over` that there is, by attack.

    `rows` have `by`, `domain` (or none), `attack`, `query`, `ap` (percent) and columns `paired`,
    under which two names were asked the same queries. Returns `by`, `over`, `domain`, `attack`,
    `gain` (points of mAP), `low` and `high` (95 %) and `pairs`.
    """
    keys = [*(["domain"] if "domain" in rows else []), "attack"]
    wide = rows.pivot_table(index=[*keys, *paired, "query"], columns=by, values="ap", sort=False)
    found = []
    for base in (name for name in over if name in wide):
        for name in (name for name in dict.fromkeys(rows[by]) if name != base):
            gained = (wide[name] - wide[base]).dropna()
            for condition, own in gained.groupby(level=keys, sort=False):
                groups = [g.to_numpy() for _, g in own.groupby(level=list(paired), sort=False)]
                gain = np.mean([group.mean() for group in groups])
                low, high = np.quantile(bootstrap(groups), [0.025, 0.975])
                found.append([name, base, *condition, gain, low, high, len(groups)])
    return pd.DataFrame(found, columns=[by, "over", *keys, "gain", "low", "high", "pairs"])


def bootstrap(groups: Sequence[NDArray], draws: int = DRAWS) -> NDArray:
    """Means (draws,) as other seeds and queries would give them: seeds are drawn with replacement,
    then queries (Q,) within each seed drawn [our choice]."""
    draw = np.random.default_rng(0)
    total = np.zeros(draws)
    for _ in groups:
        means = [g[draw.integers(len(g), size=(draws, len(g)))].mean(1) for g in groups]
        total += np.stack(means)[draw.integers(len(groups), size=draws), np.arange(draws)]
    return total / len(groups)

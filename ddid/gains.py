"""What one defence gains over another, query by query, with bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddid.errors import require
from ddid.metric.bootstrap import bootstrap


def gains_of(rows: pd.DataFrame, by: str, over: Sequence[str]) -> pd.DataFrame:
    """What every name in the column `by` gains over each of `over` that there is, by attack.

    `rows` have `by`, `domain` (or none), `attack`, `query`, `pid` (or none), `ap` (percent) and
    `seed`, under which two names were asked the same queries; and `people` (or none), which is the
    same for seeds that share the people asked. Returns `by`, `over`, `domain`, `attack`, `gain`
    (points of mAP), `low` and `high` (95 %) and `pairs`. InputError: runs differ in more than this.
    """
    keys = [*(["domain"] if "domain" in rows else []), "attack"]
    person = "pid" if "pid" in rows else "query"
    index = list(dict.fromkeys([*keys, "seed", person, "query"]))
    told = f"runs of one seed differ in more than {by}: gains over what else varies say nothing"
    require(not rows.duplicated([*index, by]).any(), told)
    wide = rows.pivot_table(index=index, columns=by, values="ap", sort=False)
    town = rows.groupby([*keys, "seed"])["people"].first() if "people" in rows else None
    found = []
    for base in (name for name in over if name in wide):
        for name in (name for name in dict.fromkeys(rows[by]) if name != base):
            gained = (wide[name] - wide[base]).dropna()
            for condition, own in gained.groupby(level=keys, sort=False):
                people = [
                    seed.groupby(level=person).agg(["sum", "count"])
                    for _, seed in own.groupby(level="seed", sort=False)
                ]
                gain = np.mean([total / count for total, count in (p.sum() for p in people)])
                shared = town is not None and town.loc[condition].nunique() < len(people)
                if shared:  # a row is one person throughout, also where a seed asked only some
                    everybody = own.index.unique(level=person).sort_values()
                    people = [each.reindex(everybody, fill_value=0) for each in people]
                groups = [each.to_numpy() for each in people]
                low, high = np.quantile(bootstrap(groups, shared=shared), [0.025, 0.975])
                found.append([name, base, *condition, gain, low, high, len(groups)])
    return pd.DataFrame(found, columns=[by, "over", *keys, "gain", "low", "high", "pairs"])

"""Phase 1's last step: synthesise the plan, judge, retry, and write the balanced manifest."""

from pathlib import Path

import pandas as pd

from ddid.balance.gate import KEPT, Gate
from ddid.balance.network import Generator
from ddid.balance.synthesis import Sampling, synthesise
from ddid.data.images import ImageSet
from ddid.data.manifest import COLUMNS
from ddid.errors import require
from ddid.progress import Progress
from ddid.seeds import seed_of


def resample(
    generator: Generator,
    plan: pd.DataFrame,
    folder: str | Path,
    sampling: Sampling,
    gate: Gate,
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Synthesise every row of the plan; what the gate rejects gets a new seed, a few times.

    Images already in `folder` are not made again, so a killed run goes on where it was.

    Args:
        generator: knows the plan's identities and cameras.
        plan: from `resampling_plan`.
        folder: gets `NAME.png`, further attempts `NAME_rN.png`; rejected ones stay, to be seen.
        sampling: how images are drawn.
        gate: judge and limits.
        progress: told the images done.

    Returns:
        The drafts: the plan's columns, `attempt` from 0, `path`, `origin`, and `verdict`, `kept`
        or the reason against it; a row for each attempt.

    Raises:
        InputError: an empty plan, or labels the generator does not know.
    """
    require(len(plan) > 0, "the plan has no rows: there is nothing to synthesise")
    size = (generator.config.height, generator.config.width)
    drafts = []
    for attempt in range(gate.limits.attempts):
        rows = _attempt(plan, attempt)
        paths = synthesise(generator, rows, folder, sampling, progress)
        rows = rows.assign(path=paths, split="train", origin="synthetic")
        drafts.append(rows.assign(verdict=gate.verdicts(ImageSet.read(rows, size))))
        plan = plan[(drafts[-1]["verdict"] != KEPT).to_numpy()]
        if plan.empty:
            break
    return pd.concat(drafts).sort_values(["name", "attempt"], ignore_index=True)


def _attempt(plan: pd.DataFrame, attempt: int) -> pd.DataFrame:
    """The plan's rows as they are, or with a seed and name of their own for a later attempt."""
    if attempt == 0:
        return plan.assign(attempt=0)
    return plan.assign(
        attempt=attempt,
        seed=[seed_of(seed, attempt) for seed in plan["seed"]],
        name=plan["name"] + f"_r{attempt}",
    )


def balanced_manifest(manifest: pd.DataFrame, drafts: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the drafts that were kept as further train rows."""
    kept = drafts.loc[drafts["verdict"] == KEPT, COLUMNS]
    return pd.concat([manifest, kept], ignore_index=True)


def rejections(drafts: pd.DataFrame) -> dict[str, int]:
    """Number of drafts against each reason."""
    rejected = drafts.loc[drafts["verdict"] != KEPT, "verdict"]
    return {str(reason): int(n) for reason, n in rejected.value_counts().sort_index().items()}

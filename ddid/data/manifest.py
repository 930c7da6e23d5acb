"""The manifest: one row per image, the only thing later steps know about a data set.

Columns: `path`, `pid` (identity, 0 = distractor), `camid` (-1 = unknown), `split` (train, val,
query or gallery) and `origin` (real or synthetic). Further columns are kept as they are.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from ddid.errors import InputError, require
from ddid.files import atomic_write

COLUMNS = ["path", "pid", "camid", "split", "origin"]
SPLITS = {"train", "val", "query", "gallery"}
ORIGINS = {"real", "synthetic"}


def read_manifest(csv: str | Path) -> pd.DataFrame:
    """Manifest from a CSV file; relative paths are taken from the file's folder.

    Identity -1 is junk and dropped, as in every layout.

    `split` defaults to train, `origin` to real and `camid` to -1 (unknown) where the column is
    missing, so a list of `path,pid` is enough.

    Raises:
        InputError: no such file, not a table, or `check_manifest` objects.
    """
    csv = Path(csv).resolve()
    require(csv.is_file(), f"no manifest {csv}: give a CSV file with columns {', '.join(COLUMNS)}")
    try:
        frame = pd.read_csv(csv)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{csv} is not a CSV table: {str(error).strip()}") from error
    missing = {"path", "pid"} - set(frame.columns)
    require(not missing, f"{csv} lacks the column(s) {', '.join(sorted(missing))}")
    frame = frame.fillna({"camid": -1}).assign(
        **{
            name: frame.get(name, default)
            for name, default in (("camid", -1), ("split", "train"), ("origin", "real"))
        }
    )
    frame["path"] = [str((csv.parent / path).resolve()) for path in frame["path"].astype(str)]
    return check_manifest(frame[frame["pid"].astype(str) != "-1"], str(csv))


def write_manifest(frame: pd.DataFrame, csv: str | Path) -> None:
    """Write a manifest; paths are made relative to the file's folder so that a run can move."""
    folder = Path(csv).resolve().parent
    relative = [os.path.relpath(path, folder) for path in frame["path"]]
    with atomic_write(csv) as temporary:
        frame.assign(path=relative).to_csv(temporary, index=False)


def check_manifest(frame: pd.DataFrame, where: str = "manifest") -> pd.DataFrame:
    """The manifest with integer `pid` and `camid`, checked.

    Raises:
        InputError: no rows, ids that are not whole numbers, an unknown split or origin, or the
            same image listed twice in one split.
    """
    require(len(frame) > 0, f"{where} has no rows")
    for name in ("pid", "camid"):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = frame[name][numbers.isna() | (numbers % 1 != 0)]
        require(
            wrong.empty,
            f"{where}: {name} {wrong.iloc[0] if len(wrong) else ''!r} is not a whole number",
        )
        frame = frame.assign(**{name: numbers.astype("int64")})
    lowest = int(frame["pid"].min())
    require(lowest >= 0, f"{where}: pid {lowest} is negative: number identities from 1")
    for name, allowed in (("split", SPLITS), ("origin", ORIGINS)):
        strange = sorted({str(value) for value in frame[name]} - allowed)
        require(
            not strange,
            f"{where}: {name} {strange[:1]} is not one of {', '.join(sorted(allowed))}",
        )
    twice = frame[frame.duplicated(["path", "split"])]
    require(twice.empty, f"{where}: {twice['path'].iloc[0] if len(twice) else ''} is listed twice")
    return frame.reset_index(drop=True)


def hold_out(frame: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Move a random share of the train identities, whole, to the split `val`.

    Our choice: everything is tuned on these identities, never on the test ones. Identities seen
    by one camera only stay in training, since they have no cross-camera match to score.

    Args:
        frame: manifest with a train split.
        fraction: share of all train identities, in [0, 1).
        seed: which identities.

    Raises:
        InputError: fraction outside [0, 1), or too few identities to hold any out.
    """
    require(0 <= fraction < 1, f"validation share is {fraction}: give a number in [0, 1)")
    train = frame[frame["split"] == "train"]
    cameras = train.groupby("pid")["camid"].nunique()
    wanted = round(fraction * len(cameras))
    candidates = cameras.index[cameras > 1].to_numpy(copy=True)  # an index is read-only
    require(
        wanted <= len(candidates),
        f"cannot hold out {wanted} identities for validation: only {len(candidates)} train "
        "identities are seen by two cameras; lower the validation share",
    )
    chosen = np.random.default_rng(seed).permutation(candidates)[:wanted]
    moved = (frame["split"] == "train") & frame["pid"].isin(chosen)
    return frame.assign(split=frame["split"].mask(moved, "val"))


def query_gallery(frame: pd.DataFrame, split: str = "test") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Query and gallery rows: the data set's own for `test`, made from held-out ones for `val`.

    For `val` the first image of each identity under each camera is the query (as Market-1501
    does it), the rest are gallery; with one image under a camera it still is the query.

    Raises:
        InputError: the split is empty.
    """
    require(split in ("test", "val"), f"split is {split!r}: choose test or val")
    if split == "test":
        query, gallery = frame[frame["split"] == "query"], frame[frame["split"] == "gallery"]
    else:
        held = frame[(frame["split"] == "val") & (frame["origin"] == "real")]
        held = held.sort_values("path", kind="stable")
        first = ~held.duplicated(["pid", "camid"])
        query, gallery = held[first], held[~first]
    for name, rows in (("query", query), ("gallery", gallery)):
        require(len(rows) > 0, f"the manifest has no {name} images for the split {split!r}")
    return query.reset_index(drop=True), gallery.reset_index(drop=True)


def has_matches(frame: pd.DataFrame) -> bool:
    """Whether some query has a right answer: its identity in the gallery, from another camera, or
    from any if its own is unknown."""
    cells = frame.drop_duplicates(["split", "pid", "camid"])
    query, gallery = cells[cells["split"] == "query"], cells[cells["split"] == "gallery"]
    pairs = query.merge(gallery, on="pid", suffixes=("", "_found"))
    return bool(((pairs["camid"] != pairs["camid_found"]) | (pairs["camid"] < 0)).any())

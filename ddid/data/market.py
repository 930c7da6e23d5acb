"""Market-1501's folder layout, shared by DukeMTMC-reID and CUHK03-NP.

Files are named `PID_cCAMERA...`, say `0002_c1s1_000451_03.jpg`, in three folders. Identity -1 is
junk and dropped; identity 0000 is a distractor and stays in the gallery.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ddid.data.manifest import COLUMNS, check_manifest
from ddid.errors import require

FOLDERS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
NAME = re.compile(r"^(-?\d+)_c(\d+)")

# (train, query, gallery) images after dropping identity -1, from the data sets' publications.
KNOWN_COUNTS = {
    "Market-1501": (12936, 3368, 15913),
    "DukeMTMC-reID": (16522, 2228, 17661),
    "CUHK03-NP detected": (7365, 1400, 5332),
    "CUHK03-NP labelled": (7368, 1400, 5328),
}


@dataclass(frozen=True)
class MarketReport:
    """What a Market-1501-like folder holds."""

    manifest: pd.DataFrame
    stray: list[str]  # files that are no images of the layout, relative to the root
    dropped: int  # images of identity -1
    known: str | None  # the published data set whose counts these are
    messages: list[str] = field(default_factory=list)  # one sentence per oddity


def read_market(root: str | Path) -> MarketReport:
    """Read a folder in Market-1501 layout; order and labels are the same on every machine.

    Args:
        root: folder with `bounding_box_train`, `query` and `bounding_box_test`.

    Raises:
        InputError: no such folder, a folder of the layout missing, or no image in one of them.
    """
    root = Path(root).expanduser().resolve()
    require(root.is_dir(), f"no folder {root}: give the folder that holds bounding_box_train")
    missing = [name for name in FOLDERS if not (root / name).is_dir()]
    require(
        not missing,
        f"{root} is not in Market-1501 layout: it lacks {', '.join(missing)}; put train images in "
        "bounding_box_train, queries in query and gallery images in bounding_box_test",
    )
    rows, stray, dropped = [], [], 0
    for folder, split in FOLDERS.items():
        found, strange, junk = _read_folder(root / folder, split)
        require(bool(found), f"{root / folder} holds no image named like 0002_c1s1_000451_03.jpg")
        rows += found
        stray += [str(path.relative_to(root)) for path in strange]
        dropped += junk
    manifest = check_manifest(pd.DataFrame(rows, columns=COLUMNS), str(root))
    known = _known_data_set(manifest)
    return MarketReport(manifest, stray, dropped, known, _messages(manifest, stray, known))


def _read_folder(folder: Path, split: str) -> tuple[list[tuple], list[Path], int]:
    rows: list[tuple] = []
    stray: list[Path] = []
    dropped = 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        match = NAME.match(path.name)
        if match is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            stray.append(path)
        elif int(match[1]) == -1:
            dropped += 1
        else:
            rows.append((str(path), int(match[1]), int(match[2]), split, "real"))
    return rows, stray, dropped


def _counts(manifest: pd.DataFrame) -> tuple[int, int, int]:
    train, query, gallery = (int((manifest["split"] == s).sum()) for s in FOLDERS.values())
    return train, query, gallery


def _known_data_set(manifest: pd.DataFrame) -> str | None:
    counts = _counts(manifest)
    return next((name for name, known in KNOWN_COUNTS.items() if known == counts), None)


def _messages(manifest: pd.DataFrame, stray: list[str], known: str | None) -> list[str]:
    messages = []
    if known is None:
        train, query, gallery = _counts(manifest)
        messages.append(
            f"{train} train, {query} query and {gallery} gallery images: none of the published "
            f"sets ({', '.join(KNOWN_COUNTS)}); if it should be one, the copy is incomplete."
        )
    if stray:
        messages.append(f"{len(stray)} stray file(s) ignored, the first is {stray[0]}.")
    train_pids = set(manifest.loc[manifest["split"] == "train", "pid"])
    query_pids = set(manifest.loc[manifest["split"] == "query", "pid"])
    if shared := sorted(train_pids & query_pids):
        messages.append(
            f"{len(shared)} identities are in train and query, the first is {shared[0]}."
        )
    cameras = (
        manifest[manifest["split"] == "train"].groupby("pid")["camid"].agg(["size", "nunique"])
    )
    if single := int((cameras["size"] == 1).sum()):
        messages.append(f"{single} train identities have one image only.")
    if lonely := int((cameras["nunique"] == 1).sum()):
        messages.append(f"{lonely} train identities are seen by one camera only.")
    return messages

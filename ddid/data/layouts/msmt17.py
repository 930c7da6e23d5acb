"""MSMT17's layout: two image folders (V1 or V2) and lists of `path identity`.

The official train and val lists are both training images (32,621 together). Both lists of
identities start at 0, so test identities are moved behind the train ones; all are then counted
from 1, because identity 0 means distractor here.
"""

import re
from pathlib import Path

import pandas as pd

from ddid.errors import InputError, require

NAME = "MSMT17"
VERSIONS = (("mask_train_v2", "mask_test_v2"), ("train", "test"))
LISTS = {"train": "train", "val": "train", "query": "query", "gallery": "gallery"}
LINE = re.compile(r"(?P<path>\S*?[^/_\s]*_[^/_\s]*_(?P<camid>\d{1,9})(_[^/\s]*)?) (?P<pid>\d{1,9})")


def recognises(root: Path) -> bool:
    """A folder with one of the lists."""
    return any((root / f"list_{name}.txt").is_file() for name in LISTS)


def read(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Rows in the order of the lists."""
    folders = next((pair for pair in VERSIONS if all((root / n).is_dir() for n in pair)), None)
    if folders is None:
        raise InputError(
            f"{root} has MSMT17's lists but neither mask_train_v2 and mask_test_v2 (V2) nor train "
            "and test (V1): copy the images beside the lists"
        )
    parts = [
        _read_list(root / f"list_{name}.txt", folders[split != "train"]).assign(split=split)
        for name, split in LISTS.items()
    ]
    frame = pd.concat(parts, ignore_index=True)
    is_train = frame["split"] == "train"
    offset = frame.loc[is_train, "pid"].max() + 1
    return frame.assign(pid=frame["pid"] + 1 + offset * ~is_train), []


def _read_list(path: Path, folder: str) -> pd.DataFrame:
    require(path.is_file(), f"{path} is missing: MSMT17 comes with it, copy it beside the folders")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [LINE.fullmatch(" ".join(line.split())) for line in lines]
    for number, (line, match) in enumerate(zip(lines, rows, strict=True), 1):
        require(
            match is not None,
            f"{path} line {number} is {line[:80]!r}: want `folder/PID_..._CAMERA_....jpg pid`",
        )
    require(bool(rows), f"{path} is empty: copy the data set again")
    found = pd.DataFrame([match.groupdict() for match in rows if match])
    return found.astype({"pid": int, "camid": int}).assign(path=folder + "/" + found["path"])

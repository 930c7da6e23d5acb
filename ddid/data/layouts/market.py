"""Market-1501's layout, shared by DukeMTMC-reID and CUHK03-NP: `0002_c1s1_000451_03.jpg`.

Files are named `PID_cCAMERA...` in three folders; what else lies there is passed over.
"""

import os
import re
from pathlib import Path

import pandas as pd

from ddid.errors import require
from ddid.files import walk

NAME = "Market-1501, DukeMTMC-reID or CUHK03-NP"
FOLDERS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
IMAGE = re.compile(r"(-?\d{1,9})_c(\d{1,9}).*\.(jpe?g|png)", re.IGNORECASE)


def recognises(root: Path) -> bool:
    """A folder with one of the three folders."""
    return any((root / name).is_dir() for name in FOLDERS)


def read(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Rows in the order of the file names, the same on every machine."""
    missing = [name for name in FOLDERS if not (root / name).is_dir()]
    require(
        not missing,
        f"{root} lacks {', '.join(missing)}: copy the data set again, or put train images in "
        "bounding_box_train, queries in query and gallery images in bounding_box_test",
    )
    rows, strays = [], []
    for folder, split in FOLDERS.items():
        files = _files(root, folder)
        named = [(path, IMAGE.fullmatch(os.path.basename(path))) for path in files]
        found = [(path, int(m[1]), int(m[2]), split) for path, m in named if m]
        strays += [path for path, match in named if not match]
        require(bool(found), f"{root / folder} holds no image named like 0002_c1s1_000451_03.jpg")
        rows += found
    first = f", the first is {strays[0]!r}" if strays else ""
    messages = [f"{len(strays)} stray file(s) passed over{first}."] if strays else []
    return pd.DataFrame(rows, columns=["path", "pid", "camid", "split"]), messages


def _files(root: Path, folder: str) -> list[str]:
    """Every file below a folder, relative to the root, in the order of its parts."""
    files = [os.path.relpath(path, root) for path in walk(root / folder)]
    return sorted(files, key=lambda path: path.split(os.sep))

"""MSMT17's layout: two image folders (V1 or V2) and lists of `path identity`."""

from pathlib import Path

import pandas as pd

from ddid.data.manifest import COLUMNS, check_manifest
from ddid.errors import require

VERSIONS = {"V2": ("mask_train_v2", "mask_test_v2"), "V1": ("train", "test")}
LISTS = {
    "list_train.txt": "train",
    "list_val.txt": "train",
    "list_query.txt": "query",
    "list_gallery.txt": "gallery",
}


def read_msmt17(root: str | Path) -> pd.DataFrame:
    """Manifest of MSMT17.

    The official train list and val list are both training images (32,621 together). Both lists
    of identities start at 0, so test identities are moved behind the train ones; all are then
    counted from 1, because identity 0 means distractor here.

    Raises:
        InputError: folder, version folders or a list missing, or a malformed line.
    """
    root = Path(root).expanduser().resolve()
    folders = next((f for f in VERSIONS.values() if all((root / n).is_dir() for n in f)), None)
    require(
        folders is not None,
        f"{root} is not MSMT17: it needs mask_train_v2 and mask_test_v2 (V2) or train, test (V1)",
    )
    train_folder, test_folder = folders  # type: ignore[misc]
    rows: list[tuple] = []
    for name, split in LISTS.items():
        folder = root / (train_folder if split == "train" else test_folder)
        rows += _read_list(root / name, folder, split)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    is_train = frame["split"] == "train"
    offset = frame.loc[is_train, "pid"].max() + 1
    frame["pid"] = frame["pid"] + 1 + offset * ~is_train
    return check_manifest(frame, str(root))


def _read_list(path: Path, folder: Path, split: str) -> list[tuple]:
    require(path.is_file(), f"{path} is missing: MSMT17 comes with it, copy it beside the folders")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        require(
            len(fields) == 2 and fields[1].isdigit() and len(fields[0].split("_")) > 2,
            f"{path} line {number} is {line!r}: it should be `folder/PID_..._CAMERA_....jpg pid`",
        )
        camera = int(Path(fields[0]).name.split("_")[2])
        rows.append((str(folder / fields[0]), int(fields[1]), camera, split, "real"))
    return rows

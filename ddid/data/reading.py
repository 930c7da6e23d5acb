"""One door to a user's data: a folder in a known layout, or a manifest."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ddid.data.manifest import read_manifest
from ddid.data.market import read_market
from ddid.data.msmt17 import LISTS, read_msmt17


class Data(NamedTuple):
    """A manifest, and what a person should know about the data, a sentence each."""

    manifest: pd.DataFrame
    messages: list[str]


def read_data(root: str | Path) -> Data:
    """Read a CSV manifest, an MSMT17 folder, or a folder in Market-1501 layout.

    Raises:
        InputError: nothing there, or what is there is none of the three.
    """
    root = Path(root).expanduser()
    if root.suffix.lower() == ".csv":
        return Data(read_manifest(root), [f"{root} is read as a manifest."])
    if any((root / name).is_file() for name in LISTS):
        return Data(read_msmt17(root), [f"{root} is read as MSMT17."])
    report = read_market(root)
    junk = [f"{report.dropped} junk images (identity -1) dropped."] if report.dropped else []
    known = [f"{root} is {report.known}."] if report.known else []
    return Data(report.manifest, [*known, *junk, *report.messages])

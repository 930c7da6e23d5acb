"""The manifest: one row per image, the only thing later steps know about a data set.

Columns: `path`, `pid` (identity, 0 = distractor), `camid` (-1 = unknown), `split` (train, val,
query or gallery) and `origin` (real or synthetic). Further columns are kept as they are.
"""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from ddid.errors import InputError, require
from ddid.files import atomic_write


def _storable(path: str) -> str:
    path.encode()  # a name that is no text cannot be written into a CSV file
    if "\0" in path:
        raise ValueError("a path holds no NUL")
    return path


class Row(BaseModel):
    """One image, as everything behind this module may trust it."""

    path: Annotated[str, Field(min_length=1), AfterValidator(_storable)]
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    camid: Annotated[int, Field(ge=-1, lt=2**31)] = -1
    split: Literal["train", "val", "query", "gallery"] = "train"
    origin: Literal["real", "synthetic"] = "real"


COLUMNS = list(Row.model_fields)
_ROWS = TypeAdapter(list[Row])


def check_manifest(
    frame: pd.DataFrame, where: str = "manifest", folder: Path | None = None, **options: bool
) -> pd.DataFrame:
    """The manifest with every row valid (see `Row`) and every image listed once, or InputError.
    `frame` has `path` and `pid` at least; its index says where a row stands, `where` what to call
    it. With a `folder`, paths become absolute as `below(folder, ..., **options)` makes them."""
    require(len(frame) > 0, f"{where} has no rows")
    try:
        rows = _ROWS.validate_python(frame[frame.columns.intersection(COLUMNS)].to_dict("records"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        number, name = first["loc"][:2]
        line, value = frame.index[int(number)], repr(first["input"])[:80]
        raise InputError(f"{where}, line {line}: {name} is {value}: {first['msg']}") from error
    frame = frame.assign(**pd.DataFrame(map(vars, rows), index=frame.index))
    if folder is not None:
        frame["path"] = below(folder, frame["path"], **options)
    twice = frame[frame.duplicated("path")]["path"].head(1)
    splits = frame.loc[frame["path"].isin(twice), "split"].unique()
    require(
        twice.empty,
        f"{where}: {''.join(twice)} is listed twice ({' and '.join(splits)}): keep one row",
    )
    return frame.reset_index(drop=True)


def below(folder: Path, paths: Iterable[str], allow_outside: bool = False) -> list[str]:
    """Absolute paths, links followed; InputError if one leaves `folder` and may not."""
    root, found = os.path.join(os.path.realpath(folder), ""), []
    real = cache(os.path.realpath)  # thousands of images share a folder
    for path in paths:
        head, name = os.path.split(os.path.join(folder, path))
        full = os.path.join(real(head), name)
        if name in ("", ".", "..") or os.path.islink(full):
            full = os.path.realpath(full)
        require(
            allow_outside or full.startswith(root),
            f"{path!r} leads to {full!r}, outside {folder}: move it, or allow_outside (notebook 01 "
            "and read_data know it)",
        )
        found.append(full)
    return found


def write_manifest(frame: pd.DataFrame, csv: str | Path) -> None:
    """Write a manifest; paths are made relative to the file's folder so that a run can move."""
    folder = Path(csv).resolve().parent
    relative = [os.path.relpath(path, folder) for path in frame["path"]]
    with atomic_write(csv) as temporary:
        frame.assign(path=relative).to_csv(temporary, index=False)

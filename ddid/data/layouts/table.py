"""A manifest as a CSV file: `path` and `pid`, and what else it has (see `ddid.data.manifest`)."""

import csv
import io
from pathlib import Path

import pandas as pd

from ddid.data.manifest import Row
from ddid.errors import refused, require

NAME = "a CSV manifest"


def recognises(root: Path) -> bool:
    """A file named .csv."""
    return root.is_file() and root.suffix.lower() == ".csv"


def read(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Rows in the order of the file, their index the line; empty optional fields are defaults. A
    row with another number of fields than the header would shift its columns: InputError."""
    optional = {name: f.default for name, f in Row.model_fields.items() if not f.is_required()}
    texts = dict.fromkeys(["path", *(n for n, d in optional.items() if isinstance(d, str))], str)
    with refused(f"{root} is not a CSV table in UTF-8", csv.Error, ValueError):
        text = root.read_text(encoding="utf-8-sig")
        lines = _lines(text, root)
        frame = pd.read_csv(io.StringIO(text), index_col=False, converters=texts)
    missing = {"path", "pid"} - set(frame.columns)
    require(not missing, f"{root} lacks the column(s) {', '.join(sorted(missing))}")
    require(len(frame) == len(lines), f"{root} has quotes that do not pair: mend them")
    notes = []
    for name in frame.columns.intersection([*optional]):
        empty = frame[name].isna() | (frame[name] == "")
        frame[name] = frame[name].mask(empty, optional[name])
        if empty.any():
            notes.append(f"{empty.sum()} rows without {name} are taken as {optional[name]}.")
    return frame.set_axis(lines), notes


def _lines(text: str, root: Path) -> list[int]:
    """The line on which each row ends."""
    reader = csv.reader(io.StringIO(text), strict=True)
    rows = [(reader.line_num, len(row)) for row in reader if row]
    require(bool(rows), f"{root} is empty: give columns {', '.join(Row.model_fields)}")
    wanted = rows[0][1]
    for line, fields in rows:
        require(
            fields == wanted,
            f"{root}, line {line} has {fields} fields where the header has {wanted}: quote commas",
        )
    return [line for line, _ in rows[1:]]

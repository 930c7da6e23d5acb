"""Whatever comes from outside is read, or refused by one InputError: nothing else is ever raised.

`HOSTILE_EXAMPLES=20000 pytest tests/data/test_hostile.py` tries more than the hundred each of
every run.
"""

import io
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ddid.balance.plan import Thresholds, resampling_plan
from ddid.data import Data, read_data
from ddid.data.decoding import load_images
from ddid.data.manifest import COLUMNS, check_manifest
from ddid.metric.ranking import Embedded, answerable, rank
from ddid.street.street import StreetConfig, plan_shots
from tests.refusal import told

many = settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "100")),
    deadline=None,
    derandomize="HOSTILE_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
WORDS = """-1 0 1 2 -2 1.5 1e3 nan inf x True ١ a.jpg ./a.jpg b/../a.jpg ../a.jpg /etc/passwd ~ .
train query gallery val real synthetic " "" ' , ; path pid camid split origin =1+1 -1.0 NULL #"""
ODD = st.sampled_from([*WORDS.split(), "", " ", "a\0b", "\n", "\r", "\ud800", "\ufeff"])
LONG = st.sampled_from(["9" * 30, "a" * 5000])
CELL = st.one_of(ODD, LONG, st.text(max_size=6))
NUMBER = st.one_of(
    st.integers(-3, 9), st.integers(), st.floats(), st.none(), st.text(max_size=3), st.booleans()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


def read_bytes(folder: Path, content: bytes) -> Data | None:
    """What is read of a manifest of these bytes, tried out as far as it goes."""
    (folder / "m.csv").write_bytes(content)
    data = told(lambda: read_data(folder / "m.csv"))
    if data is not None:
        told(lambda: data.images(size=(8, 4)))
        told(lambda: resampling_plan(data.manifest, Thresholds()))
    return data


def is_sound(data: Data, folder: Path) -> bool:
    frame, below = data.manifest, f"{folder.resolve()}/"
    return (
        list(frame.columns.intersection(COLUMNS)) != []
        and frame["path"].is_unique
        and all(path.startswith(below) for path in frame["path"])
        and frame[["pid", "camid"]].to_numpy().min() >= -1
        and told(lambda: check_manifest(frame)) is not None
    )


@many
@given(content=st.binary(max_size=200))
@example(content=b"a.jpg,1\n./b.jpg,2\n")  # is read
def test_any_bytes_as_a_manifest(folder, content):
    for text in (content, b"path,pid\n" + content):
        data = read_bytes(folder, text)
        assert data is None or is_sound(data, folder)


@many
@given(
    header=st.permutations([*COLUMNS, "note", "path"]),
    width=st.integers(1, 7),
    rows=st.lists(st.lists(CELL, max_size=7), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
def test_any_cells_as_a_manifest(folder, header, width, rows, end):
    lines = [header[:width], *rows]
    text = end.join(",".join(cells) for cells in lines)
    data = read_bytes(folder, text.encode("utf-8", "surrogatepass"))
    assert data is None or is_sound(data, folder)


@many
@given(
    rows=st.lists(st.tuples(CELL, NUMBER, NUMBER, CELL, CELL), min_size=1, max_size=6),
    share=NUMBER,
    delta=st.tuples(NUMBER, NUMBER),
    size=st.tuples(NUMBER, NUMBER),
)
def test_any_frame_share_threshold_and_size(rows, share, delta, size):
    frame = told(lambda: check_manifest(pd.DataFrame(rows, columns=COLUMNS)))
    good = pd.DataFrame({"path": list("abcdef"), "pid": [1, 1, 1, 2, 2, 3], "camid": [1, 1, 2] * 2})
    for manifest in (frame, check_manifest(good)):
        if manifest is not None:
            told(lambda m=manifest: Data(m).hold_out(share, 0))
            told(lambda m=manifest: resampling_plan(m, Thresholds(*delta)))
            told(lambda m=manifest: Data(m).images("train", size=size))


NAME = st.one_of(
    st.sampled_from(
        ["0002_c1s1_1.jpg", "0000_c9.png", "-1_c1.jpg", "-2_c1.jpg", "9" * 12 + "_c1.jpg"]
    ),
    st.binary(min_size=1, max_size=12).map(lambda b: b"0001_c1" + b + b".jpg"),
    st.binary(min_size=1, max_size=20),
)


@many
@given(names=st.lists(NAME, min_size=3, max_size=6), layout=st.sampled_from(["market", "msmt17"]))
def test_any_file_names(folder, names, layout):
    root = folder / "names"
    shutil.rmtree(root, ignore_errors=True)
    places = ["bounding_box_train", "query", "bounding_box_test"]
    if layout == "msmt17":
        places = ["train", "test"]
    for place in places:
        (root / place).mkdir(parents=True)
    for number, name in enumerate(names):
        raw = os.fsencode(name) if isinstance(name, str) else name
        raw = raw.replace(b"/", b"_").replace(b"\0", b"_")
        if layout == "msmt17":
            lists = ["train", "val", "query", "gallery"]
            (root / f"list_{lists[number % 4]}.txt").write_bytes(raw + b" 1\n" + raw)
        if raw not in (b".", b".."):
            Path(os.fsdecode(os.fsencode(root / places[number % len(places)]) + b"/" + raw)).touch()
    data = told(lambda: read_data(root))
    if data is not None:
        "\n".join(data.messages).encode()
        assert set(data.manifest["split"]) <= {"train", "val", "query", "gallery"}
        told(lambda: data.images(size=(8, 4)))


@cache
def picture(kind: str, mode: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


KINDS = [
    ("PNG", "RGB"),
    ("PNG", "P"),
    ("PNG", "1"),
    ("PNG", "LA"),
    ("PNG", "I;16"),
    ("PNG", "RGBA"),
]
KINDS += [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("GIF", "P"), ("TIFF", "F")]


@many
@given(
    kind=st.sampled_from(KINDS),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=5),
    noise=st.binary(max_size=40),
)
def test_any_picture(folder, kind, cut, flips, noise):
    content = bytearray(picture(*kind))
    for place, value in flips:
        content[place % len(content)] = value
    (folder / "a.png").write_bytes(bytes(content[: cut or None]) + noise)
    images = told(lambda: load_images([str(folder / "a.png")], (8, 4)))
    assert images is None or images.shape == (1, 3, 8, 4)


TENSOR = st.builds(
    lambda shape, kind, fill: torch.full(shape, fill).to(kind),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool]),
    st.sampled_from([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30]),
)
ANYTHING = st.one_of(TENSOR, st.none(), st.just([1.0]), st.just(np.zeros((2, 2))))


@many
@given(sides=st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING), min_size=2, max_size=2))
def test_any_arrays_as_embeddings(sides):
    query, gallery = (told(lambda s=side: Embedded(*s)) for side in sides)
    if query is not None and gallery is not None:
        found = told(lambda: rank(query, gallery))
        assert found is None or bool(((found.ap >= 0) & (found.ap <= 1)).all())
        answerable(query, gallery)


@many
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(StreetConfig.__dataclass_fields__)), NUMBER, max_size=3
    )
)
def test_any_street(changes):
    config = told(lambda: StreetConfig(**changes))
    if config is not None and config.train_identities * config.images < 5000:
        assert next(plan_shots(config)).pid > 0

"""Every layout comes through one door, with the same checks and the same messages."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import ddid.data.layouts
from ddid.data import read_data, reopen
from ddid.data.manifest import write_manifest
from ddid.data.quality import PUBLISHED, matched, quality
from ddid.errors import InputError
from ddid.metric.ranking import answerable

MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_1.jpg", "0007_c1s1_1.jpg"],
    "query": ["0010_c1s1_1.jpg"],
    "bounding_box_test": ["0010_c2s1_1.jpg", "0000_c3s1_1.jpg", "-1_c1s1_1.jpg", "Thumbs.db"],
}
MSMT17 = {
    "train": ("mask_train_v2", "0000/0000_000_01_x.jpg 0\n0001/0001_000_02_x.jpg 1\n"),
    "val": ("mask_train_v2", "0000/0000_001_03_x.jpg 0\n"),
    "query": ("mask_test_v2", "0000/0000_000_04_x.jpg 0\n"),
    "gallery": ("mask_test_v2", "0000/0000_001_05_x.jpg 0\n"),
}


def write_market(root):
    for folder, names in MARKET.items():
        (root / folder).mkdir()
        for name in names:
            Image.new("RGB", (4, 8)).save(root / folder / name, format="JPEG")


def write_msmt17(root):
    for name, (folder, lines) in MSMT17.items():
        (root / f"list_{name}.txt").write_text(lines)
        for line in lines.splitlines():
            path = root / folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 8)).save(path)


def write_table(root):
    write_market(root)
    frame = read_data(root).manifest
    write_manifest(frame, root / "all.csv")


DOORS = {
    "market": (write_market, ""),
    "msmt17": (write_msmt17, ""),
    "table": (write_table, "all.csv"),
}


@pytest.mark.parametrize("layout", DOORS)
def test_every_layout_gives_manifest_messages_and_images(layout, tmp_path):
    write, name = DOORS[layout]
    write(tmp_path)
    data = read_data(tmp_path / name)
    assert all(os.path.isabs(path) for path in data.manifest["path"])
    assert sum("train identities have one image only" in text for text in data.messages) == 1
    train, query, gallery = data.images(size=(8, 4))
    assert train.images.shape == (3, 3, 8, 4)
    assert torch.equal(data.images("query", size=(8, 4)).images, query.images)
    assert {1, 2} >= {len(query), len(gallery)}


def test_a_new_layout_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/flat.py").write_text(
        "import pandas as pd\n"
        "NAME = 'a flat folder'\n"
        "def recognises(root): return (root / 'flat.txt').is_file()\n"
        "def read(root):\n"
        "    return pd.DataFrame({'path': ['a.png', 'b.png'], 'pid': [1, 2]}), ['flat indeed.']\n"
    )
    places = [*ddid.data.layouts.__path__, str(tmp_path / "plugins")]
    monkeypatch.setattr(ddid.data.layouts, "__path__", places)
    (tmp_path / "flat.txt").touch()
    data = read_data(tmp_path)
    assert data.manifest["path"].tolist() == [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]
    assert "flat indeed." in data.messages


def test_market_names_give_identity_camera_and_split(tmp_path):
    write_market(tmp_path)
    data = read_data(tmp_path)
    assert data.manifest[["pid", "camid", "split"]].values.tolist() == [
        [2, 1, "train"],
        [2, 2, "train"],
        [7, 1, "train"],
        [10, 1, "query"],
        [0, 3, "gallery"],
        [10, 2, "gallery"],
    ]
    assert "1 junk images (identity -1) dropped." in data.messages
    assert any("Thumbs.db" in message for message in data.messages)


def test_msmt17_keeps_train_and_test_identities_apart(tmp_path):
    write_msmt17(tmp_path)
    frame = read_data(tmp_path).manifest
    assert frame["pid"].tolist() == [1, 2, 1, 3, 3]
    assert frame["camid"].tolist() == [1, 2, 3, 4, 5]
    assert frame["split"].tolist() == ["train"] * 3 + ["query", "gallery"]


def test_msmt17_names_what_is_missing(tmp_path):
    (tmp_path / "list_train.txt").write_text("")
    with pytest.raises(InputError, match="neither mask_train_v2"):
        read_data(tmp_path)
    write_msmt17(tmp_path)
    (tmp_path / "list_query.txt").write_text("0000_000_04_x.jpg\n")
    with pytest.raises(InputError, match=r"list_query\.txt line 1"):
        read_data(tmp_path)
    (tmp_path / "list_query.txt").unlink()
    with pytest.raises(InputError, match=r"list_query\.txt is missing"):
        read_data(tmp_path)


def test_a_published_set_is_named_and_its_part_called_incomplete(tmp_path, monkeypatch):
    write_market(tmp_path)
    assert not any("incomplete" in message for message in read_data(tmp_path).messages)
    monkeypatch.setitem(PUBLISHED, "Tiny", (3, 1, 2))
    assert any("this is Tiny" in message for message in read_data(tmp_path).messages)
    (tmp_path / "bounding_box_test/0010_c2s1_1.jpg").unlink()
    assert any("incomplete copy of Tiny" in message for message in read_data(tmp_path).messages)
    monkeypatch.setitem(PUBLISHED, "Tiny", (4, 2, 3))
    assert not any("Tiny" in message for message in read_data(tmp_path).messages)


def test_few_people_to_train_on_are_told():
    manifest = pd.DataFrame({"split": "train", "pid": range(15), "camid": 0})
    assert "A batch has 16 people by default and only 15 train" in " ".join(quality(manifest))
    assert "A batch" not in " ".join(quality(manifest.assign(split="query")))
    more = pd.concat([manifest, manifest.assign(pid=15)])
    assert "A batch" not in " ".join(quality(more))


def test_cells_left_empty_are_counted(tmp_path):
    rows = ["a.png,1,1,query", "b.png,1,,", "c.png,1,2,", "d.png,1,,gallery"]
    (tmp_path / "m.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
    data = read_data(tmp_path / "m.csv")
    assert {"2 rows without camid are taken as -1.", "2 rows without split are taken as train."} < {
        *data.messages
    }
    assert data.manifest["camid"].tolist() == [1, -1, 2, -1]
    with pytest.raises(InputError, match="no trian images, only query, train, gallery"):
        data.images("trian", size=(8, 4))


def test_images_missing_everywhere_are_an_incomplete_copy_too(tmp_path, monkeypatch):
    splits = ["train"] * 9 + ["query"] * 8 + ["gallery"] * 9
    manifest = pd.DataFrame({"split": splits, "pid": 1, "camid": 0})
    monkeypatch.setitem(PUBLISHED, "Tiny", (10, 10, 10))
    assert "incomplete copy of Tiny" in quality(manifest)[0]
    assert "Tiny" not in quality(manifest[manifest["split"] != "query"])[0]
    held_out = manifest["split"].where(manifest.index > 3, "val")
    monkeypatch.setitem(PUBLISHED, "Tiny", (9, 8, 9))
    assert "this is Tiny" in quality(manifest.assign(split=held_out))[0]


def test_copies_that_jupyter_hides_are_no_images(tmp_path):
    write_market(tmp_path)
    hidden = tmp_path / "query/.ipynb_checkpoints"
    hidden.mkdir()
    (hidden / "0010_c1s1_1-checkpoint.jpg").write_bytes(b"")
    assert len(read_data(tmp_path).manifest) == 6


@pytest.mark.parametrize("size", [(64,), 64, (64, 32, 3), (64, 32.0)])
def test_a_size_is_height_and_width(size, tmp_path):
    write_market(tmp_path)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(InputError, match="image size is"):
            read_data(tmp_path, cache=cache).images("train", size=size)


def test_without_cameras_or_a_test_set_that_alone_is_told(tmp_path):
    Image.new("RGB", (4, 8)).save(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("path,pid\na.png,1\n")
    told = " ".join(read_data(tmp_path / "m.csv").messages)
    assert "No test set" in told
    assert "No camera is known" in told
    assert "one camera only" not in told
    write_market(tmp_path)
    assert "No test set" not in " ".join(read_data(tmp_path).messages)


def test_queries_that_nobody_can_answer_are_told(tmp_path):
    write_market(tmp_path)
    manifest = read_data(tmp_path).manifest
    assert "No query has a match" not in " ".join(quality(manifest))
    assert "No query has a match" in " ".join(quality(manifest.assign(camid=1)))
    assert "No query has a match" not in " ".join(quality(manifest.assign(camid=-1)))


@pytest.mark.parametrize("seed", range(20))
def test_a_manifest_has_matches_as_the_ranking_counts_them(seed):
    """The same rule of two rooms that do not know each other."""
    numbers = np.random.default_rng(seed)
    rows = {"pid": numbers.integers(0, 6, 8), "camid": numbers.integers(-1, 2, 8)}
    manifest = pd.DataFrame(rows).assign(split=["query"] * 3 + ["gallery"] * 5)
    parts = [part for _, part in manifest.groupby("split", sort=False)]
    tensors = [{n: torch.tensor(part[n].array) for n in ("pid", "camid")} for part in parts]
    sides = [SimpleNamespace(pids=each["pid"], camids=each["camid"]) for each in tensors]
    assert matched(manifest) == bool(answerable(*sides).any())


def test_people_in_linked_folders_are_read(tmp_path):
    (tmp_path / "set").mkdir()
    write_market(tmp_path / "set")
    (tmp_path / "store").mkdir()
    image = tmp_path / "set/query/0010_c1s1_1.jpg"
    shutil.copy(image, tmp_path / "store/0011_c1s1_1.jpg")
    (tmp_path / "set/query/0011").symlink_to(tmp_path / "store")
    found = read_data(tmp_path / "set", allow_outside=True).manifest
    assert set(found[found["split"] == "query"]["pid"]) == {10, 11}


def test_an_identity_zero_to_be_found_is_told(tmp_path):
    write_market(tmp_path)
    assert not any("distractor" in message for message in read_data(tmp_path).messages)
    (tmp_path / "query/0010_c1s1_1.jpg").rename(tmp_path / "query/0000_c1s1_1.jpg")
    assert any("number people from 1" in message for message in read_data(tmp_path).messages)


def test_an_identity_in_train_and_query_is_told(tmp_path):
    write_market(tmp_path)
    (tmp_path / "query/0010_c1s1_1.jpg").rename(tmp_path / "query/0002_c1s1_1.jpg")
    assert any("in train and query, 2" in message for message in read_data(tmp_path).messages)


def test_what_is_no_data_set_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no file or folder"):
        read_data(tmp_path / "nowhere")
    with pytest.raises(InputError, match="none of the known layouts: Market"):
        read_data(tmp_path)
    (tmp_path / "list.csv").touch()
    with pytest.raises(InputError, match=r"list\.csv may be the manifest"):
        read_data(tmp_path)
    write_market(tmp_path)
    (tmp_path / "query/0010_c1s1_1.jpg").unlink()
    with pytest.raises(InputError, match="holds no image named like"):
        read_data(tmp_path)
    (tmp_path / "query").rmdir()
    with pytest.raises(InputError, match="lacks query"):
        read_data(tmp_path)


def test_a_link_may_not_lead_outside_unless_allowed(tmp_path):
    (tmp_path / "set").mkdir()
    write_market(tmp_path / "set")
    (tmp_path / "set/query").rename(tmp_path / "elsewhere")
    (tmp_path / "set/query").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="outside"):
        read_data(tmp_path / "set")
    data = read_data(tmp_path / "set", allow_outside=True)
    assert len(data.images("query", size=(8, 4))) == 1


def test_broken_images_stop_or_are_left_out_as_wished(tmp_path):
    write_market(tmp_path)
    for name in MARKET["bounding_box_train"][:2]:
        path = tmp_path / "bounding_box_train" / name
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"0002_c1s1_000451_03.* 2 of 3 images are broken"):
        read_data(tmp_path).images("train", size=(8, 4))
    data = read_data(tmp_path, skip_broken=True)
    assert any(
        "2 broken image(s), which skip_broken leaves out" in message for message in data.messages
    )
    assert data.images("train", size=(8, 4)).pids.tolist() == [7]


def test_validation_is_a_test_set_of_held_out_identities(tmp_path):
    rows = [f"{p}_{c}_{i}.png,{p},{c}" for p in range(1, 7) for c in (1, 2) for i in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["path,pid,camid", *rows]))
    data = read_data(tmp_path / "m.csv").hold_out(0.5, seed=0)
    sides = data.validation().manifest.groupby("split")["path"].agg(set)
    assert {name: len(paths) for name, paths in sides.items()} == {"query": 6, "gallery": 12}
    assert not sides["query"] & sides["gallery"]
    with pytest.raises(InputError, match="no gallery images"):
        data.images("gallery", size=(8, 4))


def test_nobody_is_held_out_for_synthetic_images(tmp_path):
    rows = [
        f"{p}_{c}_{o}.png,{p},{c},{o}"
        for p in (1, 2)
        for c in (1, 2)
        for o in ("real", "synthetic")
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,pid,camid,origin", *rows]))
    with pytest.raises(InputError, match="only 0 train identities have a match"):
        read_data(tmp_path / "m.csv").hold_out(0.5, seed=0)


def test_a_run_decodes_once_and_again_when_a_file_changes(tmp_path, monkeypatch):
    from ddid.data import decoding

    folder = tmp_path / "run/01"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 8), (1, 2, 3)).save(tmp_path / "a.png")
    (folder / "m.csv").write_text("path,pid\n../../a.png,1\n")
    decoded = []
    original = decoding._decoded
    monkeypatch.setattr(decoding, "_decoded", lambda *a: decoded.append(a) or original(*a))

    def read(size=(8, 4)):
        return reopen(folder / "m.csv").images("train", size=size).images

    assert torch.equal(read(), read())
    assert len(decoded) == 1
    assert read((4, 2)).shape == (1, 3, 4, 2)
    assert len(decoded) == 2
    Image.new("RGB", (4, 8), (9, 9, 9)).save(tmp_path / "a.png")
    assert (read() == 9).all()
    assert len(decoded) == 3
    monkeypatch.setattr(decoding, "_decode", lambda path, size: np.zeros((3, *size), np.uint8))
    assert (read() == 0).all(), "what another decoder made was taken"
    assert len(list((tmp_path / "run/decoded").glob("*.npy"))) == 2, "a changed file leaves no copy"
    monkeypatch.setattr(decoding.os, "access", lambda path, mode: False)
    assert read((2, 1)).shape == (1, 3, 2, 1), "a run that may only be read is shown all the same"
    assert len(list((tmp_path / "run/decoded").glob("*.npy"))) == 2

import pytest
from PIL import Image

from ddid.data import market
from ddid.data.market import read_market
from ddid.data.msmt17 import read_msmt17
from ddid.errors import InputError

FILES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_1.jpg", "0007_c1s1_1.jpg"],
    "query": ["0010_c1s1_1.jpg"],
    "bounding_box_test": ["0010_c2s1_1.jpg", "0000_c3s1_1.jpg", "-1_c1s1_1.jpg", "Thumbs.db"],
}


@pytest.fixture
def root(tmp_path):
    for folder, names in FILES.items():
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (4, 8)).save(tmp_path / folder / name, format="JPEG")
    return tmp_path


def test_names_give_identity_camera_and_split(root):
    frame = read_market(root).manifest
    assert frame[["pid", "camid", "split"]].values.tolist() == [
        [2, 1, "train"],
        [2, 2, "train"],
        [7, 1, "train"],
        [10, 1, "query"],
        [0, 3, "gallery"],
        [10, 2, "gallery"],
    ]


def test_junk_is_dropped_distractors_stay_and_strays_are_reported(root):
    report = read_market(root)
    assert report.dropped == 1
    assert 0 in set(report.manifest["pid"])
    assert report.stray == ["bounding_box_test/Thumbs.db"]
    assert any("stray" in message for message in report.messages)


def test_thin_identities_are_reported(root):
    messages = read_market(root).messages
    assert "1 train identities have one image only." in messages
    assert "1 train identities are seen by one camera only." in messages


def test_counts_are_compared_with_the_published_ones(root, monkeypatch):
    assert read_market(root).known is None
    assert any("copy is incomplete" in message for message in read_market(root).messages)
    monkeypatch.setitem(market.KNOWN_COUNTS, "Tiny", (3, 1, 2))
    assert read_market(root).known == "Tiny"


def test_an_identity_in_train_and_query_is_reported(root):
    (root / "query/0010_c1s1_1.jpg").rename(root / "query/0002_c1s1_1.jpg")
    assert any("train and query" in message for message in read_market(root).messages)


def test_a_missing_folder_a_wrong_layout_and_an_empty_one_are_one_sentence(root):
    with pytest.raises(InputError, match="no folder"):
        read_market(root / "nowhere")
    with pytest.raises(InputError, match="lacks bounding_box_train, query, bounding_box_test"):
        read_market(root / "query")
    (root / "query/0010_c1s1_1.jpg").unlink()
    with pytest.raises(InputError, match="holds no image named like"):
        read_market(root)


def write_msmt17(root):
    lists = {
        "train": "0000/0000_000_01_x.jpg 0\n0001/0001_000_02_x.jpg 1\n",
        "val": "0000/0000_001_03_x.jpg 0\n",
        "query": "0000/0000_000_04_x.jpg 0\n",
        "gallery": "0000/0000_001_05_x.jpg 0\n",
    }
    for folder in ("mask_train_v2", "mask_test_v2"):
        (root / folder).mkdir()
    for name, text in lists.items():
        (root / f"list_{name}.txt").write_text(text)


def test_msmt17_keeps_train_and_test_identities_apart(tmp_path):
    write_msmt17(tmp_path)
    frame = read_msmt17(tmp_path)
    assert frame["pid"].tolist() == [1, 2, 1, 3, 3]
    assert frame["camid"].tolist() == [1, 2, 3, 4, 5]
    assert frame["split"].tolist() == ["train"] * 3 + ["query", "gallery"]


def test_msmt17_names_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="is not MSMT17"):
        read_msmt17(tmp_path)
    write_msmt17(tmp_path)
    (tmp_path / "list_query.txt").write_text("0000_000_04_x.jpg\n")
    with pytest.raises(InputError, match=r"list_query\.txt line 1"):
        read_msmt17(tmp_path)
    (tmp_path / "list_query.txt").unlink()
    with pytest.raises(InputError, match=r"list_query\.txt is missing"):
        read_msmt17(tmp_path)

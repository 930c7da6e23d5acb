import pytest
from PIL import Image

from ddid.data.reading import read_data
from ddid.errors import InputError


def test_a_manifest_is_read_as_one(tmp_path):
    (tmp_path / "m.csv").write_text("path,pid\na.jpg,4\n")
    data = read_data(tmp_path / "m.csv")
    assert data.manifest["pid"].tolist() == [4]
    assert "manifest" in data.messages[0]


def test_lists_make_a_folder_msmt17(tmp_path):
    (tmp_path / "list_train.txt").write_text("")
    with pytest.raises(InputError, match="is not MSMT17"):
        read_data(tmp_path)


def test_anything_else_must_be_in_market_layout(tmp_path):
    with pytest.raises(InputError, match="Market-1501 layout"):
        read_data(tmp_path)
    for folder, pid in (("bounding_box_train", 1), ("query", 2), ("bounding_box_test", 2)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 8)).save(tmp_path / folder / f"000{pid}_c1_x.jpg")
    Image.new("RGB", (4, 8)).save(tmp_path / "query" / "-1_c1_x.jpg")
    data = read_data(tmp_path)
    assert data.manifest["pid"].tolist() == [1, 2, 2]
    assert "1 junk images (identity -1) dropped." in data.messages

import pandas as pd
import pytest

from ddid.data import Data, read_data
from ddid.data.layouts import table as table_layout
from ddid.data.manifest import COLUMNS, check_manifest, write_manifest
from ddid.errors import InputError


def hold_out(frame, share, seed):
    return Data(frame).hold_out(share, seed).manifest


def table(identities=6, cameras=2, images=3, split="train"):
    rows = [
        (f"/data/{pid}_{cam}_{i}.jpg", pid, cam, split, "real")
        for pid in range(1, identities + 1)
        for cam in range(1, cameras + 1)
        for i in range(images)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_what_is_written_is_read_back(tmp_path):
    frame = table().assign(note="x", path=lambda f: str(tmp_path) + f["path"])
    write_manifest(frame, tmp_path / "manifest.csv")
    assert read_data(tmp_path / "manifest.csv").manifest.equals(frame)


def test_paths_follow_the_folder_when_it_moves(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write_manifest(table().assign(path=[f"{old}/{i}.png" for i in range(36)]), old / "m.csv")
    old.rename(new)
    assert read_data(new / "m.csv").manifest["path"][0] == f"{new}/0.png"


def test_path_and_pid_are_enough(tmp_path):
    (tmp_path / "m.csv").write_text("path,pid\na.jpg,4\nb.jpg,5\n")
    frame = read_data(tmp_path / "m.csv").manifest
    assert frame[["camid", "split", "origin"]].drop_duplicates().values.tolist() == [
        [-1, "train", "real"]
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("path,pid\na.jpg,1,2\n", "line 2 has 3 fields where the header has 2"),
        ("path,pid\n\na.jpg,1\nb.jpg\n", "line 4 has 1 fields"),
        ("path,pid\n,1\n", "line 2: path is nan"),
        ("path,pid\na\0.jpg,1\n", "holds no NUL"),
        ("path,pid\n../a.jpg,1\n", "outside"),
        ("path,pid\n/etc/a.jpg,1\n", "outside"),
        ("path,pid,camid\na.jpg,1,-2\n", "camid is -2"),
        ("path,pid,split\na.jpg,1,query\n./a.jpg,1,gallery\n", "twice .query and gallery"),
        ('path,pid\n"a.jpg,1\n', "not a CSV table"),
        ("path,pid\n", "no rows"),
        ("path\na.jpg\n", r"lacks the column\(s\) pid"),
        ("path,pid\na.jpg,x\n", "pid is 'x'"),
        ("path,pid\na.jpg,1.5\n", "pid is 1.5"),
        ("path,pid,split\na.jpg,1,exam\n", "split is 'exam'.*'train', 'val', 'query' or 'gallery'"),
        ("path,pid\na.jpg,1\na.jpg,1\n", "listed twice"),
        ("path,pid\na.jpg,-2\n", "pid is -2"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_data(tmp_path / "m.csv")


def test_empty_fields_are_defaults(tmp_path):
    (tmp_path / "m.csv").write_text("path,pid,camid,split,origin\na.png,1,,,\nb.png,2,3,,real\n")
    found = table_layout.read(tmp_path / "m.csv")[0]
    assert found[["camid", "split", "origin"]].to_numpy().tolist() == [
        [-1, "train", "real"], [3, "train", "real"],
    ]  # fmt: skip


def test_junk_is_dropped_from_a_csv_too(tmp_path):
    (tmp_path / "m.csv").write_text("path,pid\na.jpg,-1\nb.jpg,0\n")
    assert read_data(tmp_path / "m.csv").manifest["pid"].tolist() == [0]


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no file or folder"):
        read_data(tmp_path / "m.csv")


def test_held_out_identities_move_whole_and_the_same_for_a_seed():
    frame = hold_out(table(), 0.5, seed=1)
    splits = frame.groupby("pid")["split"].agg(["nunique", "first"])
    assert (splits["nunique"] == 1).all()
    assert (splits["first"] == "val").sum() == 3
    assert frame.equals(hold_out(table(), 0.5, seed=1))
    assert any(not frame.equals(hold_out(table(), 0.5, seed=s)) for s in range(2, 6))


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match="seed is"):
        hold_out(table(), 0.5, seed)


def test_one_camera_identities_are_never_held_out():
    lonely = table(identities=3, cameras=1)
    seen = table(identities=6).query("pid > 3")
    frame = hold_out(check_manifest(pd.concat([lonely, seen])), 0.5, seed=0)
    assert set(frame.loc[frame["split"] == "val", "pid"]) == {4, 5, 6}
    with pytest.raises(InputError, match="lower the validation share"):
        hold_out(lonely, 0.5, seed=0)
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        hold_out(table(), 1.0, seed=0)


def test_where_nobody_has_two_cameras_nothing_is_held_out():
    rows = [("a.jpg", pid, 1, "train") for pid in (5, 6)]
    frame = pd.DataFrame(rows, columns=["path", "pid", "camid", "split"]).assign(origin="real")
    assert hold_out(frame, 0.0, seed=0).equals(frame)


@pytest.mark.parametrize(
    ("camids", "held"), [([-1] * 3, True), ([-1, 1], False), ([-1, 1, 1], True), ([1, 1, 1], False)]
)
def test_only_who_has_a_match_among_the_rest_is_held_out(camids, held):
    """Unknown cameras equal no camera; two images under two cameras leave no gallery."""
    rows = [(f"{pid}_{i}.jpg", pid, c) for pid in (1, 2) for i, c in enumerate(camids)]
    frame = check_manifest(pd.DataFrame(rows, columns=COLUMNS[:3]))
    if held:
        assert (hold_out(frame, 0.5, seed=0)["split"] == "val").sum() == len(camids)
    else:
        with pytest.raises(InputError, match="only 0 train identities"):
            hold_out(frame, 0.5, seed=0)

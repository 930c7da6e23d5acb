import pandas as pd
import pytest

from ddid.data.manifest import (
    COLUMNS,
    check_manifest,
    has_matches,
    hold_out,
    query_gallery,
    read_manifest,
    write_manifest,
)
from ddid.errors import InputError


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
    assert read_manifest(tmp_path / "manifest.csv").equals(frame)


def test_paths_follow_the_folder_when_it_moves(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write_manifest(table().assign(path=[f"{old}/{i}.png" for i in range(36)]), old / "m.csv")
    old.rename(new)
    assert read_manifest(new / "m.csv")["path"][0] == f"{new}/0.png"


def test_path_and_pid_are_enough(tmp_path):
    (tmp_path / "m.csv").write_text("path,pid\na.jpg,4\nb.jpg,5\n")
    frame = read_manifest(tmp_path / "m.csv")
    assert frame[["camid", "split", "origin"]].drop_duplicates().values.tolist() == [
        [-1, "train", "real"]
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a CSV table"),
        ("path,pid\n", "no rows"),
        ("path\na.jpg\n", r"lacks the column\(s\) pid"),
        ("path,pid\na.jpg,x\n", "pid 'x' is not a whole number"),
        ("path,pid\na.jpg,1.5\n", "not a whole number"),
        ("path,pid,split\na.jpg,1,exam\n", "'exam'.* is not one of gallery, query, train, val"),
        ("path,pid\na.jpg,1\na.jpg,1\n", "listed twice"),
        ("path,pid\na.jpg,-2\n", "pid -2 is negative"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_manifest(tmp_path / "m.csv")


def test_junk_is_dropped_from_a_csv_too(tmp_path):
    (tmp_path / "m.csv").write_text("path,pid\na.jpg,-1\nb.jpg,0\n")
    assert read_manifest(tmp_path / "m.csv")["pid"].tolist() == [0]


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no manifest"):
        read_manifest(tmp_path / "m.csv")


def test_held_out_identities_move_whole_and_the_same_for_a_seed():
    frame = hold_out(table(), 0.5, seed=1)
    splits = frame.groupby("pid")["split"].agg(["nunique", "first"])
    assert (splits["nunique"] == 1).all()
    assert (splits["first"] == "val").sum() == 3
    assert frame.equals(hold_out(table(), 0.5, seed=1))
    assert any(not frame.equals(hold_out(table(), 0.5, seed=s)) for s in range(2, 6))


def test_one_camera_identities_are_never_held_out():
    lonely = table(identities=3, cameras=1)
    seen = table(identities=6).query("pid > 3")
    frame = hold_out(check_manifest(pd.concat([lonely, seen])), 0.5, seed=0)
    assert set(frame.loc[frame["split"] == "val", "pid"]) == {4, 5, 6}
    with pytest.raises(InputError, match="lower the validation share"):
        hold_out(lonely, 0.5, seed=0)
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        hold_out(table(), 1.0, seed=0)


def test_validation_has_one_query_for_each_identity_and_camera():
    query, gallery = query_gallery(table(split="val"), "val")
    assert len(query) == 6 * 2
    assert len(gallery) == 6 * 2 * 2
    assert not set(query["path"]) & set(gallery["path"])


def test_test_split_is_the_data_sets_own():
    frame = check_manifest(pd.concat([table(split="query"), table(split="gallery")]))
    query, gallery = query_gallery(frame)
    assert set(query["split"]) == {"query"}
    assert set(gallery["split"]) == {"gallery"}


def test_an_empty_split_is_one_sentence():
    with pytest.raises(InputError, match="no query images"):
        query_gallery(table(), "test")
    with pytest.raises(InputError, match="choose test or val"):
        query_gallery(table(), "train")


def test_where_nobody_has_two_cameras_nothing_is_held_out():
    rows = [("a.jpg", pid, 1, "train") for pid in (5, 6)]
    frame = pd.DataFrame(rows, columns=["path", "pid", "camid", "split"]).assign(origin="real")
    assert hold_out(frame, 0.0, seed=0).equals(frame)


@pytest.mark.parametrize(
    ("query", "gallery", "matches"),
    [
        ((5, 1), (5, 2), True),
        ((5, 1), (5, 1), False),
        ((5, -1), (5, -1), True),
        ((5, 1), (6, 2), False),
    ],
)
def test_a_match_is_the_same_person_from_another_camera(query, gallery, matches):
    rows = [("a.jpg", *query, "query"), ("b.jpg", *gallery, "gallery"), ("c.jpg", 5, 3, "train")]
    frame = pd.DataFrame(rows, columns=["path", "pid", "camid", "split"])
    assert has_matches(frame) == matches
    assert not has_matches(frame[frame["split"] != "query"])

"""The street is a data set like any other: same bytes, known bias, readable, resumable."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddid.data import read_data
from ddid.errors import InputError
from ddid.street import street as module
from ddid.street.street import StreetConfig, plan_shots, take, write_street

SMALL = StreetConfig(
    train_identities=8,
    test_identities=5,
    cameras=3,
    images=6,
    distractors=4,
    junk=2,
    height=32,
    width=16,
)

LOOKS = [
    *(157.1, 143.2, 138.4, 148.7, 137.4, 132.6, 147.7, 120.0, 128.7, 152.8, 147.0, 155.5),
    *(127.2, 102.2, 87.1, 133.6, 138.5, 133.7, 158.6, 145.0, 138.4, 137.9, 132.6, 142.5),
]


def plan(config: StreetConfig, folder: str = "bounding_box_train") -> pd.DataFrame:
    shots = pd.DataFrame(vars(shot) for shot in plan_shots(config))
    return shots[shots["folder"] == folder]


def files(root) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    return write_street(tmp_path_factory.mktemp("street") / "images", SMALL)


def test_the_market_reader_reads_what_was_planned(street):
    data = read_data(street)
    splits = data.manifest["split"].value_counts()
    assert splits["train"] == len(plan(SMALL))
    assert splits["query"] == 5 * 3
    assert splits["gallery"] == 5 * 3 * SMALL.gallery_images + SMALL.distractors
    assert f"{SMALL.junk} junk images (identity -1) dropped." in data.messages
    assert not any("stray" in message for message in data.messages)
    assert Image.open(next(street.rglob("*.jpg"))).size == (SMALL.width, SMALL.height)


def test_train_and_test_identities_are_disjoint_and_every_query_has_a_match(street):
    manifest = read_data(street).manifest
    by_split = manifest.groupby("split")["pid"].agg(set)
    assert not by_split["train"] & (by_split["query"] | by_split["gallery"])
    gallery = manifest[manifest["split"] == "gallery"]
    for query in manifest[manifest["split"] == "query"].itertuples():
        assert ((gallery["pid"] == query.pid) & (gallery["camid"] != query.camid)).any()


def test_same_seed_same_bytes_whatever_was_there_before(street, tmp_path):
    calls = 0

    def interrupt(what: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_street(tmp_path / "again", SMALL, interrupt)
    assert 0 < len(files(tmp_path / "again")) < len(files(street))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("*.jpg")}
    write_street(tmp_path / "again", SMALL)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert files(tmp_path / "again") == files(street)


def test_another_seed_and_another_domain_give_other_images():
    shot = next(plan_shots(SMALL))
    images = [
        np.asarray(take(shot, config), float)
        for config in (SMALL, replace(SMALL, seed=1), replace(SMALL, domain="campus"))
    ]
    assert all(np.abs(images[0] - image).mean() > 5 for image in images[1:])


def test_a_finished_street_is_left_alone_and_another_is_refused(street):
    before = {path: path.stat().st_mtime_ns for path in street.rglob("*.j*")}
    assert write_street(street, SMALL) == street
    assert {path: path.stat().st_mtime_ns for path in street.rglob("*.j*")} == before
    with pytest.raises(InputError, match="another configuration"):
        write_street(street, replace(SMALL, seed=1))


def test_anew_another_street_takes_the_place_of_the_first(street, tmp_path):
    copy, other = tmp_path / "copy", replace(SMALL, seed=1)
    shutil.copytree(street, copy)
    (copy / "mine.txt").write_text("stays")
    assert files(write_street(copy, other, anew=True)) != files(street)
    assert files(copy) == files(write_street(tmp_path / "other", other))
    assert (copy / "mine.txt").read_text() == "stays"
    (copy / "mine.txt").unlink()
    (copy / "street.json").unlink()  # as one is told to do with a damaged one
    assert files(write_street(copy, SMALL, anew=True)) == files(street)
    with pytest.raises(InputError, match="not empty"):
        write_street(tmp_path, other, anew=True)


def test_a_street_that_cannot_be_removed_is_not_mixed_with_another(street, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(street, copy)

    def busy(folder, ignore_errors=False):
        if not ignore_errors:
            raise OSError(f"{folder} is busy")

    monkeypatch.setattr(module.shutil, "rmtree", busy)
    with pytest.raises(OSError, match="busy"):
        write_street(copy, replace(SMALL, seed=1), anew=True)


def test_a_street_of_other_drawing_code_is_not_gone_on_with(street, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(street, copy)
    monkeypatch.setattr(module, "take", lambda shot, config: Image.new("RGB", (16, 32)))
    with pytest.raises(InputError, match="other code"):
        write_street(copy, SMALL)


def test_two_writers_at_once_make_one_street(street, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        roots = list(pool.map(lambda _: write_street(tmp_path / "both", SMALL), range(2)))
    assert roots == [tmp_path / "both"] * 2
    assert files(tmp_path / "both") == files(street)
    assert not list((tmp_path / "both").rglob("*.writing-*"))


def test_the_drawing_is_what_it_was():
    """Means of image quarters, recorded; another machine rounds a few pixels differently."""
    shots = list(plan_shots(SMALL))[::29]
    pixels = np.stack([np.asarray(take(shot, SMALL), float) for shot in shots])
    found = pixels.reshape(len(shots), 2, 16, 16, 3).mean((2, 3)).round(1)
    assert np.abs(found.flatten() - LOOKS).max() < 0.5


@pytest.mark.parametrize("damage", ["bit", "gone"])
def test_a_damaged_image_is_drawn_again(damage, street, tmp_path):
    root = tmp_path / "street"
    shutil.copytree(street, root)
    image, whole = next(root.glob("query/*.jpg")), files(root)
    turned = bytearray(image.read_bytes())
    turned[-30] ^= 1
    image.write_bytes(turned) if damage == "bit" else image.unlink()
    write_street(root, SMALL)
    assert files(root) == whole


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError, match="not empty"):
        write_street(tmp_path, SMALL)


@pytest.mark.parametrize(
    "change",
    [{"domain": "moon"}, {"cameras": 0}, {"duplicates": 1.5}, {"tail": -1.0}, {"height": 4}],
)
def test_impossible_configurations_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SMALL, **change)


def test_tail_bends_images_per_identity_without_changing_their_number():
    even, skewed = (plan(StreetConfig(tail=tail))["pid"].value_counts() for tail in (0.0, 0.8))
    assert even.max() == even.min() == 12
    assert skewed.max() > 4 * skewed.median()
    assert skewed.sum() == pytest.approx(even.sum(), rel=0.02)


def test_dominance_gives_one_camera_most_of_an_identity():
    def largest_share(dominance: float) -> float:
        pairs = plan(StreetConfig(dominance=dominance)).groupby("pid")["camid"]
        return pairs.agg(lambda camids: camids.value_counts(normalize=True).iloc[0]).median()

    assert largest_share(0.0) < 0.6 < 0.75 < largest_share(1.0)


def test_duplicates_are_frames_of_a_tracklet_that_look_alike():
    assert (plan(StreetConfig(duplicates=0.0))["step"] == 0).all()
    assert (plan(StreetConfig(duplicates=0.8))["step"] > 0).mean() > 0.4
    config = replace(SMALL, duplicates=1.0)
    first, second, *_ = (s for s in plan_shots(config) if s.step < 2 and s.camid == 1)
    other = replace(first, tracklet=first.tracklet + 1)
    pixels = [np.asarray(take(shot, config), float) for shot in (first, second, other)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 0.4 * np.abs(pixels[0] - pixels[2]).mean()


def test_no_two_images_share_a_file_name_however_long_a_walk():
    shots = list(plan_shots(StreetConfig(train_identities=8, images=200, duplicates=0.99)))
    assert max(shot.step for shot in shots) > 80
    assert len({(shot.folder, shot.name) for shot in shots}) == len(shots)
    assert all(re.fullmatch(r"(-1|\d{4})_c\ds1_\d{6}_\d\d\.jpg", shot.name) for shot in shots)


def test_a_person_is_more_like_themselves_than_like_others_in_one_camera():
    shots = [replace(shot, camid=1, tracklet=k) for k in (1, 2) for shot in _one_shot_each(SMALL)]
    pixels = np.stack([np.asarray(take(shot, SMALL), float) for shot in shots])
    middle = pixels[:, 8:24, 5:11].reshape(2, -1, 16 * 6 * 3)  # torso: (walk, person, pixels)
    distance = np.abs(middle[0][:, None] - middle[1][None]).mean(-1)
    others = distance[~np.eye(len(distance), dtype=bool)]
    assert np.diag(distance).mean() < 0.8 * others.mean()


def _one_shot_each(config: StreetConfig):
    return list({shot.person: shot for shot in plan_shots(config)}.values())

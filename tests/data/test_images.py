import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from ddid.data.images import (
    ImageSet,
    load_images,
    rows_of_each,
    to_uint8,
    to_unit,
)
from ddid.errors import InputError


@pytest.fixture
def pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 4, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, array in zip(paths, pixels, strict=True):
        Image.fromarray(array).save(path)
    return paths, torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_pixels_arrive_unchanged_at_their_own_size(pictures):
    paths, pixels = pictures
    assert torch.equal(load_images(paths, (8, 4)), pixels)


def test_other_sizes_are_resized_and_grey_becomes_rgb(pictures, tmp_path):
    Image.new("L", (10, 20), 128).save(tmp_path / "grey.png")
    images = load_images([pictures[0][0], str(tmp_path / "grey.png")], (6, 5))
    assert images.shape == (2, 3, 6, 5)
    assert (images[1] == 128).all()


def test_progress_is_told(pictures):
    seen = []
    load_images(pictures[0], (8, 4), lambda *args: seen.append(args))
    assert seen[-1] == ("images read", 3, 3)


def test_bad_images_are_named(pictures, tmp_path):
    with pytest.raises(InputError, match=r"no image .*gone"):
        load_images([str(tmp_path / "gone.png")], (8, 4))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = tmp_path / "whole.jpg"
    Image.fromarray(noise).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("not a picture")
    for name in ("cut.jpg", "text.jpg"):
        with pytest.raises(
            InputError, match=f"{name} is truncated or no JPEG.*, or give skip_broken"
        ):
            load_images([str(tmp_path / name)], (8, 4))
    with pytest.raises(InputError, match="image size"):
        load_images(pictures[0], (0, 4))


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    bombs = [str(tmp_path / f"{side}.png") for side in (5000, 14000)]
    for path in bombs:
        Image.new("1", (int(Path(path).stem),) * 2).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for path in bombs:
        assert Path(path).stat().st_size < 40_000
        with pytest.raises(InputError, match=r"more than 16,777,216"):
            load_images([path], (8, 4))


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    shades = (np.arange(32, dtype=np.uint16) * 2048).reshape(8, 4)
    Image.fromarray(shades).save(tmp_path / "deep.png")
    pixels = load_images([str(tmp_path / "deep.png")], (8, 4))
    assert pixels[0, 0].flatten().tolist() == (shades >> 8).flatten().tolist()


def test_a_picture_that_lies_on_its_side_is_stood_up(tmp_path):
    picture = Image.new("RGB", (8, 4))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn right by 90 degrees
    picture.save(tmp_path / "telephone.png", exif=exif)
    pixels = load_images([str(tmp_path / "telephone.png")], (8, 4))
    assert pixels[0, 0].nonzero().tolist() == [[0, 3]]


@pytest.mark.parametrize("resolution", ["wide", b"\xff"])
def test_a_picture_with_broken_notes_is_taken_as_it_lies(tmp_path, resolution, monkeypatch):
    """Of PIL's own errors: a wrong type of value, and one too short to be unpacked."""
    Image.new("RGB", (8, 4)).save(tmp_path / "odd.png")

    def broken(_image):
        return struct.unpack("<I", resolution) if isinstance(resolution, bytes) else abs(resolution)

    monkeypatch.setattr(ImageOps, "exif_transpose", broken)
    assert load_images([str(tmp_path / "odd.png")], (4, 8)).shape == (1, 3, 4, 8)


def test_other_formats_are_refused(tmp_path):
    Image.new("RGB", (4, 8)).save(tmp_path / "a.png", format="TIFF")
    with pytest.raises(InputError, match="no JPEG or PNG"):
        load_images([str(tmp_path / "a.png")], (8, 4))


def test_too_little_memory_or_disk_is_said_before_the_work(pictures, tmp_path, monkeypatch):
    from ddid.data import decoding

    monkeypatch.setattr(decoding, "_decode", lambda *a: pytest.fail("work has begun"))
    with pytest.raises(InputError, match="GiB of memory"):
        load_images(pictures[0] * 100_000, (8_000, 8_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="GiB of disk"):
        decoding.mapped_images(pictures[0], (8, 4), tmp_path / "cache")


def test_mapped_pixels_equal_loaded_ones_and_writing_to_them_harms_nothing(pictures, tmp_path):
    from ddid.data.decoding import mapped_images

    first = mapped_images(pictures[0], (8, 4), tmp_path)
    assert torch.equal(first, pictures[1])
    first.zero_()
    assert torch.equal(mapped_images(pictures[0], (8, 4), tmp_path), pictures[1])


@pytest.mark.parametrize(("kind", "place"), [("npy", -30), ("npy", -3), ("npy", 20), ("txt", 5)])
def test_damaged_pixels_are_decoded_again(pictures, tmp_path, kind, place):
    from ddid.data.decoding import mapped_images

    mapped_images(pictures[0], (8, 4), tmp_path / "decoded")
    (file,) = (tmp_path / "decoded").glob(f"*.{kind}")
    whole = file.read_bytes()
    content = bytearray(whole)
    content[place] ^= 1
    file.write_bytes(content)
    assert torch.equal(mapped_images(pictures[0], (8, 4), tmp_path / "decoded"), pictures[1])
    assert file.read_bytes() == whole


def test_rounding_to_8_bits_is_its_own_inverse():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit(pixels)), pixels)
    assert to_uint8(torch.tensor([-0.1, 1.2])).tolist() == [0, 255]


def test_an_image_set_labels_identities_in_ascending_order(pictures):
    rows = {"path": pictures[0], "pid": [7, 3, 7], "camid": [1, 2, 3]}
    images = ImageSet.read(pd.DataFrame(rows), (8, 4))
    assert images.labels.tolist() == [1, 0, 1]
    assert images.classes == [3, 7]
    assert images.take(images.pids > 0) is images, "nothing is copied"
    part = images.take(images.pids == 7)
    assert part.camids.tolist() == [1, 3]
    assert part.paths == (pictures[0][0], pictures[0][2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": torch.zeros(2, 3, 4, 2)},
        {"images": torch.zeros(2, 1, 4, 2, dtype=torch.uint8)},
        {"pids": torch.tensor([1])},
        {"camids": torch.zeros(2)},
        {"paths": ("a",)},
    ],
    ids=str,
)
def test_an_image_set_whose_parts_do_not_fit_is_one_sentence(wrong):
    two = torch.ones(2, dtype=torch.int64)
    given = {"images": torch.zeros(2, 3, 4, 2, dtype=torch.uint8), "pids": two, "camids": two}
    with pytest.raises(InputError, match="give "):
        ImageSet(**{**given, "paths": ("a", "b"), **wrong})


def test_an_empty_image_set_is_one_sentence():
    with pytest.raises(InputError, match="no images to read"):
        ImageSet.read(pd.DataFrame({"path": [], "pid": [], "camid": []}), (8, 4))


def test_rows_of_each_label_equal_their_loop():
    labels = torch.tensor([7, 3, 7, 0, 3, 7])
    expected = [[i for i in range(6) if labels[i] == label] for label in (0, 3, 7)]
    assert [rows.tolist() for rows in rows_of_each(labels)] == expected

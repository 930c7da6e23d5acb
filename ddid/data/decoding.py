"""Decoding image files, and keeping what was decoded."""

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ddid.errors import InputError, refused, require
from ddid.files import atomic_write, make_folder
from ddid.identity import identity
from ddid.progress import Progress

FORMATS = ("JPEG", "PNG")  # what the layouts hold; every other decoder is a way in for no gain
LARGEST = 2**24  # pixels: 500 times a person's crop; decoding more is a fault or an attack
DECODERS = 4  # our choice: PIL releases the interpreter lock; more threads gain nothing on a laptop
CHUNK = 512  # images decoded ahead of the consumer


def load_images(
    paths: Sequence[str], size: tuple[int, int], progress: Progress | None = None
) -> Tensor:
    """Decode JPEG or PNG files and resize them to (height, width): uint8 (N, 3, H, W), RGB.
    InputError: some are missing, truncated, too large or no images: how many, the first; or too
    little memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    _check_room(len(paths), size, memory, "memory")
    images = torch.empty((len(paths), 3, *size), dtype=torch.uint8)
    for i, pixels in enumerate(_decoded(paths, size, progress)):
        images[i] = torch.from_numpy(pixels)
    return images


def mapped_images(
    paths: Sequence[str], size: tuple[int, int], cache: Path, progress: Progress | None = None
) -> Tensor:
    """The same, memory-mapped from a file in `cache` that is written on first use and holds while
    the images keep their names, sizes and times of change, and it the content noted beside it."""
    file = cache / f"{identity(paths=paths, size=size)}.npy"
    note, seen = file.with_suffix(".txt"), np.array([_stat(path) for path in paths])

    def mark() -> bytes:
        return identity(code=_decode, seen=seen, pixels=file).encode()

    if not (file.is_file() and note.is_file() and note.read_bytes() == mark()):
        if cache.is_dir() and not os.access(cache, os.W_OK):  # somebody else's run, to look at
            return load_images(paths, size, progress)
        make_folder(cache)
        _check_room(len(paths), size, shutil.disk_usage(cache).free, "disk")
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), 3, *size)}
        with atomic_write(file) as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for pixels in _decoded(paths, size, progress):
                stream.write(pixels.tobytes())
        with atomic_write(note) as temporary:
            temporary.write_bytes(mark())
    return torch.from_numpy(np.load(file, mmap_mode="c"))  # what is written to it reaches no file


def unreadable(paths: Sequence[str], progress: Progress | None = None) -> dict[str, InputError]:
    """Try every image; those that cannot be read, each with the reason."""
    tried = zip(paths, _attempts(paths, (1, 1), progress), strict=True)
    return {path: found for path, found in tried if isinstance(found, InputError)}


def _decoded(
    paths: Sequence[str], size: tuple[int, int], progress: Progress | None
) -> Iterator[np.ndarray]:
    """Pixels of each image (3, H, W), in order; stops at the end if some were broken."""
    broken = []
    for pixels in _attempts(paths, size, progress):
        if isinstance(pixels, InputError):
            broken.append(pixels)
        elif not broken:
            yield pixels
    if broken:
        others = f"; {len(broken)} of {len(paths):,} images are broken" if len(broken) > 1 else ""
        raise InputError(f"{broken[0]}, or give skip_broken{others}") from broken[0]


def _attempts(
    paths: Sequence[str], size: tuple[int, int], progress: Progress | None
) -> Iterator[np.ndarray | InputError]:
    def attempt(path: str) -> np.ndarray | InputError:
        try:
            return _decode(path, size)
        except InputError as error:
            return error

    with ThreadPoolExecutor(DECODERS) as pool:
        for start in range(0, len(paths), CHUNK):
            found = pool.map(attempt, paths[start : start + CHUNK])
            for done, pixels in enumerate(found, start + 1):
                yield pixels
                if progress:
                    progress("images read", done, len(paths))


def _decode(path: str, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    broken = f"{path} is truncated or no JPEG or PNG image: replace it"
    with (
        refused(broken, OSError, SyntaxError, ValueError),
        refused(_gone(path), FileNotFoundError),
        refused(_too_large(path), Image.DecompressionBombError),
    ):
        image: Image.Image
        with Image.open(path, formats=FORMATS) as image:
            require(image.width * image.height <= LARGEST, _too_large(path))
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to white
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = _upright(image).convert("RGB")
            if pixels.size != (width, height):
                pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(pixels, dtype=np.uint8).transpose(2, 0, 1))


def _upright(image: Image.Image) -> Image.Image:
    """A telephone's images lie on their side; one whose notes are broken is taken as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except (TypeError, ValueError, struct.error):
        return image


def _too_large(path: str) -> str:
    return f"{path} has more than {LARGEST:,} pixels: crop it"


def _gone(path: str) -> str:
    return f"no image {path}: the manifest names it: put it back"


def check_size(size: tuple[int, int]) -> None:
    """Raise InputError unless `size` is a height and a width."""
    pair = isinstance(size, tuple | list) and len(size) == 2
    whole = pair and all(type(length) is int and 0 < length <= 2**13 for length in size)
    require(whole, f"image size is {size}: give height and width in pixels, 1 to {2**13}")


def _check_room(images: int, size: tuple[int, int], there: int, where: str) -> None:
    """Raise InputError for sizes that are none, or if so many images do not fit."""
    check_size(size)
    needed = 3 * images * size[0] * size[1]
    require(
        needed < 0.9 * there,
        f"{images:,} images of {size} need {needed / 2**30:.1f} GiB of {where}, of which there are "
        f"{there / 2**30:.1f}: free some, or take smaller images",
    )


def _stat(path: str) -> tuple[int, int]:
    with refused(f"{_gone(path)}, or give skip_broken", OSError):
        found = os.stat(path)
    return found.st_size, found.st_mtime_ns

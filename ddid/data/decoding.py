"""Decoding image files, and keeping what was decoded."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddid.errors import InputError, require
from ddid.files import atomic_write
from ddid.progress import Progress

FORMATS = ("JPEG", "PNG")  # what the layouts hold; every other decoder is a way in for no gain
LARGEST = 2**24  # pixels: 500 times a person's crop; decoding more is a fault or an attack
DECODERS = 4  # our choice: PIL releases the interpreter lock; more threads gain nothing on a laptop
CHUNK = 512  # images decoded ahead of the consumer


def load_images(
    paths: Sequence[str], size: tuple[int, int], progress: Progress | None = None
) -> Tensor:
    """Decode and resize image files into memory.

    Args:
        paths: image files, JPEG or PNG.
        size: (height, width) in pixels.
        progress: told how many are done.

    Returns:
        uint8 (N, 3, H, W), RGB.

    Raises:
        InputError: some are missing, truncated, too large or no images: how many, and the first;
            or the machine lacks the memory.
    """
    needed = _bytes(len(paths), size)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    _check_room(needed, memory, f"{len(paths):,} images of {size}", "memory")
    images = torch.empty((len(paths), 3, *size), dtype=torch.uint8)
    for i, pixels in enumerate(_decoded(paths, size, progress)):
        images[i] = torch.from_numpy(pixels)
    return images


def mapped_images(
    paths: Sequence[str], size: tuple[int, int], cache: Path, progress: Progress | None = None
) -> Tensor:
    """The same, memory-mapped from a file in `cache` that is written on first use.

    The file holds while the images keep their names, sizes and times of change.

    Raises:
        InputError: as `load_images`, or the disk lacks the room.
    """
    stamp = _digest([_stat(path) for path in paths])
    file = cache / f"{_digest([paths, size])}.safetensors"
    if _stamp(file) != stamp:
        needed = _bytes(len(paths), size)
        cache.mkdir(parents=True, exist_ok=True)
        _check_room(needed, shutil.disk_usage(cache).free, f"{len(paths):,} decoded images", "disk")
        tensor = {"dtype": "U8", "shape": [len(paths), 3, *size], "data_offsets": [0, needed]}
        header = json.dumps({"__metadata__": {"stamp": stamp}, "images": tensor}).encode()
        with atomic_write(file) as temporary, temporary.open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            for pixels in _decoded(paths, size, progress):
                stream.write(pixels.tobytes())
    with safe_open(file, "pt") as found:
        return found.get_tensor("images")


def unreadable(
    paths: Sequence[str], progress: Progress | None = None
) -> list[tuple[str, InputError]]:
    """Try every image; those that cannot be read, each with the reason."""
    found: list[tuple[str, InputError]] = []
    for path, pixels in zip(paths, _attempts(paths, (1, 1), progress), strict=True):
        if isinstance(pixels, InputError):
            found.append((path, pixels))
    return found


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
        raise InputError(f"{broken[0]}{others}") from broken[0]


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
    try:
        image: Image.Image
        with Image.open(path, formats=FORMATS) as image:
            require(
                image.width * image.height <= LARGEST,
                f"{path} has {image.width}x{image.height} pixels, more than {LARGEST:,}: crop it",
            )
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to white
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = image.convert("RGB")
            if pixels.size != (size[1], size[0]):
                pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise InputError(f"no image {path}: the manifest names it but it is gone") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more than {LARGEST:,} pixels: crop it ({error})") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is truncated or no JPEG or PNG image: replace it, or leave such images out "
            f"with skip_broken ({error})"
        ) from error
    return np.ascontiguousarray(np.asarray(pixels, dtype=np.uint8).transpose(2, 0, 1))


def _bytes(images: int, size: tuple[int, int]) -> int:
    whole = all(type(length) is int and 0 < length <= 2**13 for length in size)
    require(whole, f"image size is {size}: give height and width in pixels, 1 to {2**13}")
    return 3 * images * size[0] * size[1]


def _check_room(needed: int, there: int, what: str, where: str) -> None:
    require(
        needed < 0.9 * there,
        f"{what} need {needed / 2**30:.1f} GiB of {where}, of which there are "
        f"{there / 2**30:.1f}: free some, or take smaller images",
    )


def _stat(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"no image {path}: the manifest names it but it is gone") from error
    return found.st_size, found.st_mtime_ns


def _stamp(file: Path) -> str:
    try:
        with safe_open(file, "pt") as found:
            return (found.metadata() or {}).get("stamp", "")
    except (FileNotFoundError, SafetensorError):
        return ""


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

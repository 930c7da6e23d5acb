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
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddid.errors import InputError, require
from ddid.files import atomic_write
from ddid.identity import identity
from ddid.progress import Progress

FORMATS = ("JPEG", "PNG")  # what the layouts hold; every other decoder is a way in for no gain
LARGEST = 2**24  # pixels: 500 times a person's crop; decoding more is a fault or an attack
DECODERS = 4  # our choice: PIL releases the interpreter lock; more threads gain nothing on a laptop
CHUNK = 512  # images decoded ahead of the consumer
SUM = 16  # bytes of the digest that ends a file of decoded images


def load_images(
    paths: Sequence[str], size: tuple[int, int], progress: Progress | None = None
) -> Tensor:
    """Decode JPEG or PNG files and resize them to (height, width): uint8 (N, 3, H, W), RGB.
    InputError: some are missing, truncated, too large or no images: how many, the first; or too
    little memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    _needed(len(paths), size, memory, "memory")
    images = torch.empty((len(paths), 3, *size), dtype=torch.uint8)
    for i, pixels in enumerate(_decoded(paths, size, progress)):
        images[i] = torch.from_numpy(pixels)
    return images


def mapped_images(
    paths: Sequence[str], size: tuple[int, int], cache: Path, progress: Progress | None = None
) -> Tensor:
    """The same, memory-mapped from a file in `cache` that is written on first use and holds while
    the images keep their names, sizes and times of change, and it its digest."""
    stamp = _digest([identity(code=_decode), *map(_stat, paths)])
    file = cache / f"{_digest([paths, size])}.safetensors"
    if not _holds(file, stamp):
        cache.mkdir(parents=True, exist_ok=True)
        needed = _needed(len(paths), size, shutil.disk_usage(cache).free, "disk")
        tensor = {"dtype": "U8", "shape": [len(paths), 3, *size], "data_offsets": [0, needed]}
        digest = {"dtype": "U8", "shape": [SUM], "data_offsets": [needed, needed + SUM]}
        content = {"__metadata__": {"stamp": stamp}, "images": tensor, "digest": digest}
        header = json.dumps(content).encode()
        found = hashlib.blake2b(header, digest_size=SUM)
        with atomic_write(file) as temporary, temporary.open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            for pixels in _decoded(paths, size, progress):
                found.update(pixels.tobytes())
                stream.write(pixels.tobytes())
            stream.write(found.digest())
    with safe_open(file, "pt") as found:
        return found.get_tensor("images")


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
    height, width = size
    try:
        image: Image.Image
        with Image.open(path, formats=FORMATS) as image:
            require(image.width * image.height <= LARGEST, _too_large(path))
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to white
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = ImageOps.exif_transpose(image).convert(
                "RGB"
            )  # a telephone's lie on their side
            if pixels.size != (width, height):
                pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise _gone(path) from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(path)) from error
    except (OSError, SyntaxError, ValueError) as error:
        told = f"{path} is truncated or no JPEG or PNG image ({error})"
        raise InputError(f"{told}: replace it, or skip_broken (notebook 01, read_data)") from error
    return np.ascontiguousarray(np.asarray(pixels, dtype=np.uint8).transpose(2, 0, 1))


def _too_large(path: str) -> str:
    return f"{path} has more than {LARGEST:,} pixels: crop it"


def _gone(path: str) -> InputError:
    return InputError(f"no image {path}: the manifest names it but it is gone")


def check_size(size: tuple[int, int]) -> None:
    """Raise InputError unless `size` is a height and a width."""
    pair = isinstance(size, tuple | list) and len(size) == 2
    whole = pair and all(type(length) is int and 0 < length <= 2**13 for length in size)
    require(whole, f"image size is {size}: give height and width in pixels, 1 to {2**13}")


def _needed(images: int, size: tuple[int, int], there: int, where: str) -> int:
    """Bytes of decoded images; InputError for sizes that are none, or that do not fit."""
    check_size(size)
    needed = 3 * images * size[0] * size[1]
    require(
        needed < 0.9 * there,
        f"{images:,} images of {size} need {needed / 2**30:.1f} GiB of {where}, of which there are "
        f"{there / 2**30:.1f}: free some, or take smaller images",
    )
    return needed


def _stat(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _gone(path) from error
    return found.st_size, found.st_mtime_ns


def _holds(file: Path, stamp: str) -> bool:
    """Whether a file is of images of this stamp, and undamaged."""
    try:
        with safe_open(file, "pt") as found:
            if (found.metadata() or {}).get("stamp") != stamp:
                return False
    except (FileNotFoundError, SafetensorError):
        return False
    digest = hashlib.blake2b(digest_size=SUM)
    with file.open("rb") as stream:
        left = os.fstat(stream.fileno()).st_size - 8 - SUM
        stream.seek(8)
        while part := stream.read(min(left, 2**20)):
            digest.update(part)
            left -= len(part)
        return digest.digest() == stream.read()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

"""The street: a procedural re-identification data set with known bias, in the Market-1501 layout.

Every image has its own random generator, seeded by what it shows, so the same configuration gives
the same bytes in whatever order or number of sittings the images are written.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import pi
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from ddid.errors import require, require_within
from ddid.files import atomic_write, read_json, remove_leftovers, write_json
from ddid.identity import identity
from ddid.progress import Progress
from ddid.street.camera import DOMAINS, Camera, cast_shadow, occlude
from ddid.street.pedestrian import Person, Pose, draw_person, sample_person

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
DOMINANT_SHARE = 0.8  # of a dominated identity's images, expected from its dominant camera
STRANGER = 10_000  # first appearance that belongs to no identity: distractors, junk, passers-by
LIMITS = {
    **dict.fromkeys(("train_identities", "test_identities"), f"[1, {STRANGER // 2})"),
    **dict.fromkeys(("cameras", "images", "gallery_images"), "[1, 999]"),
    **dict.fromkeys(("distractors", "junk"), "[0, 499]"),
    **dict.fromkeys(("dominance", "duplicates"), "[0, 1]"),
    **dict.fromkeys(("height", "width"), "[16, 1024]"),
    "tail": "[0, 5]",
    "seed": f"[0, {2**32})",
}
_PLAN, _PERSON, _CAMERA, _TRACKLET, _FRAME = range(5)  # what a random generator is for


@dataclass(frozen=True)
class StreetConfig:
    """A street. The defaults are our choice: as hard as real data for a small undefended model."""

    train_identities: int = 64
    test_identities: int = 48
    cameras: int = 6
    images: int = 12  # of a train identity, on average
    tail: float = 0.6  # images of the r-th identity ~ r ** -tail; 0 = all alike
    dominance: float = 0.5  # share of train identities with one dominant camera
    duplicates: float = 0.5  # probability that an image is the next frame of a tracklet
    gallery_images: int = 2  # of a test identity, in each camera that sees it
    distractors: int = 60  # gallery images of strangers, pid 0
    junk: int = 12  # badly framed gallery images, pid -1
    height: int = 64
    width: int = 32
    domain: str = "downtown"
    seed: int = 0

    def __post_init__(self) -> None:
        told = f"street: domain is one of {', '.join(DOMAINS)}, not {self.domain!r}"
        require(self.domain in (*DOMAINS,), told)
        require_within("street", self, **LIMITS)


@dataclass(frozen=True)
class Shot:
    """One image to be taken."""

    folder: str
    pid: int
    camid: int  # from 1, as in the file names
    person: int  # whose appearance; the pid, or a stranger
    tracklet: int  # a walk past the camera
    step: int = 0  # frame within the tracklet

    @property
    def name(self) -> str:
        """File name in the Market-1501 scheme."""
        label = "-1" if self.pid < 0 else f"{self.pid:04d}"
        box, step = divmod(self.step, 40)  # a walk's further frames count in the last number
        frame = 1000 * self.tracklet + 25 * step + 1
        return f"{label}_c{self.camid}s1_{frame:06d}_{box:02d}.jpg"


def write_street(
    root: str | Path, config: StreetConfig, progress: Progress | None = None, *, anew: bool = False
) -> Path:
    """Write the street's images below `root` and return it.

    Images already there are kept, so an interrupted call goes on where it stopped and a second
    process waits for the first; `street.json` says what is drawn and by which code. A folder with
    another street is an InputError, or drawn `anew`; one with other files always is.
    """
    root, note = Path(root), Path(root) / "street.json"
    street = asdict(config) | {"code": identity(code=(plan_shots, take))}
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        remove_leftovers(root)
        if not note.is_file():
            ours = FOLDERS if anew else ()
            free = all(path.name[0] == "." or path.name in ours for path in root.iterdir())
            require(free, f"{root} is not empty and holds no street: choose another folder")
        known = read_json(note, {})
        drawn = known.pop("drawn", "")
        told = f"{root} holds a street of another configuration or other code: choose another"
        require(anew or not note.is_file() or known == street, told)
        if known != street:
            _clear(root)
            write_json(note, street)
            drawn = ""
        shots = list(plan_shots(config))
        damaged = drawn not in ("", _written(root, shots))
        for count, shot in enumerate(shots, start=1):
            path = root / shot.folder / shot.name
            if damaged or not path.exists():
                with atomic_write(path) as file:
                    take(shot, config).save(file, "JPEG", quality=92, subsampling=0)
            if progress and (count % 50 == 0 or count == len(shots)):
                progress("street", count, len(shots))
        if damaged or not drawn:
            write_json(note, street | {"drawn": _written(root, shots)})
    return root


def _clear(root: Path) -> None:
    for folder in (name for name in FOLDERS if (root / name).is_dir()):
        shutil.rmtree(root / folder)


def _written(root: Path, shots: list[Shot]) -> str:
    """Identity of the images that are there, which a damaged one changes."""
    paths = [root / shot.folder / shot.name for shot in shots]
    return identity(images=[path for path in paths if path.exists()])


def plan_shots(config: StreetConfig) -> Iterator[Shot]:
    """Which image shows whom, where and when: the bias of the data set, before a pixel is drawn."""
    rng = _generator(config, _PLAN)
    pids = 1 + rng.permutation(config.train_identities + config.test_identities)
    train, test = pids[: config.train_identities].tolist(), pids[config.train_identities :].tolist()
    for pid, count in zip(train, _long_tail(config), strict=True):
        camids = 1 + rng.choice(config.cameras, count, p=_attention(config, rng))
        for camid, tracklet, step in _walks(camids, config, rng):
            yield Shot(FOLDERS[0], pid, camid, pid, tracklet, step)
    for pid in test:
        seen = 1 + rng.choice(config.cameras, min(config.cameras, 4), replace=False)
        yield from (Shot(FOLDERS[1], pid, int(camid), pid, 0) for camid in seen)
        for camid, tracklet, step in _walks(np.repeat(seen, config.gallery_images), config, rng):
            yield Shot(FOLDERS[2], pid, camid, pid, tracklet, step)
    for stranger in range(config.distractors + config.junk):
        pid, camera = (0 if stranger < config.distractors else -1), rng.integers(config.cameras)
        yield Shot(FOLDERS[2], pid, 1 + int(camera), STRANGER + stranger, stranger)


def _long_tail(config: StreetConfig) -> list[int]:
    """Images of each train identity: about rank ** -tail, at least 2, `images` on average."""
    shares = np.arange(1.0, config.train_identities + 1) ** -config.tail
    counts = np.round(shares / shares.sum() * config.images * config.train_identities)
    return np.maximum(counts, 2).astype(int).tolist()


def _attention(config: StreetConfig, rng: np.random.Generator) -> np.ndarray:
    """Probability, (cameras,), that an image of one train identity comes from each camera."""
    shares = rng.dirichlet(np.full(config.cameras, 3.0))
    if rng.random() < config.dominance:
        shares *= 1 - DOMINANT_SHARE
        shares[rng.integers(config.cameras)] += DOMINANT_SHARE
    return shares


def _walks(
    camids: np.ndarray, config: StreetConfig, rng: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    """(camid, tracklet, step) of each image: a new walk, or the next frame of the last one."""
    last: dict[int, tuple[int, int]] = {}
    for camid in sorted(camids.tolist()):
        tracklet, step = last.get(camid, (0, 0))
        again = camid in last and rng.random() < config.duplicates
        last[camid] = (tracklet, step + 1) if again else (tracklet + 1, 0)
        yield camid, *last[camid]


def take(shot: Shot, config: StreetConfig, posed_as: Shot | None = None) -> Image.Image:
    """Take one image: RGB, (height, width) of the configuration; with `posed_as` the person stands
    and is seen as in that other shot, all else stays."""
    size = (config.height, config.width)
    camera = camera_of(config, shot.camid)
    walk, frame = _chances(shot, config)
    pose = _pose(shot, camera, walk, frame)  # in any case: what follows draws on from here
    if posed_as:
        pose = _pose(posed_as, camera_of(config, posed_as.camid), *_chances(posed_as, config))
    scene = camera.view(min(1.0, walk.random() + 0.004 * shot.step), size)
    cast_shadow(scene, pose)
    scene.alpha_composite(draw_person(person_of(config, shot.person), pose, size))
    if walk.random() < camera.occlusion:
        passer_by = person_of(config, 2 * STRANGER + shot.tracklet)
        occlude(scene, DOMAINS[config.domain], passer_by, walk)
    return camera.expose(scene, float(walk.uniform(0.82, 1.15)), frame)


def _chances(shot: Shot, config: StreetConfig) -> tuple[np.random.Generator, np.random.Generator]:
    """What decides a shot's walk, and what decides its frame."""
    place = (shot.person, shot.camid, shot.tracklet)
    frame = _generator(config, _FRAME, *place, shot.step)
    return _generator(config, _TRACKLET, *place), frame


def _pose(
    shot: Shot, camera: Camera, walk: np.random.Generator, frame: np.random.Generator
) -> Pose:
    back = pi * walk.integers(2)
    pose = Pose(
        yaw=camera.yaw + back + walk.normal(0, 0.35),
        phase=walk.uniform(0, 2 * pi) + 0.5 * shot.step,
        pitch=camera.pitch,
        x=0.5 + walk.normal(0, 0.05) + frame.normal(0, 0.015),
        ground=0.95 + walk.normal(0, 0.015),
        zoom=float(np.clip(walk.normal(1, 0.06), 0.85, 1.15)),
    )
    if shot.pid < 0:
        return Pose(pose.yaw, pose.phase, pose.pitch, x=walk.choice((0.0, 1.0)), zoom=1.5)
    return pose


@lru_cache(maxsize=1024)
def person_of(config: StreetConfig, person: int) -> Person:
    """The appearance of an identity, or of a stranger (`STRANGER` and above)."""
    town = DOMAINS[config.domain]
    return sample_person(_generator(config, _PERSON, person), town.tops, town.bottoms, town.extras)


@lru_cache(maxsize=64)
def camera_of(config: StreetConfig, camid: int) -> Camera:
    """A camera of the street; `camid` counts from 1."""
    return Camera.sample(config.domain, _seed(config, _CAMERA, camid))


def _seed(config: StreetConfig, *what: int) -> tuple[int, ...]:
    return config.seed, sorted(DOMAINS).index(config.domain), *what


def _generator(config: StreetConfig, *what: int) -> np.random.Generator:
    return np.random.default_rng(_seed(config, *what))

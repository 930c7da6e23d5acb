"""One door to a user's data: whatever its layout, a manifest, what to know about it, its images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd

from ddid.data.decoding import unreadable
from ddid.data.images import ImageSet
from ddid.data.layouts import layouts
from ddid.data.manifest import check_manifest
from ddid.data.quality import quality
from ddid.errors import checked, require
from ddid.files import from_here
from ddid.progress import Progress

Size = tuple[int, int]


@dataclass(frozen=True)
class Data:
    """A data set: its manifest, a sentence for each thing a person should know, its images."""

    manifest: pd.DataFrame
    messages: tuple[str, ...] = ()
    cache: Path | None = None  # of decoded images, which hold while the files stay as they are

    @overload
    def images(self, split: str, *, size: Size, progress: Progress | None = None) -> ImageSet: ...
    @overload
    def images(
        self, *splits: str, size: Size, progress: Progress | None = None
    ) -> tuple[ImageSet, ...]: ...
    def images(self, *splits, size, progress=None):  # type: ignore[no-untyped-def]
        """The images of one split as one set, of several (or none named: train, query, gallery)
        as one set each; `size` = (height, width) in pixels."""
        splits = splits or ("train", "query", "gallery")
        found = []
        for split in splits:
            found.append(ImageSet.read(self.rows(split), size, progress, self.cache))
        return found[0] if len(splits) == 1 else tuple(found)

    def rows(self, split: str) -> pd.DataFrame:
        """The manifest's rows of one split; InputError if it has none."""
        given = self.manifest["split"]
        told = f"the manifest has no {split} images, only {', '.join(given.unique())}"
        require(bool((given == split).any()), told)
        return self.manifest[given == split]

    def hold_out(self, share: float, seed: int) -> "Data":
        """The same with a random `share` in [0, 1) of the train identities, whole, in `val`.

        Our choice: everything is tuned on these identities, never on the test ones. Only identities
        that `validation` gives a match can be chosen: two cameras (or none known), and more images
        than cameras; InputError if they are too few.
        """
        fits = type(share) in (int, float) and 0 <= share < 1
        require(fits, f"validation share is {share!r}: give a number in [0, 1)")
        require(type(seed) is int and seed >= 0, f"seed is {seed!r}: give a whole number from 0 on")
        is_train = self.manifest["split"] == "train"
        asked = is_train & (self.manifest["pid"] > 0) & (self.manifest["origin"] == "real")
        people = self.manifest[asked].groupby("pid")
        seen = people["camid"].agg(["size", "nunique", "max"])
        matched = (seen["size"] > seen["nunique"]) & ((seen["nunique"] > 1) | (seen["max"] < 0))
        wanted = round(share * len(seen))
        candidates = seen.index[matched].to_numpy(copy=True)  # an index is read-only
        require(
            wanted <= len(candidates),
            f"cannot hold out {wanted} identities for validation: only {len(candidates)} train "
            "identities have a match under another camera; lower the validation share",
        )
        chosen = np.random.default_rng(seed).permutation(candidates)[:wanted]
        splits = self.manifest["split"].mask(is_train & self.manifest["pid"].isin(chosen), "val")
        return replace(self, manifest=self.manifest.assign(split=splits))

    def validation(self) -> "Data":
        """The held-out identities as query and gallery, to tune on instead of the test set: their
        first image under each camera (as Market-1501 does it) is the query."""
        held = self.manifest.query("split == 'val' and origin == 'real'")
        require(len(held) > 0, "nobody is held out to tune on: give a validation_share above 0")
        held = held.sort_values("path", kind="stable")
        first = ~held.duplicated(["pid", "camid"])
        return replace(self, manifest=held.assign(split=np.where(first, "query", "gallery")))


@checked
def read_data(
    root: str | Path,
    *,
    allow_outside: bool = False,
    skip_broken: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Data:
    """Read a data set in any layout of `ddid.data.layouts`: a folder, or a CSV manifest, whose
    relative paths start at its folder.

    Images elsewhere, or behind links that lead there, want `allow_outside`. `skip_broken` tries
    every image now and leaves out, and names, those that cannot be read. `cache`: see `Data`.
    """
    root = from_here(root)
    require(root.exists(), f"no file or folder {root}: give a data set or a CSV manifest")
    fitting = [layout for layout in layouts() if layout.recognises(root)]
    names = "; ".join(layout.NAME for layout in layouts())
    csv = next(root.glob("*.csv"), None) if not fitting and root.is_dir() else None
    told = f"{root} is in none of the known layouts: {names}"
    require(bool(fitting), f"{told}; {csv} may be the manifest, if so give it" if csv else told)
    frame, messages = fitting[0].read(root)
    junk = frame["pid"].astype(str).str.fullmatch(r"-1(\.0)?")
    messages += [f"{junk.sum()} junk images (identity -1) dropped."] if junk.any() else []
    folder = root if root.is_dir() else root.parent
    frame = check_manifest(frame[~junk], str(root), folder, allow_outside=allow_outside)
    if skip_broken and (broken := unreadable(frame["path"].tolist(), progress)):
        first = next(iter(broken.values()))
        messages += [f"{len(broken)} broken image(s), which skip_broken leaves out; {first}."]
        frame = frame[~frame["path"].isin(broken)].reset_index(drop=True)
    return Data(frame, (f"{root} is read as {fitting[0].NAME}.", *messages, *quality(frame)), cache)


def reopen(csv: Path) -> Data:
    """A manifest that a notebook of this run wrote: its images lie where they were found, and are
    decoded once for all notebooks, in the run's folder `decoded`."""
    return read_data(csv, allow_outside=True, cache=csv.parents[1] / "decoded")

"""One door to a user's data: whatever its layout, a manifest, what to know about it, its images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import pandas as pd

from ddid.data.decoding import unreadable
from ddid.data.images import ImageSet
from ddid.data.layouts import layouts
from ddid.data.manifest import check_manifest, hold_out, validation_sides
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
            rows = self.manifest[self.manifest["split"] == split]
            require(len(rows) > 0, f"the manifest has no {split} images")
            found.append(ImageSet.read(rows, size, progress, self.cache))
        return found[0] if len(splits) == 1 else tuple(found)

    def hold_out(self, share: float, seed: int) -> "Data":
        """The same with a share of the train identities in `val`, see `manifest.hold_out`."""
        return replace(self, manifest=hold_out(self.manifest, share, seed))

    def validation(self) -> "Data":
        """The held-out identities as query and gallery, to tune on instead of the test set."""
        return replace(self, manifest=validation_sides(self.manifest))


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
        messages += [f"{len(broken)} broken image(s) left out, the first: {first}."]
        frame = frame[~frame["path"].isin(broken)].reset_index(drop=True)
    return Data(frame, (f"{root} is read as {fitting[0].NAME}.", *messages, *quality(frame)), cache)


def reopen(csv: Path) -> Data:
    """A manifest that a notebook of this run wrote: its images lie where they were found, and are
    decoded once for all notebooks, in the run's folder `decoded`."""
    return read_data(csv, allow_outside=True, cache=csv.parents[1] / "decoded")

"""What a person should know about a data set before trusting a number made with it."""

import pandas as pd

# (train, query, gallery) images after dropping identity -1, from the data sets' publications.
PUBLISHED = {
    "Market-1501": (12936, 3368, 15913),
    "DukeMTMC-reID": (16522, 2228, 17661),
    "CUHK03-NP detected": (7365, 1400, 5332),
    "CUHK03-NP labelled": (7368, 1400, 5328),
    "MSMT17": (32621, 11659, 82161),
}
BATCH = 16  # identities in a training batch, unless a profile or a user says otherwise


def quality(manifest: pd.DataFrame) -> list[str]:
    """One sentence for each oddity; a published data set is named, an incomplete copy too."""
    parts = [manifest[manifest["split"] == split] for split in ("train", "query", "gallery")]
    train, query, gallery = (set(part["pid"]) for part in parts)
    whole = len(parts[0]) + int((manifest["split"] == "val").sum())
    found = [_published((whole, len(parts[1]), len(parts[2])))]
    if shared := train & query:
        found.append(f"{len(shared)} identities are in train and query, {min(shared)} is one.")
    if 0 in train | query:
        found.append("Identity 0 means a distractor: number people from 1.")
    seen = parts[0].groupby("pid")["camid"].agg(["size", "nunique", "max"])
    thin = {"one image only": seen["size"] == 1}
    thin["images of one camera only"] = (seen["nunique"] == 1) & (seen["max"] >= 0)
    found += [f"{so.sum()} train identities have {what}." for what, so in thin.items() if so.any()]
    if 0 < len(train) < BATCH:
        told = f"A batch has {BATCH} people by default and only {len(train)} train: set fewer"
        found.append(f"{told}, `identities_per_batch` in a run, `identities` of `ddid.train`.")
    if not query or not gallery:
        found.append("No test set: there must be query and gallery images to measure on.")
    elif not matched(manifest):
        found.append("No query has a match under another camera: are there several, or none known?")
    if (manifest["camid"] < 0).all():
        found.append("No camera is known: every image of a person counts as a match.")
    elif len(train) and (parts[0]["camid"] < 0).all():
        found.append("No camera of a train image is known: they cannot be balanced.")
    return found


def matched(manifest: pd.DataFrame) -> bool:
    """Whether any query has a right answer: its person in the gallery, under another camera or an
    unknown one."""
    asked, known = (
        manifest.loc[manifest["split"] == split, ["pid", "camid"]].drop_duplicates()
        for split in ("query", "gallery")
    )
    pairs = asked[asked["pid"] > 0].merge(known, on="pid")
    return bool(((pairs["camid_x"] != pairs["camid_y"]) | (pairs["camid_x"] < 0)).any())


def _published(counts: tuple[int, ...]) -> str:
    """Which published set this is, or a part of: one split whole, or all nearly (our choice)."""
    told = "{} train, {} query and {} gallery images".format(*counts)
    for name, known in PUBLISHED.items():
        if counts == known:
            return f"{told}: this is {name}."
        shares = [have / want for have, want in zip(counts, known, strict=True)]
        if max(shares) == 1 or 0.8 <= min(shares) <= max(shares) < 1:
            return f"{told}: it looks like an incomplete copy of {name} ({known}); copy it again."
    return f"{told}."

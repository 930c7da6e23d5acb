"""`python -m tests.benchmarks.gate`: what judging synthetic images is worth, and can be at most.

A street can be photographed again. So there is an oracle here, judges that saw sixty photographs of
every person, to say which drafts are right; and there are new photographs to put in their place,
of the person as seen before or anew. Metric adversarial training on each filling of the plan, two
streets, two trainings each.

Writes figures/results/gate.csv and verdicts.csv.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn.functional import normalize

from ddid.balance.gate import KEPT, Gate, Judge, JudgeTraining, Limits, train_judge
from ddid.balance.network import Generator, GeneratorConfig, unet_settings
from ddid.balance.plan import Thresholds, resampling_plan
from ddid.balance.resampling import balanced_manifest, resample
from ddid.balance.synthesis import Sampling, synthesise
from ddid.balance.training import GeneratorTraining, train_generator
from ddid.data import Data, read_data, reopen
from ddid.data.images import ImageSet
from ddid.data.manifest import write_manifest
from ddid.defense.recipes import find_recipe
from ddid.defense.training import TrainConfig
from ddid.files import atomic_write
from ddid.model import embed
from ddid.street.street import FOLDERS, Shot, StreetConfig, plan_shots, take, write_street
from tests.benchmarks.streets import (
    RESULTS,
    RUN,
    SIZE,
    STEPS,
    STREETS,
    config_of,
    read_street,
    score,
    work_through,
)

SEEDS = (90, 91)
LENIENT = Limits(identity_rank=5, camera_rank=2)
CANDIDATES = 5  # drafts of which the most novel is taken
UNSEEN_WALK = 500  # first tracklet that no image of the street shows


@dataclass(frozen=True)
class Phase1:
    """Everything the fillings of one street are made from."""

    root: Path
    street: StreetConfig
    manifest: pd.DataFrame
    real: ImageSet
    plan: pd.DataFrame
    generator: Generator
    judge: Judge
    oracle: Judge

    def drafts(self, judge: Judge, limits: Limits | None = None) -> pd.DataFrame:
        """Drafts and verdicts of a gate; images that are there are not drawn again."""
        gate = Gate(judge, limits or Limits())
        return resample(self.generator, self.plan, self.root / "synthetic", Sampling(), gate)


@lru_cache
def phase_1(street: int, prior: bool = True) -> Phase1:
    """Plan, generator and judges of one street, under the settings of the profile `bench`."""
    root = RUN / f"street{street}" / ("phase1" if prior else "phase1_weak")
    manifest = read_street(street)
    real = Data(manifest).images("train", size=SIZE)
    cameras = tuple(sorted(set(real.camids.tolist())))
    config = GeneratorConfig(tuple(real.classes), cameras, *SIZE, unet_settings(prior=prior))
    training = GeneratorTraining(steps=200, seed=street)
    judge = train_judge(real, JudgeTraining(seed=street), RUN / f"street{street}" / "judge")
    return Phase1(
        root=root,
        street=config_of(street),
        manifest=manifest,
        real=real,
        plan=resampling_plan(manifest, Thresholds(), street),
        generator=train_generator(real, config, training, root / "generator"),
        judge=judge,
        oracle=train_oracle(street, judge),
    )


def train_oracle(street: int, judge: Judge) -> Judge:
    """`judge` with models that saw 60 photographs of each person, from all cameras alike."""
    often = {"images": 60, "tail": 0, "dominance": 0, "duplicates": 0}
    root = write_street(RUN / f"street{street}" / "often", replace(config_of(street), **often))
    images = read_data(root).images("train", size=SIZE)
    training = JudgeTraining(steps=900, seed=7)
    oracle = train_judge(images, training, RUN / f"street{street}" / "oracle")
    return replace(judge, identity=oracle.identity, camera=oracle.camera)


def nothing(made: Phase1) -> pd.DataFrame:
    """The street as it came."""
    return made.drafts(made.judge).head(0)


def first_drafts(made: Phase1) -> pd.DataFrame:
    """What the generator draws first, unjudged."""
    drafts = made.drafts(made.judge)
    return drafts[drafts["attempt"] == 0].assign(verdict=KEPT)


def gated(made: Phase1) -> pd.DataFrame:
    """What the gate keeps."""
    return made.drafts(made.judge)


def lenient(made: Phase1) -> pd.DataFrame:
    """What the gate keeps if the identity may come fifth and the camera second."""
    return made.drafts(made.judge, LENIENT)


def told_by_the_oracle(made: Phase1) -> pd.DataFrame:
    """What a gate keeps that knows the truth."""
    return made.drafts(made.oracle)


def most_novel(made: Phase1) -> pd.DataFrame:
    """Of five drafts each, right to the lenient gate, the one least like the person's others."""
    names = made.plan["name"]
    attempts = [
        made.plan.assign(name=names + f"_n{i}", row=names, seed=made.plan["seed"] + i)
        for i in range(CANDIDATES)
    ]
    rows = pd.concat(attempts, ignore_index=True)
    paths = synthesise(made.generator, rows, made.root / "candidates", Sampling())
    rows = rows.assign(path=paths, split="train", origin="synthetic")
    images = ImageSet.read(rows, SIZE)
    rows["verdict"] = Gate(made.judge, LENIENT).verdicts(images)
    features = normalize(embed(made.judge.features, images.images))
    known = normalize(embed(made.judge.features, made.real.images))
    chosen = []
    for pid, own in rows[rows["verdict"] == KEPT].groupby("pid"):
        seen = known[made.real.pids == pid]
        for _, some in own.groupby("row", sort=False):
            candidates = torch.tensor(some.index.to_numpy().copy())
            likeness = (features[candidates] @ seen.T).amax(1)
            chosen.append(int(candidates[likeness.argmin()]))
            seen = torch.cat([seen, features[chosen[-1:]]])
    return rows.loc[chosen]


def photographs(made: Phase1) -> pd.DataFrame:
    """New photographs of the wanted people by the wanted cameras: no generator can do better."""
    return photograph(made, "photographs", lambda row: None)


def photographs_in_known_poses(made: Phase1) -> pd.DataFrame:
    """The same, but people stand and are seen as in one of their own training images."""
    known = [shot for shot in plan_shots(made.street) if shot.folder == FOLDERS[0]]
    poses = {pid: [shot for shot in known if shot.pid == pid] for pid in made.real.classes}
    return photograph(made, "posed", lambda row: poses[row.pid][row.seed % len(poses[row.pid])])


def photograph(made: Phase1, folder: str, pose: Callable[[Any], Shot | None]) -> pd.DataFrame:
    """Take a photograph for each row of the plan, posed as the row's `pose` if there is one."""
    paths = []
    for walk, row in enumerate(made.plan.itertuples(), UNSEEN_WALK):
        shot = Shot(FOLDERS[0], row.pid, row.camid, row.pid, walk)
        paths.append(str(made.root / folder / f"{row.name}.png"))
        with atomic_write(Path(paths[-1])) as temporary:
            take(shot, made.street, pose(row)).save(temporary, "PNG")
    return made.plan.assign(path=paths, split="train", origin="synthetic", verdict=KEPT)


FILLINGS: dict[str, tuple[bool, Callable[[Phase1], pd.DataFrame]]] = {
    "nothing": (True, nothing),
    "first drafts": (True, first_drafts),
    "gate": (True, gated),
    "lenient gate": (True, lenient),
    "oracle as gate": (True, told_by_the_oracle),
    "most novel of five drafts": (True, most_novel),
    "new photographs, known poses": (True, photographs_in_known_poses),
    "new photographs": (True, photographs),
    "weak generator, first drafts": (False, first_drafts),
    "weak generator, gate": (False, gated),
}
"""By name: whether the generator has its measured prior, and what is made of its drafts."""


def manifest_of(name: str, street: int) -> Path:
    """Where the training manifest of a filling is."""
    return RUN / f"street{street}" / "fillings" / f"{name.replace(' ', '_')}.csv"


def prepare(street: int, prior: bool) -> pd.DataFrame:
    """Write the manifests of one generator's fillings; how often its verdicts are right."""
    made = phase_1(street, prior)
    for name, (wants, fill) in FILLINGS.items():
        if wants == prior:
            balanced = balanced_manifest(made.manifest, fill(made))
            write_manifest(balanced, manifest_of(name, street))
    drafts = made.drafts(made.judge)
    identity, camera = made.oracle.agreement(ImageSet.read(drafts, SIZE))
    drafts["right"] = 100 * ((identity == 1) & (camera == 1)).double().numpy()
    kinds = drafts["verdict"].where(drafts["verdict"] == KEPT, "rejected: " + drafts["verdict"])
    groups = [("first drafts", drafts[drafts["attempt"] == 0]), *drafts.groupby(kinds)]
    rows = [(kind, len(own), own["right"].mean()) for kind, own in groups]
    table = pd.DataFrame(rows, columns=["drafts", "number", "right"])
    return table.assign(generator="measured prior" if prior else "weak", street=street)[
        ["generator", "street", *table.columns]
    ]


def measure(name: str, street: int, seed: int) -> pd.DataFrame:
    """Train on one filling and score it."""
    folder = RUN / f"street{street}" / "gate" / f"{name.replace(' ', '_')}_{seed}"
    manifest = reopen(manifest_of(name, street)).manifest
    rows = score(find_recipe("metric_at"), manifest, TrainConfig(steps=STEPS, seed=seed), folder)
    rows = rows[rows["metric"].isin(["mAP", "std", "worst_decile"])]
    rows = rows.assign(filling=name, seed=f"{street}/{seed}")
    return rows[["filling", "seed", "attack", "metric", "value"]]


def main() -> None:
    """Make the fillings, train on them, and write both tables."""
    for street in STREETS:
        read_street(street)
    work_through([*product(STREETS, (True, False))], prepare, RESULTS / "verdicts.csv")
    work_through([*product(FILLINGS, STREETS, SEEDS)], measure, RESULTS / "gate.csv")


if __name__ == "__main__":
    main()

"""Peak memory of every step of both phases on a set of MSMT17's size, beside twice its pixels."""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pandas as pd
import torch

from ddid.attack import Budget, Scene, find_attack
from ddid.attack.registry import attack_scene
from ddid.balance import judge
from ddid.balance.bias import identity_bias, image_bias
from ddid.balance.gate import Gate
from ddid.balance.generator import GeneratorTask, GeneratorTraining, started
from ddid.balance.network import GeneratorConfig
from ddid.balance.plan import Thresholds, resampling_plan
from ddid.balance.quality import quality_report
from ddid.balance.sampling import Sampling, draw_images
from ddid.data.images import ImageSet
from ddid.data.likeness import least_repeated
from ddid.defense.recipes import find_recipe
from ddid.defense.refit import refit_classifier
from ddid.defense.training import Defence, TrainConfig, training_key
from ddid.model import ModelConfig, ReIDNet
from ddid.training import Fit
from ddid.training.loop import Loop
from tests.benchmarks.timing import Row, largest_memory, peak_memory, row

SIZE = (64, 32)  # pixels
LARGE, SMALL = (126_000, 10_000), (640, 64)  # images, identities; the small set shows the networks'
MIB = 3 * SIZE[0] * SIZE[1] / 2**20  # of an image


def rows(large: tuple[int, int] = LARGE) -> list[Row]:
    """What each step takes on the large set beyond what it takes on a small one.

    What an attack makes of all images is as large again as they are.
    """
    found = []
    for name in STEPS:
        peaks = [_peak(name, *size) for size in (large, SMALL)]
        floor = 2 * MIB * (large[0] - SMALL[0])
        what = f"{name}, {large[0]:,} images of {large[1]:,}, MiB beside twice the pixels"
        found.append(row(what, peaks[0] - peaks[1], floor))
    return found


def _peak(name: str, images: int, identities: int) -> float:
    return peak_memory("tests.benchmarks.memory", name, str(images), str(identities))


def bias(images: ImageSet) -> None:
    """Notebook 1's measures and the plan."""
    columns = {"path": images.paths, "pid": images.pids, "camid": images.camids}
    manifest = pd.DataFrame(columns).assign(split="train", origin="real")
    identity_bias(manifest).join(image_bias(images))
    resampling_plan(manifest, Thresholds(14, 0.5), 0)


def generator(images: ImageSet) -> None:
    """A training step, and a batch of drafts."""
    training = GeneratorTraining()
    begun = started(images, GeneratorConfig.of(images), training)
    task = GeneratorTask(images, begun, training, torch.device("cpu"))
    Loop(task, Fit(2, 1e-3)).take(0)
    plan = pd.DataFrame({"pid": images.pids[:64], "camid": 1, "seed": range(64)})
    draw_images(begun, task.references, plan, Sampling(steps=2))


def gate(images: ImageSet) -> None:
    """Judges that are trained for two steps, their verdicts and the quality report."""
    with TemporaryDirectory() as folder, mock.patch.object(judge, "Fit", two_steps):
        known = judge.train_judge(images, Path(folder), epochs=1)
    drafts = images.take(torch.arange(500))
    Gate(known).verdicts(drafts)
    quality_report(images, drafts, known)


def two_steps(_: int, **settings: float) -> Fit:
    """Settings of a training that is stopped early."""
    return Fit(2, **settings)


def held_out(images: ImageSet) -> None:
    """The training set without its probes."""
    images.take(~least_repeated(images))


def defence(images: ImageSet) -> None:
    """A training step of the whole method, and a new classifier."""
    config = TrainConfig(steps=2)
    task = Defence(find_recipe("ddid"), images, config)
    training_key(find_recipe("ddid"), images, config)
    Loop(task, config).take(0)
    refit_classifier(task.learner.net, images, steps=1)


def learnt_attacks(images: ImageSet) -> None:
    """Attacks that learn from all images."""
    net = ReIDNet(ModelConfig(1, height=SIZE[0], width=SIZE[1])).eval()
    net.backbone = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    net.neck = torch.nn.Identity()
    budget = Budget(steps=1)
    for name in ("universal", "generator"):
        scene = Scene(net, images.images, images.pids, budget, torch.Generator())
        with mock.patch("ddid.attack.unseen.PASSES", 1):
            attack_scene(find_attack(name), scene)


STEPS: dict[str, Callable[[ImageSet], None]] = {
    part.__name__: part for part in (bias, generator, gate, held_out, defence, learnt_attacks)
}


if __name__ == "__main__":
    count, identities = map(int, sys.argv[2:])
    pids = torch.arange(count) % identities + 1
    pixels = torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8)
    STEPS[sys.argv[1]](ImageSet(pixels, pids, torch.arange(count) % 7, ("",) * count))
    sys.stdout.write(f"{largest_memory()}\n")

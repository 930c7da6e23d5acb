"""A judge of images: two small models that tell people and cameras, and know how well they do.

Trained on real photographs less a few held out, on which it is measured what such a model makes of
a photograph it has not seen.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from ddid.backbones import find_backbone
from ddid.data.images import ImageSet, to_unit
from ddid.data.likeness import least_repeated, thumbnails
from ddid.errors import require
from ddid.identity import identity
from ddid.metric.losses import batch_hard_triplet, smooth_labels
from ddid.model import ModelConfig, ReIDNet, embed, load_model, save_model
from ddid.progress import Progress
from ddid.seeds import drawn_from
from ddid.training import Fit, augmentation, fit, is_trained, pk_batches

BACKBONE = "resnet-tiny"
FEW = 10  # held-out photographs of known people, below which a judge was not tried
BLIND = 0.5  # share of held-out photographs recognised below which a judge says that it cannot see
EPOCHS = 12  # our choice: enough to be right on real images
BATCH = (16, 4)  # classes, as far as there are as many, and images of each


@dataclass(frozen=True)
class Expert:
    """One model and its classes, ascending."""

    net: ReIDNet
    classes: Tensor

    def leads(self, images: Tensor, wanted: Tensor) -> Tensor:
        """By how much the wanted class' logit (N,) leads the best other one; positive: found;
        infinite for a class it does not know and has nothing to say against."""
        device, found = self.net.mean.device, []
        told = "the judge's output is no number: delete its folder and train it again"
        for pixels, names in zip(images.split(256), wanted.split(256), strict=True):
            logits = embed(lambda x: self.net(x.to(device), heads=True).logits.cpu(), pixels)
            require(bool(logits.isfinite().all()), told)
            own = names[:, None] == self.classes
            lead = logits.where(own, -torch.inf).amax(1) - logits.where(~own, -torch.inf).amax(1)
            found.append(lead.where(own.any(1), torch.inf))
        return torch.cat(found)


@dataclass(frozen=True)
class Judge:
    """Two models that know real images only, and those images' thumbnails."""

    identity: Expert
    camera: Expert | None  # None where there is only one camera to tell
    thumbs: Tensor  # (N, T) of the real images
    held_out: Tensor  # leads (n, 2) of photographs that neither was trained on

    def leads(self, images: ImageSet) -> Tensor:
        """Leads (N, 2) of the wanted identities and cameras; infinite for whom it cannot ask."""
        found = torch.full((len(images), 2), torch.inf)
        found[:, 0] = self.identity.leads(images.images, images.pids)
        if self.camera:
            found[:, 1] = self.camera.leads(images.images, images.camids)
        return found

    def right(self) -> dict[str, float]:
        """Shares of the held-out photographs whose identity and camera it finds."""
        told = dict(zip(("identity", "camera"), self.held_out.unbind(1), strict=True))
        asked = {what: leads[leads.isfinite()] for what, leads in told.items()}
        return {what: (f > 0).double().mean().item() for what, f in asked.items() if len(f)}

    def message(self) -> str:
        """What its user should know before trusting it; empty if there is nothing."""
        asked = int(self.held_out[:, 0].isfinite().sum())
        if asked < FEW:
            told = f"The judge was tried on {asked} held-out photograph(s) of people that it knows"
            return f"{told}, so its verdicts say little: give more images of a person."
        blind = [
            f"the {what} of {100 * share:.0f} % of held-out photographs"
            for what, share in self.right().items()
            if share < BLIND
        ]
        advice = "train it longer (notebook 02: judge_epochs) or on larger images."
        told = f"The judge recognises only {' and '.join(blind)}, so its verdicts say little"
        return f"{told}: {advice}" if blind else ""


def train_judge(
    real: ImageSet,
    folder: str | Path,
    progress: Progress | None = None,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> Judge:
    """Train both models on real images less the held-out ones, or take them from `folder`.

    `epochs` are passes over the images, at least 1; `seed` is of weights and batches. With fewer
    than two known cameras there is no camera model, and every camera is agreed to. InputError:
    fewer than two people are left to tell apart.
    """
    require(epochs >= 1, f"judge: epochs is {epochs}, give at least 1")
    held = least_repeated(real)
    held[-1] |= not held.any()  # nobody is photographed so often
    experts = {}
    for what, names in {"identity": real.pids, "camera": real.camids}.items():
        told = names.where(~held, -1)
        classes = told[told >= 0].unique()
        alone = "only one person is left to train a judge on: give images of two people or more"
        require(what == "camera" or len(classes) > 1, alone)
        if len(classes) > 1:
            settings = (Path(folder) / what, progress, epochs, seed)
            experts[what] = Expert(train_classifier(real.images, told, *settings), classes)
    thumbs = thumbnails(real.images)
    judge = Judge(experts["identity"], experts.get("camera"), thumbs, torch.empty(0, 2))
    return replace(judge, held_out=judge.leads(real.take(held)))


def train_classifier(
    images: Tensor, told: Tensor, folder: Path, progress: Progress | None, epochs: int, seed: int
) -> ReIDNet:
    """A ReID model of the classes `told` (N,) of images, from `folder` if it is there; a negative
    class keeps an image out of training."""
    task = JudgeTask(images, told, epochs, seed)
    settings = Fit(task.steps, lr=2e-3, warmup=0.3, seed=seed)
    made_by = {"code": (JudgeTask, fit), "backbone": find_backbone(BACKBONE)}
    key = identity(**made_by, fit=settings, data=(images, told), **settings.in_force())
    if not is_trained(folder, key):
        fit(task, settings, folder, key, progress)
    return load_model(folder).to(task.device)


class JudgeTask:
    """Label smoothing and batch-hard triplets, for `ddid.training.fit`."""

    name = "a judge"

    def __init__(self, images: Tensor, told: Tensor, epochs: int, seed: int) -> None:
        self.device, self.images = Accelerator().device, images
        rows = (told >= 0).nonzero().squeeze(1)
        classes, labels = told[rows].unique(return_inverse=True)
        self.classes, (height, width) = len(classes), images.shape[-2:]
        shape = (min(BATCH[0], self.classes), BATCH[1])
        self.steps = max(1, epochs * len(rows) // (shape[0] * shape[1]))
        batches = pk_batches(labels, *shape, self.steps, seed)
        self.rows, self.labels = rows[batches], labels[batches].to(self.device)
        with drawn_from(seed):
            self.net = ReIDNet(ModelConfig(self.classes, BACKBONE, height, width))
        self.modules = nn.ModuleDict({"net": self.net}).to(self.device)
        self.counted = [self.net]
        self.augment = augmentation((height, width))

    def step(self, step: int, seed: int) -> dict[str, Tensor]:
        """Leave the gradient of one step."""
        labels, pixels = self.labels[step], self.images[self.rows[step]].to(self.device)
        pixels = self.augment(to_unit(pixels))
        heads = self.net(pixels, heads=True)
        loss = functional.cross_entropy(heads.logits, smooth_labels(labels, self.classes))
        loss = loss + batch_hard_triplet(heads.feature, labels)
        loss.backward()
        return {"loss": loss.detach()}

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_model(self.net, folder)

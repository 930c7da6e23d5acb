"""The quality gate: which synthetic images may enter the training set [ours; the paper has none].

An image passes if its statistics are a photograph's, it is no near-copy of a training image, and
two small models trained on the real images alone see the wanted identity and the wanted camera.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from ddid.balance.bias import nearest_difference, thumbnails
from ddid.checkpoint import check_settings
from ddid.data.images import Augment, ImageSet, to_unit
from ddid.errors import require
from ddid.files import read_json
from ddid.metric.losses import batch_hard_triplet, smooth_labels, soft_cross_entropy
from ddid.model import ModelConfig, ReIDNet, embed, load_model, save_model
from ddid.progress import Progress
from ddid.seeds import seed_of
from ddid.training import pk_batches

KEPT = "kept"
STATISTICS, COPY, IDENTITY, CAMERA = REASONS = ("statistics", "copy", "identity", "camera")


@dataclass(frozen=True)
class JudgeTraining:
    """How the gate's two models are trained; our choice: enough to be right on real images."""

    backbone: str = "resnet-tiny"
    steps: int = 150
    classes: int = 16  # a batch, as far as there are as many
    images_per_class: int = 4
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"judges: steps is {self.steps}: give at least 1")


@dataclass(frozen=True)
class Limits:
    """What passes the gate. Our choices, made on the procedural street."""

    identity_rank: int = 1
    """The wanted identity must be among this many most probable ones."""
    camera_rank: int = 1
    """The wanted camera likewise; 0 asks nothing."""
    copy: float = 0.01
    """Smallest root mean square thumbnail difference to a real training image, in [0, 1]."""
    margin: float = 0.1
    """How far brightness and contrast may leave the real images' range, as a share of it."""
    attempts: int = 3
    """Seeds tried for an image before it is given up."""

    def __post_init__(self) -> None:
        require(self.identity_rank >= 1, f"identity_rank is {self.identity_rank}: give 1 or more")
        require(self.attempts >= 1, f"{self.attempts} attempts an image: give at least 1")


@dataclass(frozen=True)
class Judge:
    """Two models that know real images only, and those images' thumbnails."""

    identity: ReIDNet
    camera: ReIDNet | None  # None where there is only one camera to tell
    pids: Tensor  # of the identity model's classes, ascending
    camids: Tensor  # of the camera model's classes, ascending
    thumbs: Tensor  # (N, T) of the real images
    statistics: Tensor  # (2, 2): smallest and largest brightness and contrast of real images

    def features(self, pixels: Tensor) -> Tensor:
        """ReID embeddings (B, D) of images in [0, 1]; an `Embed`."""
        return self.identity(pixels.to(self.identity.mean.device)).cpu()

    def agreement(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Rank, from 1, of the wanted identity and of the wanted camera, int64 (N,) each."""
        identity = _rank_of(self.identity, images.images, self.pids, images.pids)
        if self.camera is None:
            return identity, torch.ones_like(identity)
        return identity, _rank_of(self.camera, images.images, self.camids, images.camids)


@dataclass(frozen=True)
class Gate:
    """A judge and the limits it keeps."""

    judge: Judge
    limits: Limits = field(default_factory=Limits)

    def verdicts(self, images: ImageSet) -> list[str]:
        """`kept`, or the first of `REASONS` against each image."""
        judge, limits = self.judge, self.limits
        low, high = judge.statistics
        slack = limits.margin * (high - low)
        found = brightness_contrast(images.images)
        strange = ((found < low - slack) | (found > high + slack)).any(1)
        copied = nearest_difference(thumbnails(images.images), judge.thumbs) < limits.copy
        identity, camera = judge.agreement(images)
        wrong_camera = (camera > limits.camera_rank) & (limits.camera_rank > 0)
        objections = torch.stack([strange, copied, identity > limits.identity_rank, wrong_camera])
        named = (*REASONS, KEPT)
        return [named[[*column, True].index(True)] for column in objections.T.tolist()]


def brightness_contrast(images: Tensor) -> Tensor:
    """Mean and standard deviation (N, 2) of the pixels of uint8 images (N, 3, H, W), in [0, 1]."""
    pixels = to_unit(images).flatten(1)
    return torch.stack([pixels.mean(1), pixels.std(1)], 1)


def train_judge(
    real: ImageSet, training: JudgeTraining, folder: str | Path, progress: Progress | None = None
) -> Judge:
    """Train both models on real images, or take them from `folder` if they are there.

    With fewer than two known cameras there is no camera model, and every camera is agreed to.

    Raises:
        InputError: fewer than two identities.
    """
    folder, known = Path(folder), real.take(real.camids >= 0)
    camids = torch.tensor(sorted(set(known.camids.tolist())))
    cameras = ImageSet(known.images, known.camids, known.camids, known.paths)
    device = Accelerator().device
    models = {}
    wanted = {"identity": real} | ({"camera": cameras} if len(camids) > 1 else {})
    for what, images in wanted.items():
        path = folder / what
        if not (path / "model.json").exists():
            net = train_classifier(images, training, device, progress)
            save_model(net, path, settings=asdict(training))
        check_settings(path, read_json(path / "model.json")["notes"]["settings"], asdict(training))
        models[what] = load_model(path).to(device)
    found = brightness_contrast(real.images)
    return Judge(
        identity=models["identity"],
        camera=models.get("camera"),
        pids=torch.tensor(real.classes),
        camids=camids,
        thumbs=thumbnails(real.images),
        statistics=torch.stack([found.amin(0), found.amax(0)]),
    )


def train_classifier(
    images: ImageSet,
    training: JudgeTraining,
    device: torch.device,
    progress: Progress | None = None,
) -> ReIDNet:
    """A ReID model with the pids of `images` as classes: label smoothing and batch-hard triplet."""
    height, width = images.images.shape[-2:]
    classes = len(images.classes)
    shape = (min(training.classes, classes), training.images_per_class)
    batches = pk_batches(images.labels, *shape, training.steps, training.seed)
    pixels, labels = images.images.to(device), images.labels.to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(training.seed, 1))
        net = ReIDNet(ModelConfig(classes, training.backbone, height, width)).to(device)
        augment = Augment((height, width))
        optimizer = torch.optim.AdamW(net.parameters(), training.lr, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.lr, training.steps)
        for step, rows in enumerate(batches.to(device)):
            heads = net(augment(to_unit(pixels[rows])), heads=True)
            loss = soft_cross_entropy(heads.logits, smooth_labels(labels[rows], classes))
            loss = loss + batch_hard_triplet(heads.feature, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if progress:
                progress("training a judge", step + 1, training.steps)
    return net.eval()


def _rank_of(net: ReIDNet, images: Tensor, classes: Tensor, wanted: Tensor) -> Tensor:
    device = net.mean.device
    logits = embed(lambda pixels: net(pixels.to(device), heads=True).logits.cpu(), images)
    own = logits.gather(1, torch.searchsorted(classes, wanted)[:, None])
    return (logits > own).sum(1) + 1

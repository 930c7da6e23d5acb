"""Training a defence: the one loop of `ddid.training` with a recipe's step inside."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddid.attack.budget import Budget
from ddid.backbones import find_backbone
from ddid.data.images import ImageSet, to_unit
from ddid.defense.discriminator import Discriminator
from ddid.defense.losses import Terms
from ddid.defense.recipe import Recipe
from ddid.defense.recipes import find_recipe
from ddid.defense.step import Draw, Learner
from ddid.errors import require, require_within
from ddid.identity import identity
from ddid.model import ModelConfig, ReIDNet, load_model, save_model
from ddid.progress import Progress
from ddid.seeds import drawn_from
from ddid.training import Feed, Fit, augmentation, fit, is_trained, pk_batches

LAYOUT = torch.channels_last  # our choice, as the network's: see `ddid.model`


@dataclass(frozen=True)
class TrainConfig(Fit):
    """What is the same for every recipe in a fair comparison; see `Fit` for the loop's part. Our
    choice: what trains in minutes on a CPU; tuned on a street whose people appear in no result."""

    steps: int = 300
    lr: float = 1e-3
    weight_decay: float = 5e-4
    # Nearly every gradient is longer (4 to 30) and so has this length: neither the first, longest
    # ones nor the scale of a recipe's loss then decide how far AdamW steps for long.
    clip: float = 1.0
    backbone: str = "resnet-tiny"  # a name of `ddid.backbones`
    weights: str = ""  # file, folder or hub name of pretrained ones; empty: random ones
    identities: int = 16  # P in a batch (Hermans et al. 2017) …
    images_per_identity: int = 4  # … with K images each
    eps: float = 8 / 255  # budget of the inner attack, in fractions of the pixel range [summary]
    attack_step: float = 0.0  # 0: half of eps
    attack_steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("training", self, identities="[2, inf)", images_per_identity="[2, inf)")
        _ = self.budget  # refuses what is impossible here, not in the first step

    @property
    def budget(self) -> Budget:
        """Of the inner attack, from a random start."""
        step = self.attack_step or self.eps / 2
        return Budget(self.eps, step, self.attack_steps, random_start=True)


def train(
    recipe: Recipe | str,
    train_set: ImageSet,
    config: TrainConfig,
    folder: str | Path,
    progress: Progress | None = None,
) -> ReIDNet:
    """Train `recipe`, going on from what `folder` holds, and return it in evaluation mode.

    The identities of `train_set` are the classes. `folder` gets `train_log.jsonl` and the model;
    what another recipe, its code, data or settings left there is moved to its folder `before`.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    folder, key = Path(folder), training_key(recipe, train_set, config)
    if not is_trained(folder, key):
        source = None
        if recipe.needs_source:
            source = train("none", train_set, config, folder / "source", progress)
        config = replace(config, average=recipe.average or config.average)
        fit(Defence(recipe, train_set, config, source), config, folder, key, progress)
    return load_model(folder).to(Accelerator().device)


def training_key(recipe: Recipe, train_set: ImageSet, config: TrainConfig) -> str:
    """Identity of the final weights: settings, data, and the code of the recipe and of the step."""
    weights = Path(config.weights)
    return identity(
        recipe=replace(recipe, name="", paper="", idea="", ours=""),
        config=replace(config, log_every=1, checkpoint_every=1),  # which change no weight
        backbone=find_backbone(config.backbone),
        weights=weights if config.weights and weights.exists() else config.weights,
        data=(train_set.images, train_set.pids, train_set.camids),
        source=training_key(find_recipe("none"), train_set, config) if recipe.needs_source else "",
        step=(Defence, fit),
        **config.in_force(),
    )


class Defence:
    """A recipe's networks and data; the loop's task."""

    def __init__(
        self,
        recipe: Recipe,
        train_set: ImageSet,
        config: TrainConfig,
        source: ReIDNet | None = None,
    ) -> None:
        self.name, self.config = recipe.name, config
        accelerator = Accelerator()
        self.device = accelerator.device
        halves = recipe.meta and recipe.meta.split == "identity"
        self.batches = own_share(train_set, config, accelerator, least=4 if halves else 2)
        height, width = train_set.images.shape[-2:]
        shape = ModelConfig(len(train_set.classes), config.backbone, height, width)
        with drawn_from(config.seed):
            net = ReIDNet(shape, config.weights).to(self.device)
            judge = Discriminator(net.width).to(self.device) if recipe.discriminator else None
        self.learner = Learner(recipe, net, config.budget, judge, source)
        self.modules = nn.ModuleDict({"net": net} | ({"discriminator": judge} if judge else {}))
        self.counted = [net] if source is None else [net, source]
        self.feed = Feed(train_set.images, self.device)
        self.labels, self.camids = train_set.labels, train_set.camids
        self.augment = augmentation((height, width))

    def step(self, step: int, seed: int) -> Terms:
        """Augment and attack this process' images of a step, and collect its gradient."""
        rows, draw = self.batches[step], Draw(seed, self.device)
        labels, camids = self.labels[rows], self.camids[rows]
        images = self.augment(to_unit(self.feed[rows])).contiguous(memory_format=LAYOUT)
        learner = replace(self.learner, done=(step + 1) / self.config.steps)
        batch = learner.batch(images, labels.to(self.device))
        return learner.gradient(batch, learner.halves(labels, camids, draw), draw)

    def save(self, folder: Path) -> None:
        """Write the network."""
        save_model(self.learner.net, folder, recipe=self.name, training=asdict(self.config))


def own_share(
    train_set: ImageSet, config: TrainConfig, accelerator: Accelerator, least: int
) -> Tensor:
    """Row indices (steps, B) of this process' part of every batch, whole identities each;
    InputError if the identities of a batch do not go round, or leave a process fewer than `least`:
    two, or four for halves of two, as one person has nobody to be told from."""
    count, identities = accelerator.num_processes, config.identities
    told = f"batches of {identities} identities for {count} process(es)"
    fits = identities % count == 0 and identities >= least * count
    require(fits, f"{told}: give a multiple, at least {least * count}")
    batches = pk_batches(
        train_set.labels, identities, config.images_per_identity, config.steps, config.seed
    )
    return batches.chunk(count, dim=1)[accelerator.process_index]

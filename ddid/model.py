"""The ReID network: encoder `E`, BNNeck, classifier `H` (dropped at test time), `G = H∘E`.

Images go in as pixels in [0, 1]; normalisation happens inside, so that an attack's eps always is a
fraction of the pixel range and travels with no transform.
"""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddid.backbones import find_backbone
from ddid.data.images import to_unit
from ddid.errors import refused, require
from ddid.files import atomic_write, read_json, write_json
from ddid.metric.distance import Embed

FORMAT = 1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """What it takes to build a `ReIDNet` again."""

    classes: int  # identities in training, the classifier's outputs
    backbone: str = "resnet-tiny"  # a name of `ddid.backbones`
    height: int = 64  # pixels
    width: int = 32  # pixels


class Heads(NamedTuple):
    """Everything a training loss looks at."""

    feature: Tensor  # (B, D) before the BNNeck: triplet loss, discriminator
    embedding: Tensor  # (B, D) after it: retrieval, attacks
    logits: Tensor  # (B, C)


class ReIDNet(nn.Module):
    """Backbone, global pooling, BNNeck (Luo et al. 2019) and a linear classifier without bias.

    `weights` is a folder or hub name of pretrained backbone weights; empty for random ones.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, weights: str = "") -> None:
        super().__init__()
        self.config, size = config, (config.height, config.width)
        self.backbone = find_backbone(config.backbone)(weights, size)
        self.width = _width(self.backbone, size)
        self.neck = nn.BatchNorm1d(self.width)
        self.neck.bias.requires_grad_(False)  # the neck centres the features on the origin
        self.classifier = nn.Linear(self.width, config.classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        # Our choice: resnet-tiny is up to 7 % faster so on a CPU, resnet18 a third slower.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, heads: bool = False) -> Tensor | Heads:
        """Embeddings (B, D), not normalised, of images (B, 3, H, W) in [0, 1]; or all `Heads`."""
        feature = pooled(self.backbone((images - self.mean) / self.std))
        embedding = self.neck(feature)
        if not heads:
            return embedding
        return Heads(feature, embedding, self.classifier(embedding))

    @property
    def stages(self) -> nn.ModuleList:
        """What puts out spatial maps (B, C, h, w), ever coarser: a ModuleList `stages` of the
        backbone or of its `encoder`; empty without such."""
        return getattr(getattr(self.backbone, "encoder", self.backbone), "stages", nn.ModuleList())


def pooled(output: Any) -> Tensor:
    """Features (B, D) of what a backbone returns: maps (B, D, h, w), features, transformers'."""
    if not isinstance(output, Tensor):
        told = f"the network returns {type(output).__name__}: want a tensor or a `pooler_output`"
        require(hasattr(output, "pooler_output"), told)
        output = output.pooler_output.flatten(1)  # (B, D, 1, 1) or (B, D) -> (B, D)
    return output.mean((2, 3)) if output.ndim == 4 else output


def embed(model: Embed, images: Tensor, batch_size: int = 256) -> Tensor:
    """Embeddings of many images, without gradients and in evaluation mode. Takes uint8 (N, 3, H, W)
    or floats in [0, 1], `batch_size` a forward pass, and returns float32 (N, D) on their device.
    The modes of a module and of its parts are put back afterwards."""
    told = f"images are {type(images).__name__}: give a tensor (N, 3, H, W), uint8 or in [0, 1]"
    require(isinstance(images, Tensor) and images.ndim == 4, told)
    module = model if isinstance(model, nn.Module) else nn.Module()
    device = next((p.device for p in module.parameters()), images.device)
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            parts = [model(to_unit(b.to(device))).float() for b in images.split(batch_size)]
    finally:
        for part, training in modes.items():
            part.training = training
    return torch.cat(parts).to(images.device)


def save_model(net: ReIDNet, folder: str | Path, **notes: Any) -> None:
    """Write `weights.safetensors` and `model.json`; `notes` is kept beside the architecture."""
    folder = Path(folder)
    state = {name: value.contiguous().clone() for name, value in net.state_dict().items()}
    with atomic_write(folder / "weights.safetensors") as temporary:
        save_file(state, temporary)
    described = {"format": FORMAT, "config": asdict(net.config), "notes": notes}
    write_json(folder / "model.json", described)


def load_model(folder: str | Path, size: tuple[int, int] | None = None) -> ReIDNet:
    """The network saved in `folder`, in evaluation mode, on the CPU. InputError for weights that do
    not fit, or where images of `size` (height, width) are not what it was trained on."""
    folder = Path(folder)
    description = read_json(folder / "model.json")
    found = description.get("format")
    require(found == FORMAT, f"{folder}/model.json has format {found!r}, not {FORMAT}: train again")
    path = folder / "weights.safetensors"
    require(path.is_file(), f"no weights {path}: train the model again")
    told = f"{folder} does not fit the architecture its model.json names"
    with refused(told, RuntimeError, SafetensorError, KeyError, TypeError):
        with torch.random.fork_rng([]):  # weights drawn to be replaced cost the caller no numbers
            net = ReIDNet(ModelConfig(**description["config"]))
        net.load_state_dict(load_file(path))
    made = (net.config.height, net.config.width)
    require(size in (None, made), f"{folder} was made for images of {made}: give these, not {size}")
    return net.eval()


def _width(backbone: nn.Module, size: tuple[int, int]) -> int:
    """Length D of a backbone's features."""
    asked = copy.deepcopy(backbone).eval()  # statistics of BatchNorm stay as they are
    told = f"the backbone takes no images (2, 3, {size[0]}, {size[1]})"
    with refused(told, RuntimeError, AttributeError, ValueError, TypeError), torch.no_grad():
        feature = pooled(asked(torch.zeros(2, 3, *size)))
    require(
        feature.ndim == 2 and len(feature) == 2,
        f"the backbone returns {tuple(feature.shape)} for 2 images: give (B, D) or (B, D, h, w)",
    )
    return feature.shape[1]

"""The ReID network: encoder `E`, BNNeck, classifier `H` (dropped at test time), `G = H∘E`.

Images go in as pixels in [0, 1]; normalisation happens inside, so that an attack's eps always is a
fraction of the pixel range and travels with no transform.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from ddid.data.images import to_unit
from ddid.errors import InputError, require
from ddid.files import atomic_write, read_json, write_json
from ddid.metric.distance import Embed

FORMAT = 1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

RESNETS: dict[str, dict[str, Any]] = {
    # our choice for CPUs: one basic block a stage, 1.2 M parameters, 1,500 images/s at 64×32
    "resnet-tiny": {
        "embedding_size": 32,
        "hidden_sizes": [32, 64, 128, 256],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "resnet18": {
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
    },
    "resnet50": {"hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]},
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    # our choice for CPUs: the depth that trains in minutes; patches of 8 pixels give 32 at 64×32
    "dinov2-tiny": {
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "image_size": 64,
        "patch_size": 8,
    },
    "dinov2-small": {
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "image_size": 518,
        "patch_size": 14,
    },
}
BACKBONES = [*RESNETS, *TRANSFORMERS]


@dataclass(frozen=True)
class ModelConfig:
    """What it takes to build a `ReIDNet` again."""

    classes: int  # identities in training, the classifier's outputs
    backbone: str = "resnet-tiny"  # one of BACKBONES
    height: int = 64  # pixels
    width: int = 32  # pixels


class Heads(NamedTuple):
    """Everything a training loss looks at."""

    feature: Tensor  # (B, D) before the BNNeck: triplet loss, discriminator
    embedding: Tensor  # (B, D) after it: retrieval, attacks
    logits: Tensor  # (B, C)


class ReIDNet(nn.Module):
    """Backbone, global pooling, BNNeck (Luo et al. 2019) and a linear classifier without bias.

    A ResNet's last stage keeps stride 1, as ReID models do, so that its maps stay twice as large.

    Args:
        config: architecture.
        weights: folder or hub name of pretrained backbone weights in transformers' format; empty
            for random ones.

    Raises:
        InputError: unknown backbone, images its patches do not divide, weights that do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, weights: str = "") -> None:
        super().__init__()
        require(
            config.backbone in BACKBONES,
            f"unknown backbone {config.backbone!r}: choose one of {', '.join(BACKBONES)}",
        )
        self.config = config
        self.backbone = _backbone(config, weights)
        width = getattr(self.backbone.config, "hidden_size", None)
        self.width = width or self.backbone.config.hidden_sizes[-1]
        self.neck = nn.BatchNorm1d(self.width)
        self.neck.bias.requires_grad_(False)  # the neck centres the features on the origin
        self.classifier = nn.Linear(self.width, config.classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        # Measured faster on CPUs, by half in an attack's step.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @overload
    def forward(self, images: Tensor) -> Tensor: ...
    @overload
    def forward(self, images: Tensor, heads: bool) -> Heads: ...
    def forward(self, images: Tensor, heads: bool = False) -> Tensor | Heads:
        """Embeddings (B, D) of images (B, 3, H, W) in [0, 1]; all `Heads` where asked for.

        Embeddings are not normalised; cosine distance does that where it is computed.
        """
        output = self.backbone((images - self.mean) / self.std)
        feature = output.pooler_output.flatten(1)  # (B, D, 1, 1) or (B, D) -> (B, D)
        embedding = self.neck(feature)
        if not heads:
            return embedding
        return Heads(feature, embedding, self.classifier(embedding))

    @property
    def stages(self) -> nn.ModuleList:
        """The modules that put out spatial maps (B, C, h, w), ever coarser, for Grad-CAM.

        Raises:
            InputError: the backbone is no ResNet.
        """
        require(
            self.config.backbone in RESNETS,
            f"{self.config.backbone} has no convolutional maps: Grad-CAM wants a ResNet",
        )
        return self.backbone.encoder.stages


def embed(model: Embed, images: Tensor, batch_size: int = 256) -> Tensor:
    """Embeddings of many images, without gradients and in evaluation mode.

    Args:
        model: any `Embed`; a module's mode is put back afterwards.
        images: uint8 (N, 3, H, W), or float in [0, 1].
        batch_size: images a forward pass.

    Returns:
        float32 (N, D) on the images' device.
    """
    module = model if isinstance(model, nn.Module) else None
    device = next((p.device for p in module.parameters()), images.device) if module else None
    training = module.training if module else False
    if module:
        module.eval()
    try:
        with torch.no_grad():
            parts = [model(to_unit(b.to(device))).float() for b in images.split(batch_size)]
    finally:
        if module:
            module.train(training)
    return torch.cat(parts).to(images.device)


def save_model(net: ReIDNet, folder: str | Path, **notes: Any) -> None:
    """Write `weights.safetensors` and `model.json`; `notes` is kept beside the architecture."""
    from safetensors.torch import save_file

    folder = Path(folder)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    with atomic_write(folder / "weights.safetensors") as temporary:
        save_file(state, temporary)
    write_json(
        folder / "model.json", {"format": FORMAT, "config": asdict(net.config), "notes": notes}
    )


def load_model(folder: str | Path) -> ReIDNet:
    """The network saved in `folder`, in evaluation mode, on the CPU.

    Raises:
        InputError: nothing there, another format version, or weights of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    description = read_json(folder / "model.json")
    found = description.get("format") if isinstance(description, dict) else None
    require(
        found == FORMAT,
        f"{folder}/model.json has format {found!r}, this version reads {FORMAT}: train again",
    )
    net = ReIDNet(ModelConfig(**description["config"]))
    path = folder / "weights.safetensors"
    require(path.is_file(), f"no weights {path}: train the model again")
    try:
        net.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path} does not fit {net.config.backbone} with {net.config.classes} classes: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return net.eval()


def _backbone(config: ModelConfig, weights: str) -> Any:
    from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

    if config.backbone in RESNETS:
        kind, settings = ResNetModel, ResNetConfig(**RESNETS[config.backbone])
    else:
        kind, settings = Dinov2Model, Dinov2Config(**TRANSFORMERS[config.backbone])
        _check_patches(config, settings.patch_size)
    backbone = _pretrained(kind, settings, weights) if weights else kind(settings)
    if config.backbone in RESNETS:
        _keep_last_stride_1(backbone)
    return backbone


def _check_patches(config: ModelConfig, patch: int) -> None:
    require(
        config.height % patch == 0 and config.width % patch == 0,
        f"{config.backbone} cuts images into patches of {patch} pixels, which do not divide "
        f"{config.height}x{config.width}: change image_height and image_width",
    )


def _pretrained(kind: Any, settings: Any, weights: str) -> Any:
    try:
        backbone, report = kind.from_pretrained(
            weights, config=settings, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"backbone weights {weights!r} cannot be read: {str(error).splitlines()[0]}"
        ) from error
    wrong = sorted(str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]])
    require(
        not wrong,
        f"backbone weights {weights!r} are of another architecture: {len(wrong)} tensors are "
        "missing or of another shape; choose the backbone they were trained for",
    )
    return backbone


def _keep_last_stride_1(backbone: Any) -> None:
    for module in backbone.encoder.stages[-1].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)

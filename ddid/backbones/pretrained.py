"""Families of transformers' models: ResNets as ReID uses them, and DINOv2."""

from functools import partial
from typing import Any

from torch import nn

from ddid.errors import refused, require

BASIC = {"depths": [1] * 4, "layer_type": "basic"}
DINO_TINY = {"hidden_size": 192, "num_attention_heads": 3, "image_size": 64, "patch_size": 8}
DINO_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
# A family, and what differs from its defaults. The two tiny ones are our choices for CPUs: 1.2 M
# parameters; and the depth that trains in minutes.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet-tiny": ("ResNet", BASIC | {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256]}),
    "resnet18": ("ResNet", BASIC | {"hidden_sizes": [64, 128, 256, 512], "depths": [2] * 4}),
    "resnet50": ("ResNet", {}),
    "dinov2-tiny": ("Dinov2", DINO_TINY | {"num_hidden_layers": 4}),
    "dinov2-small": ("Dinov2", DINO_SMALL),
}


def build(family: str, changes: dict[str, Any], weights: str, size: tuple[int, int]) -> nn.Module:
    """A model of a family. A ResNet's last stage keeps stride 1, as ReID models do, so that its
    maps stay twice as large."""
    import transformers

    settings = getattr(transformers, f"{family}Config")(**changes)
    patch = getattr(settings, "patch_size", 1)
    require(
        size[0] % patch == 0 and size[1] % patch == 0,
        f"{family} takes patches of {patch} pixels: give multiples as image_height and image_width",
    )
    kind = getattr(transformers, f"{family}Model")
    backbone = _pretrained(kind, settings, weights) if weights else kind(settings)
    if family == "ResNet":
        for module in backbone.encoder.stages[-1].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    return backbone


def _pretrained(kind: Any, settings: Any, weights: str) -> Any:
    with refused(f"backbone weights {weights!r} cannot be read", OSError, RuntimeError, ValueError):
        backbone, report = kind.from_pretrained(
            weights, config=settings, output_loading_info=True, ignore_mismatched_sizes=True
        )
    wrong = [*report["missing_keys"], *report["mismatched_keys"]]
    require(
        not wrong,
        f"backbone weights {weights!r} are of another architecture, {len(wrong)} tensors differ",
    )
    return backbone


BACKBONES = {name: partial(build, *what) for name, what in ARCHITECTURES.items()}

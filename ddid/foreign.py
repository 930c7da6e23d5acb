"""Models of other people as callables from images in [0, 1] to embeddings, for the audit.

`ddid audit --model ddid.foreign:torchscript --weights reid.pt` and the like; for a state dict, say
timm's, write a factory that returns `Normalised(net)` after `net.load_state_dict(read_weights(w))`.
Nothing here unpickles code, but TorchScript and factories are code: take them from whom you trust.
"""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from ddid.errors import InputError, refused, require
from ddid.files import read_json
from ddid.model import IMAGENET_MEAN, IMAGENET_STD, pooled


class Normalised(nn.Module):
    """A network for ImageNet-normalised images as one for pixels in [0, 1]. `net` may return
    features (B, D), maps (B, D, h, w) or transformers' outputs."""

    levels: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float] | float = IMAGENET_MEAN,
        std: Sequence[float] | float = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.net = net
        levels = [torch.tensor(level, dtype=torch.float32).expand(3) for level in (mean, std)]
        self.register_buffer("levels", torch.stack(levels).view(2, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W) in [0, 1]."""
        mean, std = self.levels
        return pooled(self.net((images - mean) / std))


def torchscript(path: str) -> Normalised:
    """The TorchScript file at `path`, made by `torch.jit.trace` or `torch.jit.script`."""
    require(Path(path).is_file(), f"no TorchScript file {path}: give it with --weights")
    with refused(f"{path} is no TorchScript file", RuntimeError):
        return Normalised(torch.jit.load(path, map_location="cpu"))


def transformers(path: str) -> Normalised:
    """The model in a transformers folder: `config.json`, safetensors weights of every layer, and
    the mean and deviation of `preprocessor_config.json` where there is one, or its word that pixels
    stay as they are."""
    from transformers import AutoModel

    require(Path(path, "config.json").is_file(), f"no transformers folder {path}: no config.json")
    with refused(f"{path} cannot be read", OSError, ValueError, RuntimeError):
        net, report = AutoModel.from_pretrained(
            path, use_safetensors=True, output_loading_info=True
        )
    lacking = sorted(report["missing_keys"])
    told = f"{path} has no weights for {', '.join(lacking[:3])}, which would be random: write a "
    require(not lacking, f"{told}factory that takes the features you mean")
    prepared = read_json(Path(path, "preprocessor_config.json"), {})
    kept = {name: prepared.get(f"image_{name}") for name in ("mean", "std")}
    if not prepared.get("do_normalize", True):
        kept = {"mean": 0.0, "std": 1.0}
    with refused(f"{path}/preprocessor_config.json: mean or std", TypeError, RuntimeError):
        return Normalised(net, **{name: value for name, value in kept.items() if value is not None})


def read_weights(path: str) -> dict[str, Tensor]:
    """A state dict from a safetensors or PyTorch file, tensors only; a nested `state_dict` or
    `model` is taken out, and the prefix `module.` of parallel training."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    require(Path(path).is_file(), f"no weights {path}: give a safetensors or a PyTorch file")
    safe = path.endswith(".safetensors")
    kinds = SafetensorError, RuntimeError, OSError, EOFError, ValueError, LookupError
    try:
        with refused(f"{path} is damaged", *kinds):
            found = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
    except UnpicklingError as error:  # its own words would advise to run what is in there
        told = f"{path} holds more than tensors, or no weights at all: save its state_dict again"
        raise InputError(told) from error
    if isinstance(found, dict):
        found = found.get("state_dict", found.get("model", found))
    require(isinstance(found, dict), f"{path} holds no state dict but a {type(found).__name__}")
    return {name.removeprefix("module."): value for name, value in found.items()}

"""Checkpoints of a training run: one safetensors file, whose header says in JSON what it holds.

One file, moved into place whole, so that weights, optimizer and step can never disagree. There is
no random state to keep: the training loop derives every draw from the seed and the step.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddid.errors import InputError, require
from ddid.files import atomic_write

FORMAT = 1

Settings = dict[str, Any]
"""What must be the same for two runs to be the same run; plain JSON values."""


def save_checkpoint(
    path: Path,
    modules: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    step: int,
    settings: Settings,
) -> None:
    """Write weights and optimizer state after `step` steps, atomically."""
    tensors = {f"modules.{name}": value for name, value in modules.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    header = {"format": FORMAT, "step": step, "settings": settings}
    with atomic_write(path) as temporary:
        save_file(
            {name: value.detach().contiguous() for name, value in tensors.items()},
            temporary,
            metadata={"ddid": json.dumps(header)},
        )


def load_checkpoint(
    path: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer, settings: Settings
) -> int:
    """Restore what `save_checkpoint` wrote and return its step.

    Raises:
        InputError: the file is damaged, of another format version, or of a run with other
            settings; it is left as it is.
    """
    header, tensors = _read(path)
    require(
        header.get("format") == FORMAT,
        f"{path} has format {header.get('format')!r}, this version reads {FORMAT}: "
        "move it away and train again",
    )
    check_settings(path, header["settings"], settings)
    prefix = "modules."
    weights = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    modules.load_state_dict(weights)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name in tensors.keys() - {prefix + n for n in weights}:
        _, index, key = name.split(".")
        value = _laid_out_as(parameters[int(index)], tensors[name])
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return int(header["step"])


def check_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare the settings a file was made with and the wanted ones.

    Raises:
        InputError: they differ; the sentence names the first difference.
    """
    for name in sorted(found.keys() | wanted.keys()):
        old, new = found.get(name), wanted.get(name)
        require(
            old == new,
            f"{path} was trained with {name} = {_short(old)}, now it is {_short(new)}: go on with "
            "the old settings, or choose another folder or move this one away to start afresh",
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as stream:
            header = json.loads((stream.metadata() or {}).get("ddid", "{}"))
            return header, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} is damaged ({error}): move it away to start this training afresh"
        ) from error


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` in the parameter's memory format: fused optimizers walk both in storage order."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Checkpoints of a training: one safetensors file, so that weights, optimizer and step agree.

There is no random state to keep: the loop derives every draw from the seed and the step.
"""

import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddid.errors import refused, require
from ddid.files import atomic_write, make_folder
from ddid.identity import identity

CHECKPOINT = "checkpoint.safetensors"


def set_aside(folder: Path, key: str, own: Collection[str]) -> None:
    """Make the folder, and move a training of another key, the files `own`, out of the way, into
    the next number of `before`. InputError: there are weights, and none of a training."""
    make_folder(folder)
    files = {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."}
    strange = [name for name in files if name.endswith(".safetensors") and files.isdisjoint(own)]
    require(not strange, f"{folder} holds weights of no training, {strange}: choose another folder")
    path = folder / CHECKPOINT
    found = _read(path)[0].get("key") if path.exists() else None
    if found != key:
        taken = [int(path.name) for path in folder.glob("before/*") if path.name.isdecimal()]
        place = folder / "before" / str(max(taken, default=0) + 1)
        for name in files.intersection(own):
            place.mkdir(parents=True, exist_ok=True)
            (folder / name).replace(place / name)


def save_checkpoint(
    path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, step: int, key: str
) -> None:
    """Write weights and optimizer state after `step` steps, as one file moved into place whole."""
    tensors = {f"modules.{name}": value for name, value in modules.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    kept = {name: value.detach().contiguous() for name, value in tensors.items()}
    known = {"step": step, "key": key}
    header = json.dumps(known | {"digest": identity(header=known, tensors=kept)})
    with atomic_write(path) as temporary:
        save_file(kept, temporary, metadata={"ddid": header})


def load_checkpoint(path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_checkpoint` wrote and return its step; 0 where there is nothing."""
    if not path.exists():
        return 0
    header, tensors = _read(path)
    modules.load_state_dict({n[8:]: v for n, v in tensors.items() if n.startswith("modules.")})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        _, index, field = name.split(".")
        # Fused optimizers walk weights and state in storage order: one memory format for both.
        like, value = parameters[int(index)], tensors[name]
        value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state[int(index)][field] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": dict(state)})
    return int(header["step"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    told = f"{path} is damaged: move it away to start this training afresh"
    with refused(told, SafetensorError, OSError, ValueError, AttributeError):
        with safe_open(path, framework="pt") as stream:
            header = json.loads((stream.metadata() or {}).get("ddid", "{}"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        digest = header.pop("digest", "")
    require(digest == identity(header=header, tensors=tensors), told)
    return header, tensors

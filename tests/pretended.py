"""A device that is not there: its tensors lie on the CPU and only say that they do not.

Inside `pretended()` whatever is moved to or made on the device computes real numbers, but tensors
of two devices in one operation raise, and `WAITED` names what needs a value on the host
(`float(x)`, `x.tolist()`, `x[mask]`, `x.cpu()`, `unique`): a synchronisation.

The device stays for the rest of a process, where other code may then choose it. So tests with it
are in a file that pytest does not collect, and one that it does calls `run_apart` on that.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "gpux"
ROOT = Path(__file__).resolve().parents[1]
MOVES = {"copy_", "_to_copy", "set_data"}
WAITED: list[str] = []
WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "unique_dim", "equal"}


def run_apart(tests: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


class There(Tensor):
    """A tensor of the device around one of the CPU."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, inner: Tensor) -> None:
        if inner.dtype == torch.float64:
            raise TypeError("the device knows no float64, as Apple's do not")
        self.inner = inner

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on what the CPU holds; its results are where the device's would be."""
    name = func.overloadpacket._qualified_op_name.split("::")[1]
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    far = {id(t.inner): t for t in given if isinstance(t, There)}
    chosen = args[1] if name in ("index", "index_put", "_index_put_impl_") else []
    numbers = {id(i) for i in chosen}  # which may lie on the host, as torch allows
    near = [t for t in given if not isinstance(t, There) and t.ndim and id(t) not in numbers]
    if far and near and name not in MOVES:
        raise RuntimeError(f"{name}: tensors of two devices, {[tuple(t.shape) for t in near]} here")
    asked = kwargs.get("device")
    if far and (
        name in WAITS
        or (asked is not None and asked.type == "cpu")
        or (name == "copy_" and not isinstance(args[0], There))
        or any(i.dtype == torch.bool for i in chosen if isinstance(i, Tensor))
    ):
        WAITED.append(name)
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inner = [tree_map(lambda t: t.inner if isinstance(t, There) else t, x) for x in (args, kwargs)]
    result = func(*inner[0], **inner[1])
    there = bool(far) if asked is None else asked.type == NAME

    def back(value: Any) -> Any:
        if not isinstance(value, Tensor) or not there:
            return value
        return far[id(value)] if id(value) in far else There(value)

    return tree_map(back, result)


class Everywhere(TorchDispatchMode):
    """Also what takes no tensor, but may make one on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Source(torch.Generator):
    """A generator of the CPU, whatever device it is asked for."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Source":
        return super().__new__(cls)


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """Save what safetensors would fetch from a device that it knows."""
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, path)


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The pretended device as the machine's only one, within the block."""
    if not hasattr(torch, "_pretended"):
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        torch.gpux.get_amp_supported_dtype = lambda: []
        torch._pretended = True
    WAITED.clear()
    only = property(lambda _: torch.device(NAME, 0))
    with (
        mock.patch("torch.Generator", Source),
        mock.patch.object(Accelerator, "device", only),
        mock.patch("ddid.model.save_file", write),
        Everywhere(),
    ):
        yield torch.device(NAME, 0)

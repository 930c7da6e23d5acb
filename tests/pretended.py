"""A device that is not there: shapes and devices are followed, nothing is computed.

Inside `pretended()` every tensor is a fake one. Tensors of two devices in one operation raise, and
so does whatever needs a value on the host (`float(x)`, `x.tolist()`, `x[mask]`, `unique`): a
synchronisation. Networks get there by `place`; `torch.Generator` of the device is one of the CPU.

The device stays for the rest of a process, where other code may then choose it. So tests with it
are in a file that pytest does not collect, and one that it does calls `run_apart` on that.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

NAME = "gpux"
ROOT = Path(__file__).resolve().parents[1]


def run_apart(tests: str) -> None:
    """Run a file of tests in a process of its own; fails with what that says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


class Source(torch.Generator):
    """A generator of the CPU, whatever device it is asked for."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Source":
        return super().__new__(cls)


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The pretended device, within the block."""
    if not hasattr(torch, "_pretended"):
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        torch._pretended = True
    with (
        mock.patch("torch.Generator", Source),
        FakeTensorMode(allow_non_fake_inputs=False),
    ):
        yield torch.device(NAME, 0)


def there(tensor: Tensor, device: torch.device) -> Tensor:
    """A fake tensor like `tensor`, on the device."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def place(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its parameters and buffers on the device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = nn.Parameter(there(parameter, device), parameter.requires_grad)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = there(buffer, device)
    return module

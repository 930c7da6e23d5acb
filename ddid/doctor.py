"""What a bug report needs first: versions, machine, kernel, notebooks, and a look at the data."""

import os
import shutil

import psutil
import torch

from ddid.data import read_data
from ddid.errors import InputError
from ddid.notebook import NOTEBOOKS, declared_parameters, environment, notebook_names


def examine(data_root: str = "") -> list[str]:
    """Findings as sentences.

    Args:
        data_root: data set folder or manifest to look at; empty for none.

    Raises:
        InputError: something that keeps ddid from running.
    """
    about = environment()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: the CPU is used"
    memory = psutil.virtual_memory().total / 2**30
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    counts = {name: len(declared_parameters(name)) for name in notebook_names()}
    lines = [
        f"Python {about['python']} on {about['platform']}",
        f"{about['cores']} cores, {memory:.0f} GiB of memory, {free:.0f} GiB free on disk; {gpu}",
        ", ".join(f"{name} {version}" for name, version in about["packages"].items()),
        _kernel(),
        f"notebooks in {NOTEBOOKS}: "
        + ", ".join(f"{name} ({count} parameters)" for name, count in counts.items()),
    ]
    return lines + (_data(data_root) if data_root else [])


def _kernel() -> str:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        return f"kernel python3: {KernelSpecManager().get_kernel_spec('python3').resource_dir}"
    except NoSuchKernel as error:
        raise InputError("no Jupyter kernel `python3`: pip install ipykernel") from error


def _data(root: str) -> list[str]:
    data = read_data(root)
    counts = data.manifest.groupby("split")[["path", "pid", "camid"]].nunique()
    return [
        f"{root}:",
        *(f"  {s}: {c.path} images, {c.pid} ids, {c.camid} cameras" for s, c in counts.iterrows()),
        *(f"  {message}" for message in data.messages),
    ]

"""What a bug report needs first: versions, device, kernel, notebooks, and a look at the data."""

import torch

from ddid.data import read_data
from ddid.errors import InputError
from ddid.notebook import declared_parameters, environment, notebook_names


def examine(data_root: str = "") -> list[str]:
    """Findings as sentences.

    Args:
        data_root: data set folder or manifest to look at; empty for none.

    Raises:
        InputError: something that keeps ddid from running.
    """
    about = environment()
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU, CPU is used"
    lines = [
        f"Python {about['python']} on {about['platform']}, {about['cores']} cores; {device}",
        versions,
        _kernel(),
        *(f"{name}: {len(declared_parameters(name))} parameters" for name in notebook_names()),
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

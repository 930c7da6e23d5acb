"""What a bug report needs first: versions, machine, kernel, notebooks, and a look at the data."""

import os
import shutil

import psutil
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from ddid.data import read_data
from ddid.errors import refused
from ddid.notebook import NOTEBOOKS, declared_parameters, environment, notebook_names
from ddid.progress import progress_bars


def examine(data_root: str = "") -> list[str]:
    """Findings as sentences; also on the images of the data set or manifest `data_root`, if any."""
    about = environment()
    with refused("no Jupyter kernel `python3`: pip install ipykernel", NoSuchKernel):
        kernel = KernelSpecManager().get_kernel_spec("python3").resource_dir
    memory = psutil.virtual_memory().total / 2**30
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    counts = [f"{name} ({len(declared_parameters(name))} parameters)" for name in notebook_names()]
    lines = [
        f"Python {about['python']} on {about['platform']}",
        f"{about['hardware']}, {memory:.0f} GiB of memory, {free:.0f} GiB free on disk",
        ", ".join(f"{name} {version}" for name, version in about["packages"].items()),
        f"kernel python3: {kernel}",
        f"notebooks in {NOTEBOOKS}: {', '.join(counts)}",
    ]
    if data_root:
        data = read_data(data_root, skip_broken=True, progress=progress_bars())
        own = data.manifest
        known = own.assign(pid=own["pid"].where(own["pid"] > 0))  # no distractors
        known["camid"] = own["camid"].where(own["camid"] >= 0)
        sides = known.groupby("split")[["path", "pid", "camid"]].nunique().iterrows()
        found = [f"{s}: {c.path} images, {c.pid} ids, {c.camid} cameras" for s, c in sides]
        lines += [f"{data_root}:", *(f"  {line}" for line in (*found, *data.messages))]
    return lines

"""Layouts of data sets: every module here is one, found when asked for.

A module has `NAME`, `recognises(root)` and `read(root)`; `root` is a file or a folder. `read`
returns rows with `path` (relative to the folder) and `pid` at least, and sentences about them.
"""

import pkgutil
from importlib import import_module
from types import ModuleType


def layouts() -> list[ModuleType]:
    """All layouts, by name of the file."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [import_module(f"{__name__}.{name}") for name in names]

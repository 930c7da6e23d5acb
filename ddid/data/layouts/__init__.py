"""Layouts of data sets: every module here is one, found when asked for.

A module has `NAME`, `recognises(root)` and `read(root)`; `root` is a file or a folder. `read`
returns rows with `path` (relative to the folder) and `pid` at least, and sentences about them.
"""

from types import ModuleType

from ddid.modules import modules_of


def layouts() -> list[ModuleType]:
    """All layouts, by name of the file."""
    return list(modules_of(__name__))

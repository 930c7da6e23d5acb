"""What registries are made of: every module of a package counts, and no list names it."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from ddid.errors import refused


def modules_of(package: str) -> Iterator[ModuleType]:
    """The modules of a package in the order of their names. InputError: one cannot be imported, say
    a file of the user's that asks for what is not installed."""
    path = import_module(package).__path__
    for name in sorted(info.name for info in pkgutil.iter_modules(path)):
        file = f"{package.replace('.', '/')}/{name}.py"
        with refused(f"{file} cannot be imported", Exception):  # a user's file may raise anything
            module = import_module(f"{package}.{name}")
        yield module

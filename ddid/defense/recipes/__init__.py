"""The registry: every module here lists its `RECIPES`."""

import importlib
import pkgutil

from ddid.defense.recipe import Recipe
from ddid.errors import require


def recipes() -> dict[str, Recipe]:
    """All recipes by name, in the order of their modules' names."""
    found: dict[str, Recipe] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for recipe in importlib.import_module(f"{__name__}.{module}").RECIPES:
            require(recipe.name not in found, f"two recipes are called {recipe.name!r}")
            found[recipe.name] = recipe
    return found


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        InputError: there is none.
    """
    known = recipes()
    require(name in known, f"no recipe {name!r}: choose one of {', '.join(known)}")
    return known[name]

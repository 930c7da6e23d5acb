"""The registry: every module here lists its `RECIPES`."""

import importlib
import pkgutil
from dataclasses import replace

from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
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


def tuned(recipe: Recipe, fnes: FNES, meta: Meta) -> Recipe:
    """The recipe with these settings for the modules it has switched on."""
    return replace(recipe, fnes=fnes if recipe.fnes else None, meta=meta if recipe.meta else None)

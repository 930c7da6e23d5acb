"""The registry: every module here lists its `RECIPES`, and a name may change one.

`metric_at+fnes`, `ddid-meta`: a module switched on or off. `metric_at-eps10`, `metric_at-steps6`:
another inner attack. `ddid+ema`: a moving average of the weights. Several may follow each other.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ddid.attack import find_attack
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Craft, Recipe
from ddid.errors import require

MODULES: dict[str, Any] = {"fnes": FNES(), "discriminator": 0.1, "meta": Meta()}
"""The paper's three modules as `+MODULE` switches them on. Weight 0.1 is our choice."""
NUMBERS: dict[str, Callable[[Recipe, int], Recipe]] = {
    "eps": lambda recipe, number: replace(recipe, eps=number / 255),
    "steps": lambda recipe, number: replace(recipe, attack_steps=number),
}
EMA = 0.05  # our choice: at the end of 300 steps the average forgets one half in 15
GRAMMAR = "BASE followed by +MODULE, -MODULE (fnes, discriminator, meta), -epsN, -stepsN or +ema"


def recipes() -> dict[str, Recipe]:
    """All recipes that have a name of their own, in the order of their modules' names."""
    found: dict[str, Recipe] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for recipe in importlib.import_module(f"{__name__}.{module}").RECIPES:
            require(recipe.name not in found, f"two recipes are called {recipe.name!r}")
            found[recipe.name] = recipe
    return found


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, changes at its end included.

    Raises:
        InputError: there is none, or a change that changes nothing.
    """
    known = recipes()
    bases = [base for base in known if name == base or name[len(base) :][:1] in ("+", "-")]
    base = max((b for b in bases if name.startswith(b)), key=len, default="")
    changes = re.findall(r"([+-])([a-z]+)(\d*)", name[len(base) :])
    whole = "".join("".join(change) for change in changes)
    require(
        bool(base) and base + whole == name,
        f"no recipe {name!r}: choose one of {', '.join(known)}, or {GRAMMAR}",
    )
    recipe = known[base]
    for sign, word, number in changes:
        recipe = replace(_changed(recipe, name, sign, word, number), name=name)
    return recipe


def _changed(recipe: Recipe, name: str, sign: str, word: str, number: str) -> Recipe:
    if word in MODULES and not number:
        there = bool(getattr(recipe, word))
        require(there == (sign == "-"), f"{name}: {word} is {'on' if there else 'off'} already")
        off = 0.0 if word == "discriminator" else None
        change: dict[str, Any] = {"name": name, word: off if there else MODULES[word]}
        return replace(recipe, **change)
    if (sign, word, number) == ("+", "ema", ""):
        require(not recipe.average, f"{name}: the weights are averaged already")
        return replace(recipe, average=EMA)
    require(sign == "-" and word in NUMBERS and bool(number), f"no recipe {name!r}: say {GRAMMAR}")
    require(int(number) > 0, f"{name}: {word}{number} is no attack: give a number of at least 1")
    require(recipe.craft is not None, f"{name}: there is no inner attack to change")
    return NUMBERS[word](recipe, int(number))


def tuned(recipe: Recipe, fnes: FNES, meta: Meta, discriminator: float) -> Recipe:
    """The recipe with these settings for the modules it has switched on."""
    return replace(
        recipe,
        fnes=fnes if recipe.fnes else None,
        meta=meta if recipe.meta else None,
        discriminator=discriminator if recipe.discriminator else 0.0,
    )


def meta_pool(recipe: Recipe) -> tuple[Craft, ...]:
    """The attacks that the recipe's self-meta step names for its meta-test half.

    Raises:
        InputError: one that is unknown, learns from more than a batch, or needs what training has
            not: a gallery, another model.
    """
    names = recipe.meta.attacks if recipe.meta else ()
    for name in names:
        found = find_attack(name)
        require(
            not found.whole and found.family != "gallery" and name != "transfer",
            f"self-meta learning cannot use the attack {name!r}, which needs more than a batch: "
            "choose one such as fna, sma, ifgsm, mifgsm or color",
        )
    return tuple(find_attack(name).craft for name in names)

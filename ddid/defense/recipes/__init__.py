"""The registry: every module here lists its `RECIPES`, and a name may change one.

`metric_at+fnes`, `ddid-meta`: a module switched on or off. `metric_at-eps10`, `metric_at-steps6`:
another inner attack; `metric_at+ramp`: one that grows. `ddid+ema`: averaged weights. Several may
follow each other.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ddid.attack import find_attack
from ddid.defense.fnes import FNES
from ddid.defense.meta import Craft, Meta
from ddid.defense.recipe import Recipe
from ddid.errors import require
from ddid.modules import modules_of

SWITCHES: dict[str, dict[str, Any]] = {
    "+fnes": {"fnes": FNES()},
    "-fnes": {"fnes": None},
    "+discriminator": {"discriminator": 0.1},  # our choice
    "-discriminator": {"discriminator": 0.0},
    "+meta": {"meta": Meta()},
    "-meta": {"meta": None},
    "+ramp": {"ramp": 0.3},  # our choice; a curriculum as of Cai et al. 2018, over eps
    "+ema": {"average": 0.05},  # our choice: after 300 steps it forgets one half in 15
}
GRAMMAR = f"followed by {', '.join(SWITCHES)}, -epsN or -stepsN"


def recipes() -> dict[str, Recipe]:
    """All recipes that have a name of their own, in the order of their modules' names."""
    found: dict[str, Recipe] = {}
    for module in modules_of(__name__):
        for recipe in module.RECIPES:
            require(
                recipe.name not in found,
                f"two recipes are called {recipe.name!r}, one in {module.__name__}",
            )
            found[recipe.name] = recipe
    return found


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, with the changes at its end, or InputError."""
    known = recipes()
    base, at, _ = name.partition("@")
    told = f"{name!r} is a variant of the notebooks: train {base!r} on what `ddid.balanced` returns"
    require(not at, told)
    owners = [own for own in known if name == own or name.startswith((f"{own}+", f"{own}-"))]
    base = max(owners, key=len, default=name)
    words = re.split(r"(?=[+-])", name.removeprefix(base))[1:]
    changes = [_change(word) for word in words]
    choices = f"choose one of {', '.join(known)}, {GRAMMAR}"
    require(base in known and all(changes), f"no recipe {name!r}: {choices}")
    recipe = replace(known[base], name=name)
    for word, change in zip(words, changes, strict=True):
        before, recipe = recipe, replace(recipe, **change)
        require(recipe != before, f"{name}: {word} changes nothing")
    return recipe


def _change(word: str) -> dict[str, Any]:
    """What a word at the end of a name sets; nothing if it is no change."""
    number = re.fullmatch(r"-(eps|steps)([1-9]\d*)", word)
    if not number:
        return SWITCHES.get(word, {})
    value = int(number[2])
    return {"eps": value / 255} if number[1] == "eps" else {"attack_steps": value}


def tuned(recipe: Recipe, fnes: FNES, meta: Meta, discriminator: float) -> Recipe:
    """The recipe with these settings for the modules it has on; half batches keep α = 0."""
    if recipe.meta and not recipe.meta.rate:
        meta = replace(meta, rate=0.0)
    given = {"fnes": fnes, "meta": meta, "discriminator": discriminator}
    on: dict[str, Any] = {name: value for name, value in given.items() if getattr(recipe, name)}
    return replace(recipe, **on)


def batch_attacks(names: Sequence[str]) -> tuple[Craft, ...]:
    """Attacks by name for a meta-test half: such as need no more than a batch."""
    found = [find_attack(name) for name in names]
    for entry in found:
        require(
            not entry.whole and entry.family != "gallery" and not entry.surrogate,
            f"self-meta learning cannot use the attack {entry.name!r}, which needs more than a "
            "batch: choose one such as fna, sma, ifgsm, mifgsm or color",
        )
    return tuple(entry.craft for entry in found)

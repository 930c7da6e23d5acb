"""TRADES on embeddings: stay put under attack, and learn identities from clean images only."""

from ddid.attack.objectives import sma
from ddid.defense.recipe import Batch, Card, Recipe, Terms, both, craft_with, identity_terms, unit
from ddid.model import Heads

CARD = Card(
    paper="Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy",
    idea="Clean loss plus beta times how far the attack moves the output.",
    ours="The output is the unit-length embedding and the attack SMA, for ReID has no classes to "
    "keep; beta keeps the paper's 6.",
)
BETA = 6.0


def trade_off(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """Clean identity terms and beta times the mean squared move in the cosine space."""
    clean, attacked = both(clean, attacked)
    move = (unit(clean) - unit(attacked)).square().sum(1).mean()
    return identity_terms(batch, clean, None) | {"move": BETA * move}


RECIPES = [Recipe("trades", CARD, craft_with(sma), trade_off)]

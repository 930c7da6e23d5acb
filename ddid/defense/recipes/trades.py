"""TRADES on embeddings: stay put under attack, and learn identities from clean images only."""

from ddid.attack.seen import sma
from ddid.defense.batch import Batch
from ddid.defense.losses import Terms, both, identity_terms, unit
from ddid.defense.recipe import Card, Recipe
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


RECIPES = [Recipe("trades", CARD, sma, trade_off)]

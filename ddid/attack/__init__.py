"""Attacks on a metric: one ascent loop, one budget, short objectives, a table of named attacks."""

from ddid.attack import standard, unseen  # entering their attacks into the table
from ddid.attack.suite import ATTACKS, craft, names

STANDARD = names("standard")
UNSEEN = names("unseen")

__all__ = ["ATTACKS", "STANDARD", "UNSEEN", "craft", "standard", "unseen"]

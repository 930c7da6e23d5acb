"""Attacks on a metric: one loop, one budget, short objectives, a registry asked when used."""

from ddid.attack.budget import Budget
from ddid.attack.registry import attack, attack_names, attacks, find_attack, require_family
from ddid.attack.scene import Scene

__all__ = ["Budget", "Scene", "attack", "attack_names", "attacks", "find_attack", "require_family"]

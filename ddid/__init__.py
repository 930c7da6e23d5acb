"""Debiased dual-invariant defence for adversarially robust person re-identification."""

__version__ = "0.1.0"

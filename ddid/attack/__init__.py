"""Attacks on a metric: one ascent loop, one budget, short objectives."""

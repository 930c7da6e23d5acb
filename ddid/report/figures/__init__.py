"""Figures a paper could print: tables in, matplotlib figures out."""

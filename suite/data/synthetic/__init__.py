"""Datasets rendered by a program, so that a demo runs without any real data.

Six sets in the official on-disk layouts. Their classes differ by small parts on one body plan per kind, as
fine-grained classes do; pose, colour, light and background vary inside every class and say nothing about it.
"""

from suite.data.synthetic.spec import SET_NAMES, Counts, SetName, SyntheticSpec
from suite.data.synthetic.write import MANIFEST, VERSION, write_synthetic

__all__ = ["MANIFEST", "SET_NAMES", "VERSION", "Counts", "SetName", "SyntheticSpec", "write_synthetic"]

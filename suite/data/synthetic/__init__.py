"""Datasets rendered by a program, so that a demo runs without any real data.

Six sets in the official on-disk layouts. Their classes differ by small parts on one body plan per kind, as
fine-grained classes do; pose, colour, light and background vary inside every class and say nothing about it.
"""

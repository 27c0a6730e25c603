"""The size of an image in a store."""

from __future__ import annotations


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with the short side reduced to `size`; a smaller image keeps its size."""
    short = min(height, width)
    if short <= size:
        return height, width
    return max(1, round(height * size / short)), max(1, round(width * size / short))

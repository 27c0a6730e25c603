"""Which parts make which class: classes chosen so that any two differ in several small parts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np

Parts: TypeAlias = Mapping[str, str]  # part name -> its form

MAX_CLASSES = 40


def classes(table: Mapping[str, tuple[str, ...]], count: int, skip: int = 0) -> list[dict[str, str]]:
    """`count` classes after the first `skip`; always the same ones, whatever the spec's seed.

    Two sets of one kind take different stretches of the list, so that they share parts but no class.
    """
    forms = tuple(table.items())
    chosen = _spread(tuple(len(options) for _, options in forms), skip + count)[skip:]
    return [{name: options[i] for (name, options), i in zip(forms, row, strict=True)} for row in chosen]


@lru_cache(maxsize=8)
def _spread(sizes: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Greedy farthest-point choice in Hamming distance; ties prefer forms used least, so no form gives a class away."""
    every = np.array(list(itertools.product(*map(range, sizes))), dtype=np.int64)
    order = np.random.default_rng(2024).permutation(len(every))
    every = every[order]
    picked = [0]
    nearest = (every != every[0]).sum(axis=1)
    used = [np.bincount(every[[0], part], minlength=size) for part, size in enumerate(sizes)]
    while len(picked) < count:
        crowding = sum(use[every[:, part]] / (len(picked) / len(use)) for part, use in enumerate(used))
        best = int(np.argmax(nearest - 0.2 * np.asarray(crowding)))
        picked.append(best)
        nearest = np.minimum(nearest, (every != every[best]).sum(axis=1))
        for part, use in enumerate(used):
            use[every[best, part]] += 1
    return [tuple(int(v) for v in every[i]) for i in picked]

"""Which parts make which class: distinct classes, each with a sibling that differs in two small parts only."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np

Parts: TypeAlias = Mapping[str, str]  # part name -> its form

MAX_CLASSES = 40
_SIBLING = 2  # parts in which siblings differ


def classes(table: Mapping[str, tuple[str, ...]], count: int, skip: int = 0) -> list[dict[str, str]]:
    """`count` classes after the first `skip`; always the same ones, whatever the spec's seed.

    Two sets of one kind take different stretches of the list, so that they share parts but no class.
    """
    forms = tuple(table.items())
    chosen = _choose(tuple(len(options) for _, options in forms), skip + count)[skip:]
    return [{name: options[i] for (name, options), i in zip(forms, row, strict=True)} for row in chosen]


@lru_cache(maxsize=8)
def _choose(sizes: tuple[int, ...], count: int) -> tuple[tuple[int, ...], ...]:
    """Greedy: every second class as far as possible (Hamming distance) from all before, the next its sibling.

    Ties prefer the forms used least, so that no single part gives a class away.
    """
    every = np.array(list(itertools.product(*map(range, sizes))), dtype=np.int64)
    every = np.random.default_rng(2024).permutation(every)
    used = [np.zeros(size) for size in sizes]
    picked: list[int] = []
    nearest = np.full(len(every), len(sizes))
    while len(picked) < count:
        crowding = np.sum([use[every[:, part]] * len(use) for part, use in enumerate(used)], axis=0)
        score = nearest - 0.2 * crowding / max(len(picked), 1)
        if len(picked) % 2:
            distance = (every != every[picked[-1]]).sum(axis=1)
            score = np.where((distance == _SIBLING) & (nearest == _SIBLING), score, -np.inf)
        best = int(np.argmax(score))
        picked.append(best)
        nearest = np.minimum(nearest, (every != every[best]).sum(axis=1))
        for part, use in enumerate(used):
            use[every[best, part]] += 1
    return tuple(tuple(int(v) for v in every[i]) for i in picked)

"""`map` over all cores in threads: Pillow releases the interpreter's lock while it decodes and resizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from suite.cores import cores

_T = TypeVar("_T")
_R = TypeVar("_R")


def parallel(function: Callable[[_T], _R], items: Iterable[_T], threads: int | None = None) -> Iterator[_R]:
    """`map` in order, with at most four results per thread in memory. Raises what `function` raises.

    Args:
        function: called in several threads at once.
        items: its arguments; not read further ahead than results are kept.
        threads: one per core where None.
    """
    workers = cores() if threads is None else max(1, threads)
    iterator = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(function, item) for item in islice(iterator, 4 * workers)]
        try:
            while pending:
                yield pending.pop(0).result()
                pending += [pool.submit(function, item) for item in islice(iterator, 1)]
        finally:
            for future in pending:
                future.cancel()

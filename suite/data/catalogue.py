"""The datasets by name. Each describes itself in its own module, in a `DatasetInfo`; here it is one line.

To add a dataset: write its module with a `parse` function and a `DatasetInfo`, and add the line. A plugin adds one at
run time (`suite.plugin.register_dataset`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """The description of a dataset, before the disk is read. Counts are those of the official release."""

    name: str
    label: str  # as printed in the paper's tables
    folders: tuple[str, ...]  # looked for under the data root, in this order
    markers: tuple[str, ...]  # files or folders of which one at least is in the dataset's folder
    parse: Callable[[Path], Any]  # folder -> suite.data.record.Dataset, lists checked and no image opened
    train: int
    test: int
    classes: int
    licence: str
    source: str  # where a user gets it
    subset_lists: Callable[[Any, Path], None] | None = None  # (Dataset, folder): write the lists of a subset
    added: bool = False  # by a plugin, whose `parse` may change
    depicts: str = "images"  # what `suite data synth` renders in its layout

    @property
    def labelled(self) -> bool:
        """Whether the suite uses class labels of this dataset (it does not for first-stage sets)."""
        return self.classes > 0

    def heading(self, synthetic: bool) -> str:
        """The label, or for synthetic data one that cannot be taken for results on the photographs."""
        return f"Synthetic {self.depicts} ({self.label} layout)" if synthetic else self.label


class Registry(MutableMapping[str, DatasetInfo]):
    """Dataset name -> description. A module, given as `module:variable`, is imported when it is first asked for."""

    def __init__(self, places: dict[str, str]) -> None:
        self._entries: dict[str, DatasetInfo | str] = {**places}

    def __getitem__(self, name: str) -> DatasetInfo:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, variable = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), variable)
        return entry

    def __setitem__(self, name: str, info: DatasetInfo) -> None:
        self._entries[name] = info

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


DATASETS = Registry(
    {
        "cub": "suite.data.datasets.cub:INFO",
        "nabirds": "suite.data.datasets.nabirds:INFO",
        "aircraft": "suite.data.datasets.aircraft:INFO",
        "cars": "suite.data.datasets.cars:INFO",
        "coco": "suite.data.datasets.unlabelled:COCO",
        "imagenet": "suite.data.datasets.unlabelled:IMAGENET",
    }
)


def names_of_datasets() -> str:
    """`cub, nabirds, ... or imagenet`, for help texts."""
    *names, last = DATASETS
    return f"{', '.join(names)} or {last}"

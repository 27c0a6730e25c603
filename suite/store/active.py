"""Runs that are going on over a store, for `suite status` and `suite cancel`: `<runs>/active/<id>/`.

run.json     what it was asked for
claim.json   where it runs, with a sign of life every few seconds (suite/store/claim.py)
phase        the work before training, such as saliency maps
cancel       there once somebody asked it to stop
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from suite.atomic import write_json, write_text
from suite.store.claim import Claim, Holder, held, read_holder


@dataclass(frozen=True)
class Active:
    """A run that goes on, seen from outside."""

    folder: Path
    holder: Holder
    facts: dict[str, Any]

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody asked."""
        return (self.folder / "cancel").exists()

    @property
    def alive(self) -> bool:
        """Whether it still goes on."""
        return held(self.folder)

    @property
    def phase(self) -> str:
        """The work before training, such as ``preparing: saliency cub train, 120 of 5,994``; empty during training."""
        try:
            return (self.folder / "phase").read_text("utf-8")
        except OSError:
            return ""

    def ask_to_stop(self) -> None:
        """As the first Ctrl-C: it saves its running jobs and leaves."""
        write_text(self.folder / "cancel", "")


class Presence:
    """This run's own entry, while it goes on; a context manager."""

    def __init__(self, root: Path, **facts: Any) -> None:
        self.folder = root / "active" / uuid.uuid4().hex[:12]
        self._facts = {"started": time.time(), **facts}

    def __enter__(self) -> Presence:
        clear_dead(self.folder.parent.parent)
        write_json(self.folder / "run.json", self._facts)
        self._claim = Claim(self.folder).acquire()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._claim.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def asked_to_stop(self) -> bool:
        """Whether somebody asked this run to stop."""
        return (self.folder / "cancel").exists()

    def note(self, phase: str) -> None:
        """Tell other processes what the run does before training; an empty text: it trains."""
        write_text(self.folder / "phase", phase)


def active_runs(root: Path) -> list[Active]:
    """Runs that go on over the store `root`, the oldest first."""
    found = []
    for folder in (root / "active").glob("*"):
        holder = read_holder(folder / "claim.json")
        if holder is not None and held(folder):
            with suppress(OSError, ValueError):  # it has just ended, or its file is damaged
                found.append(Active(folder, holder, json.loads((folder / "run.json").read_text("utf-8"))))
    return sorted(found, key=lambda run: float(run.facts["started"]))


def clear_dead(root: Path) -> None:
    """Remove what killed runs left. One that has only just begun has no claim yet: it is left alone for a while."""
    for folder in (root / "active").glob("*"):
        with suppress(FileNotFoundError):  # another run clears at the same time
            if not held(folder) and time.time() - folder.stat().st_mtime > 60:
                shutil.rmtree(folder, ignore_errors=True)

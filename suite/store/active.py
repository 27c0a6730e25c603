"""Active runs of a store, for `suite status` and `suite cancel`: `<runs>/active/<id>/`.

run.json     the grid, the profile and the jobs of the run
claim.json   host and process, touched every few seconds (suite/store/claim.py)
phase        the work before training, such as saliency maps
cancel       exists once a user has asked the run to stop
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
from suite.locks import ClaimOwner, read_owner
from suite.store.claim import Claim, is_claimed

POLL_SECONDS = 1.0  # between two looks at a request to stop, or at a job that another process works on


@dataclass(frozen=True)
class ObservedRun:
    """An active run, as another process sees it."""

    folder: Path
    owner: ClaimOwner
    facts: dict[str, Any]

    @property
    def asked_to_stop(self) -> bool:
        """Whether a user has asked the run to stop."""
        return (self.folder / "cancel").exists()

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return is_claimed(self.folder)

    @property
    def phase(self) -> str:
        """The work before training, such as ``preparing: saliency cub train, 120 of 5,994``; empty during training."""
        try:
            return (self.folder / "phase").read_text("utf-8")
        except OSError:
            return ""

    def ask_to_stop(self) -> None:
        """Ask the run to save its running jobs and to end, as the first Ctrl-C does."""
        write_text(self.folder / "cancel", "")


class ActiveRun:
    """The entry of this process's run while it is active; a context manager."""

    def __init__(self, root: Path, **facts: Any) -> None:
        self.folder = root / "active" / uuid.uuid4().hex[:12]
        self._facts = {"started": time.time(), **facts}

    def __enter__(self) -> ActiveRun:
        clear_dead(self.folder.parent.parent)
        write_json(self.folder / "run.json", self._facts)
        self._claim = Claim(self.folder).acquire()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._claim.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def asked_to_stop(self) -> bool:
        """Whether a user has asked this run to stop."""
        return (self.folder / "cancel").exists()

    def note(self, phase: str) -> None:
        """Tell other processes what the run does before training; an empty text: it trains."""
        write_text(self.folder / "phase", phase)


def active_runs(root: Path) -> list[ObservedRun]:
    """Active runs of the store `root`, the oldest first."""
    runs = []
    for folder in (root / "active").glob("*"):
        owner = read_owner(folder / "claim.json")
        if owner is not None and is_claimed(folder):
            with suppress(OSError, ValueError):  # it has just ended, or its file is damaged
                runs.append(ObservedRun(folder, owner, json.loads((folder / "run.json").read_text("utf-8"))))
    return sorted(runs, key=lambda run: float(run.facts["started"]))


def clear_dead(root: Path) -> None:
    """Remove the entries of killed runs. A run that has just begun has no claim yet: recent entries stay."""
    for folder in (root / "active").glob("*"):
        with suppress(FileNotFoundError):  # another run clears at the same time
            if not is_claimed(folder) and time.time() - folder.stat().st_mtime > 60:
                shutil.rmtree(folder, ignore_errors=True)

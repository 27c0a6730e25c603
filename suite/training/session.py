"""Context of a running job: its folder, device, checkpoints and reports."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from methods.backbone import Backbone
from methods.distributed import broadcast
from suite.atomic import append_line, write_text
from suite.training.checkpoint import load_state, save_state
from suite.training.feed import Loading

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was asked to stop; the job's state is saved."""


@dataclass
class Session:
    """Folder, device and callbacks of a job.

    Every rank that trains the job has one. Rank 0 decides when to save and to stop, and only rank 0 writes and reports;
    the training state is the same in all ranks.
    """

    folder: Path
    fabric: Fabric
    checkpoint_minutes: float = 5.0
    should_stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, float]], None] = lambda _: None
    watch: Callable[[Backbone, int], dict[str, float]] = lambda *_: {}  # measured after an epoch; changes nothing
    loading: Loading = Loading(0)  # noqa: RUF009 - frozen  # background loaders
    seconds_before: float = 0.0  # spent by earlier attempts
    _started: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def leads(self) -> bool:
        """Whether this is process 0, or the only one."""
        return self.fabric.is_global_zero

    @property
    def seconds(self) -> float:
        """Wall-clock time of this job, earlier attempts included."""
        return self.seconds_before + time.monotonic() - self._started

    @property
    def _state_file(self) -> Path:
        return self.folder / "checkpoint" / "state.pt"

    @property
    def _curve(self) -> Path:
        return self.folder / "metrics.jsonl"

    def resume(self) -> dict[str, Any] | None:
        """The state an earlier attempt left, on however many devices, its metrics cut back to that point; None for a
        fresh start."""
        return self.fabric.broadcast(self._resume() if self.leads else None)

    def _resume(self) -> dict[str, Any] | None:
        state = load_state(self._state_file)
        # Not cut back but written anew: whatever became of the file meanwhile, the curve is that of the state.
        write_text(self._curve, "" if state is None else state["curve"])
        if state is not None:
            self.seconds_before = float(state["seconds"])
            log.info("resuming at step %d", state["step"])
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the training state; torch's random state, the loss scale and the metrics up to here are put in."""
        random = {"torch_rng": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            random["cuda_rng"] = torch.cuda.get_rng_state(self.fabric.device)
        curve = self._curve.read_text("utf-8") if self._curve.is_file() else ""
        save_state(self._state_file, {**state, **random, **self._shared_state(), "curve": curve})
        self._saved = time.monotonic()

    def _shared_state(self) -> dict[str, Any]:
        """What depends on no loop: time spent, and under 16-mixed precision the factor that scales the loss."""
        return {"seconds": self.seconds, "precision": self.fabric.strategy.precision.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `save` added: torch's random state (dropout and shuffle-BN use it) and the loss scale."""
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["torch_rng"])
        if "cuda_rng" in state and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.fabric.device)

    def due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved > 60 * self.checkpoint_minutes

    def checkpoint_if_asked(self, state: Callable[[], dict[str, Any]]) -> None:
        """After each step: save if a checkpoint is due; save and raise `Interrupted` if the run was asked to stop."""
        stop = bool(broadcast(torch.tensor(self.leads and self.should_stop())))
        if self.leads and (stop or self.due()):
            self.save(state())
        if stop:
            raise Interrupted

    def raise_if_stopped(self) -> None:
        """Between batches of a measurement, which has no state to save: raise `Interrupted` if asked to stop."""
        if self.should_stop():
            raise Interrupted

    def last_metrics(self) -> dict[str, float]:
        """The last epoch's line of the curve; empty if there is none."""
        lines = self._curve.read_text("utf-8").splitlines() if self._curve.is_file() else []
        line: dict[str, float] = json.loads(lines[-1]) if lines else {}
        return line

    def write_metrics(self, line: dict[str, float]) -> None:
        """Append one epoch's metrics and pass them on."""
        if not self.leads:
            return
        append_line(self._curve, json.dumps(line, allow_nan=False))
        self.report(line)

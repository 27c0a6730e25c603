"""What both training loops are handed and how they report: one object per running job."""

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
from torch import Tensor

from methods.backbone import Backbone
from methods.distributed import broadcast
from suite.atomic import append_line, write_text
from suite.errors import TrainingError
from suite.training.checkpoint import load_state, save_state

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was asked to stop; the job's state is saved."""


@dataclass
class Session:
    """A job's folder, its device, and the way to the outside.

    Of several processes that train a job together each has one. Process 0 decides when to save and to stop, and alone
    writes and reports; the state it writes is the same in all of them.
    """

    folder: Path
    fabric: Fabric
    checkpoint_minutes: float = 5.0
    should_stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, float]], None] = lambda _: None
    watch: Callable[[Backbone, int], dict[str, float]] = lambda *_: {}  # measured after an epoch; changes nothing
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
        """Put back what `save` put in: torch's generators, of which dropout and shuffled keys draw, and the scale."""
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["torch_rng"])
        if "cuda_rng" in state and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.fabric.device)

    def due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved > 60 * self.checkpoint_minutes

    def checkpoint_if_asked(self, state: Callable[[], dict[str, Any]]) -> None:
        """After each step: save when due; save and leave when the run is to stop."""
        stop = bool(broadcast(torch.tensor(self.leads and self.should_stop())))
        if self.leads and (stop or self.due()):
            self.save(state())
        if stop:
            raise Interrupted

    def write_metrics(self, line: dict[str, float]) -> None:
        """Append one epoch's metrics and pass them on."""
        if not self.leads:
            return
        append_line(self._curve, json.dumps(line, allow_nan=False))
        self.report(line)


class Means:
    """Running means of an epoch's scalars, kept on the device so that no step waits for it; part of the state."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Add one step's values."""
        self._count += 1
        for name, scalar in scalars.items():
            value = scalar.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def take(self) -> dict[str, float]:
        """The means since the last call; starts anew."""
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"sums": dict(self._sums), "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Back from the checkpoint."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])


def check_finite(loss: Tensor, step: int, lr: float) -> None:
    """Stop a job whose loss is NaN or infinite, saying what to try."""
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"the loss became {loss.item()} at step {step} (learning rate {lr:.4g}). Lower the learning rate "
            "(--set pretrain.optimizer.base_lr=... or finetune.optimizer.base_lr=...) or lengthen the warm-up."
        )

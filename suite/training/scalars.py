"""Scalars of a training loop that stay on the device: running means, the check for a finite loss, the loss scale."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from suite.errors import TrainingError

_SKIPPED_LIMIT = 0.1  # share of skipped steps in the last epoch above which a result is suspicious


class RunningMeans:
    """Means over an epoch of each scalar. The sums stay on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Add the scalars of one step."""
        self._count += 1
        for name, scalar in scalars.items():
            value = scalar.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def take(self) -> dict[str, float]:
        """The means since the last call, which are reset. Waits for the device."""
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"sums": dict(self._sums), "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])


class LossCheck:
    """Stops a job whose loss becomes NaN or infinite, without waiting for the device within the step.

    The loss of a step is copied to the CPU asynchronously and read during the next step. `flush` reads the last one: it
    has to be called before anything that depends on the step is written.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, torch.cuda.Event | None, int, float] | None = None

    def add(self, loss: Tensor, step: int, lr: float) -> None:
        """Check the step before, and remember this one.

        Raises:
            TrainingError: the loss of the step before was not finite; names that step.
        """
        self.flush()
        loss = loss.detach()
        if loss.device.type != "cuda":
            self._pending = (loss, None, step, lr)
            return
        copied = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
        copied.copy_(loss, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(loss.device))
        self._pending = (copied, event, step, lr)

    def flush(self) -> None:
        """Check the last step that was added; waits for it.

        Raises:
            TrainingError: its loss was not finite.
        """
        if self._pending is None:
            return
        (loss, event, step, lr), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss became {loss.item()} at step {step} (learning rate {lr:.4g}). Lower the learning rate "
                "(--set pretrain.optimizer.base_lr=..., finetune.optimizer.base_lr=... or linear_sgd.lr=...) or "
                "lengthen the warm-up."
            )


class LossScale:
    """Under 16-mixed precision: the loss scale, and which steps the gradient scaler skipped. Else all is empty.

    A scaler that finds infinite gradients in every step trains nothing, while the loss stays finite.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)
        self._before: Tensor | None = None

    def before_step(self) -> None:
        """To be called before the optimiser's step."""
        scale = getattr(self._scaler, "_scale", None)
        self._before = None if scale is None else scale.clone()

    def after_step(self) -> dict[str, Tensor]:
        """{"skipped_steps": 1 or 0}, on the device: the scale falls exactly where a step was skipped."""
        scale = getattr(self._scaler, "_scale", None)
        if scale is None:
            return {}
        # The scale exists only from the first scaled loss on, which comes before the first step.
        before = scale if self._before is None else self._before
        return {"skipped_steps": (scale < before).double()[()]}

    def value(self) -> dict[str, float]:
        """{"loss_scale": the present scale}. Waits for the device."""
        return {} if self._scaler is None else {"loss_scale": float(self._scaler.get_scale())}

    @staticmethod
    def doubts(line: dict[str, float]) -> list[str]:
        """Reasons to call a result suspicious, from the last epoch's means."""
        share = line.get("skipped_steps", 0.0)
        if share <= _SKIPPED_LIMIT:
            return []
        return [f"{100 * share:.0f} % of the last epoch's steps were skipped: gradients overflow in 16-mixed precision"]


class StepScalars:
    """Everything a training loop does with the scalars of its steps: check, average, log."""

    def __init__(self, fabric: Fabric) -> None:
        self._means, self._losses, self._scale = RunningMeans(), LossCheck(), LossScale(fabric)

    def before_step(self, scalars: dict[str, Tensor], step: int, lr: float) -> None:
        """Between the backward pass and the optimiser's step. Raises `TrainingError` as `LossCheck.add`."""
        self._losses.add(scalars["loss"], step, lr)
        self._scale.before_step()

    def after_step(self, scalars: dict[str, Tensor]) -> None:
        """After the optimiser's step."""
        self._means.add({**scalars, **self._scale.after_step()})

    def check(self) -> None:
        """To be called before weights are written. Raises `TrainingError` where the last loss was not finite."""
        self._losses.flush()

    def take(self) -> dict[str, float]:
        """The epoch's means and the loss scale. Raises as `check`."""
        self.check()
        return {**self._means.take(), **self._scale.value()}

    def doubts(self, line: dict[str, float]) -> list[str]:
        """Reasons to call the result suspicious, from the last epoch's `take`."""
        return self._scale.doubts(line)

    def state(self) -> dict[str, Any]:
        """Of the means, for the checkpoint. Raises as `check`: no checkpoint after a loss that is not finite."""
        self.check()
        return self._means.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self._means.restore(state)

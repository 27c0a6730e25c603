"""Which errors leave a process useless, and what is said about missing memory."""

from __future__ import annotations

import pytest
import torch

from suite.execute.device_errors import breaks_process, explained
from suite.jobs.identity import JobSpec
from suite.kinds.registry import parse_spec

MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB")


def finetuning(precision: str = "32-true") -> JobSpec:
    optimizer = {"name": "sgd", "base_lr": 0.1, "weight_decay": 0}
    train = {
        "epochs": 5, "batch_size": 48, "optimizer": optimizer, "crop_scale": 0.5, "eval_resize": 1,
        "precision": precision,
    }  # fmt: skip
    return parse_spec({"kind": "finetune", **shared(), "train": train})


def shared() -> dict[str, object]:
    return {
        "data": {"name": "cub", "fingerprint": "f", "store_size": 72}, "image_size": 64, "seed": 0, "init": None,
        "backbone": {"arch": "resnet10"},
    }  # fmt: skip


def wrapped(error: Exception) -> Exception:
    """An error that was raised from another."""
    try:
        try:
            raise error
        except Exception as cause:
            raise ValueError("a step failed") from cause
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "breaks"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (wrapped(RuntimeError("CUDA error: uncorrectable ECC error encountered")), True),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), True)
        if hasattr(torch, "AcceleratorError")
        else (RuntimeError("CUDA error"), True),
        (RuntimeError("CUDA error: out of memory"), False),
        (MEMORY, False),
        (wrapped(MEMORY), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_errors_that_break_the_process(error: Exception, breaks: bool) -> None:
    assert breaks_process(error) is breaks


def test_missing_memory_names_the_batch_and_what_helps() -> None:
    text = explained(MEMORY, finetuning())
    for needed in (
        "out of GPU memory", "batch is 48 images at 32-true", "--devices N", "--workers",
        "--set finetune.precision=16-mixed", "--set finetune.batch_size=24", "Tried to allocate 2.00 GiB",
    ):  # fmt: skip
        assert needed in text
    assert "precision=" not in explained(MEMORY, finetuning("bf16-mixed"))
    probe = parse_spec({"kind": "probe", **shared(), "probe": {"eval_resize": 1, "knn": None, "linear": None}})
    assert "batch_size" not in explained(MEMORY, probe)
    assert "probe job" in explained(MEMORY, probe)


def test_other_errors_keep_their_text() -> None:
    assert explained(ValueError("plain"), finetuning()) == "plain"

"""Errors of the device: which ones leave a process unable to run another job, and what to do about missing memory."""

from __future__ import annotations

from suite.jobs.identity import JobSpec
from suite.kinds.registry import TrainingSpec

_STICKY = ("CUDA error", "device-side assert", "CUBLAS_STATUS", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")


def breaks_process(error: BaseException) -> bool:
    """Whether every later CUDA call of this process would fail too, as after an illegal memory access, a device-side
    assert or an ECC error. Running out of memory does not; an error that another one was raised from counts as well."""
    import torch

    while True:
        if isinstance(error, torch.OutOfMemoryError):
            return False
        accelerator_error = getattr(torch, "AcceleratorError", None)  # since torch 2.8
        if accelerator_error is not None and isinstance(error, accelerator_error):
            return "out of memory" not in str(error)
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _STICKY):
            return "out of memory" not in str(error)
        cause = error.__cause__ or error.__context__
        if cause is None:
            return False
        error = cause


def explained(error: BaseException, spec: JobSpec) -> str:
    """The error's text; for missing GPU memory, with the batch, the memory and the remedies.

    Args:
        error: raised by the job's loop.
        spec: of the job.
    """
    import torch

    text = str(error)
    if not isinstance(error, torch.OutOfMemoryError):
        return text
    return f"{_memory()}{_batch(spec)} {text.partition(chr(10))[0].partition('. GPU')[0].rstrip('.')}."


def _memory() -> str:
    import torch

    if not torch.cuda.is_available():
        return "out of GPU memory."
    free, total = torch.cuda.mem_get_info()
    held = torch.cuda.max_memory_allocated()
    return (
        f"out of GPU memory on {torch.cuda.get_device_name()}: {total / 2**30:.1f} GiB in all, at most "
        f"{held / 2**30:.1f} GiB of it used by this job, {free / 2**30:.1f} GiB free now."
    )


def _batch(spec: JobSpec) -> str:
    if not isinstance(spec, TrainingSpec):
        return (
            f" A {spec.kind} job measures in batches of a fixed size; use a GPU with more free memory, or fewer "
            "--workers, so that jobs do not share a GPU."
        )
    train, section = spec.train, spec.kind
    remedies = [
        "fewer --workers, where several jobs share a GPU",
        f"--devices N, which splits each batch over N GPUs and changes no job ({train.batch_size} must be a multiple "
        "of N)",
    ]
    if train.precision == "32-true":
        remedies.append(f"--set {section}.precision=16-mixed or bf16-mixed (another recipe, hence other jobs)")
    remedies.append(
        f"--set {section}.batch_size={max(1, train.batch_size // 2)} (another recipe: the learning rate scales with "
        "the batch, contrastive losses see fewer negatives, and the numbers no longer compare with the paper's)"
    )
    return f" The batch is {train.batch_size} images at {train.precision} precision. Remedies: {'; '.join(remedies)}."

"""Memory of the GPU that a process no longer uses."""

from __future__ import annotations

import contextlib
import gc
import sys


def release_device_memory(page_locked: bool = False) -> None:
    """Give back the GPU memory that nothing uses any more, for another network or another process.

    Loads no torch, and does nothing where CUDA was not used.

    Args:
        page_locked: give back the page-locked memory of the loaders too, which is slow to get.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    gc.collect()
    with contextlib.suppress(RuntimeError):  # a broken CUDA context; the process retires
        torch.cuda.empty_cache()
        if page_locked and (empty := getattr(torch._C, "_host_emptyCache", None)):  # torch has no public function
            empty()

"""The environment of a process, made safe once at the entry point: inherited settings that would break the commands,
their worker processes or their output are replaced here. Child processes inherit the result."""

from __future__ import annotations

import os
import sys
import warnings

from suite.output import protect_streams

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def secure_process() -> None:
    """Prepare this process and, through its environment, all its children.

    MPLBACKEND: notebooks name a backend that this environment may lack; figures are only written to files.
    PYTHONSAFEPATH: a `types.py` in the current folder must not replace Python's module in a worker process.
    PYTHONWARNINGS=error: a deprecation in a library must not end a run.
    OMP_NUM_THREADS and the like: values that are no number of threads are removed, with a line that says so.
    """
    protect_streams()
    os.environ["MPLBACKEND"] = "agg"
    os.environ["PYTHONSAFEPATH"] = "1"
    _warnings_are_no_errors()
    for name in _THREADS:
        if name in os.environ and not valid_thread_count(os.environ[name]):
            print(f"{name}='{os.environ.pop(name)}' is not a number of threads; it is ignored.", file=sys.stderr)


def valid_thread_count(text: str) -> bool:
    """Whether `text` is what OpenMP accepts: a positive whole number, or several with commas, one per nesting level.

    >>> valid_thread_count("4"), valid_thread_count("4,2"), valid_thread_count("all")
    (True, True, False)
    """
    return all(part.strip().isdecimal() and int(part) > 0 for part in text.split(","))


def _warnings_are_no_errors() -> None:
    options = [option for option in sys.warnoptions if option.partition(":")[0] != "error"]
    if len(options) == len(sys.warnoptions):
        return
    sys.warnoptions[:] = options  # multiprocessing hands them to its children as -W
    os.environ["PYTHONWARNINGS"] = ",".join(options)
    warnings.filters[:] = [entry for entry in warnings.filters if entry[0] != "error"]  # type: ignore[index]

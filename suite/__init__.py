"""The harness: a grid file becomes cells, cells a graph of jobs, jobs results, results tables and figures.

From Python (docs/python.md): `suite.load_grid`, `suite.plan`, `suite.run`, `suite.evaluate`, `suite.results`,
`suite.load_backbone`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.api import evaluate, load_backbone, load_grid, plan, results, run

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load_backbone", "load_grid", "plan", "results", "run"]


def __getattr__(name: str) -> Any:
    """Load the Python interface at its first use, so that `suite --help` need not."""
    if name in __all__:
        return getattr(import_module("suite.api"), name)
    raise AttributeError(f"module 'suite' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__

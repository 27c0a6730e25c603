"""LaTeX for other programs to import: text and tables. The code is in analysis/tables."""

from __future__ import annotations

from analysis.tables.latex import to_latex
from analysis.tables.latex_text import Latex, escape, unprintable

__all__ = ["Latex", "escape", "to_latex", "unprintable"]

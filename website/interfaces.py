"""The Python references, for mkdocstrings: what is listed follows the registries."""

from __future__ import annotations

import suite
from methods.registry import ALIGNMENT, OBJECTIVES, VIEWS, ComponentEntry


def python_reference() -> str:
    """Markdown: the functions of the package `suite`, and their errors."""
    short = "    options: {show_root_full_path: false}"
    functions = "\n\n".join(f"::: suite.api.{name}\n{short}" for name in suite.__all__ if not name.startswith("_"))
    return f"""# Python interface

The functions of the package `suite`, and what they take. Examples: [Python](../python.md).

{functions}

::: suite.api.Selectors

::: suite.planning.plan.Plan

::: suite.execute.run.RunOutcome

::: suite.errors
"""


def extension_reference() -> str:
    """Markdown: the interfaces that a plugin or an engine implements."""
    return """# Interfaces for plugins and engines

Examples: [adding things](../adding.md).

::: suite.plugin

::: methods.objective.Objective

::: methods.views.base.ViewMaker

::: methods.views.batch

::: methods.backbones.base

::: suite.kinds.base

::: suite.execute.engine
"""


def methods_reference() -> str:
    """Markdown: every objective and view with its settings, and the alignment."""
    sections = ["# Objectives and views", "", "Which rows use them: [methods](../methods.md)."]
    for title, registry in (("Objectives", OBJECTIVES), ("Views", VIEWS), ("Alignment", {"alignment": ALIGNMENT})):
        sections += ["", f"## {title}"]
        for name, entry in registry.items():
            sections += _block(name, entry)
    return "\n".join(sections)


def _block(name: str, entry: ComponentEntry) -> list[str]:
    code, settings = entry.code.replace(":", "."), f"{entry.args.__module__}.{entry.args.__name__}"
    return ["", f"### {name}", "", f"::: {code}", "", f"::: {settings}"]

"""A build hook of Hatchling: building a wheel says that the project is meant to be installed from a checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NOTICE = (
    "fgssl-suite is meant to be installed from a checkout (make, or pip install -e .). This wheel installs the "
    "top-level packages suite, methods, analysis and experiments, whose names other projects use too: it may "
    "overwrite theirs. Install it into an environment of its own, and do not upload it to a package index."
)


class CheckoutNotice(BuildHookInterface):  # type: ignore[type-arg]
    """Warns while a wheel is built. Editable installs, which copy nothing, are silent."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by Hatchling before a wheel of a version, `standard` or `editable`, is built."""
        if version != "editable":
            self.app.display_warning(NOTICE)

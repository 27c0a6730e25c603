"""A published checkpoint in place of a first stage."""

from __future__ import annotations

from typing import Literal

from pydantic import SerializeAsAny

from methods.args import BackboneArgs
from suite.jobs.identity import JobSpec
from suite.kinds.base import JobKind, Size, parameters

IMPORT_VERSION = 1


class ImportSpec(JobSpec):
    """A backbone out of a checkpoint that others trained, in place of a first stage."""

    kind: Literal["import"] = "import"
    version: int = IMPORT_VERSION
    sha256: str  # of the file; neither its place nor its name matters
    backbone: SerializeAsAny[BackboneArgs]


class Import(JobKind[ImportSpec]):
    """Taking a backbone out of a checkpoint. No loop: `suite run` does it before other jobs start."""

    name = "import"
    spec = ImportSpec
    loop = ""

    def images(self, spec: ImportSpec, size: Size) -> int:
        """None."""
        return 0

    def macs(self, spec: ImportSpec) -> float:
        """None."""
        return 0.0

    def weights(self, spec: ImportSpec, size: Size) -> int:
        """The backbone."""
        return parameters(spec.backbone)

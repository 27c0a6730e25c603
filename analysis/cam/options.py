"""What `suite report` may be asked about its class activation maps. Light: it is read before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from methods.measures.cam_kinds import CAM_KINDS
from suite.errors import unknown

COLOUR_MAPS = ("viridis", "jet")  # jet only because older papers use it: its brightness is not monotonic


@dataclass(frozen=True, slots=True)
class CamOptions:
    """Which maps, of which test images, in which colours."""

    kinds: tuple[str, ...] = ("gradcam",)
    count: int = 5  # images per figure
    files: tuple[str, ...] = ()  # names of test images, instead of drawn ones in the datasets that have them
    seed: int = 0  # draws the images
    colours: str = "viridis"

    def __post_init__(self) -> None:
        """Raise UsageError, with the nearest match, for a kind or a colour map that does not exist."""
        for kind in self.kinds:
            if kind not in CAM_KINDS:
                raise unknown("CAM", kind, CAM_KINDS)
        if self.colours not in COLOUR_MAPS:
            raise unknown("colour map", self.colours, COLOUR_MAPS)


def file_name(kind: str) -> str:
    """The kind as a part of a file name."""
    return kind.replace("+", "p")

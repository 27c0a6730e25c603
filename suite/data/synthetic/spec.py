"""Size of the synthetic datasets: classes and images of each set."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from suite.data.synthetic.parts import MAX_CLASSES

SetName = Literal["cub", "nabirds", "aircraft", "cars", "coco", "imagenet"]
SET_NAMES: tuple[SetName, ...] = get_args(SetName)


class Counts(BaseModel):
    """Size of one labelled set; train and test are images per class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: int = Field(ge=2, le=MAX_CLASSES)
    train: int = Field(ge=2)
    test: int = Field(ge=1)


class SyntheticSpec(BaseModel):
    """Everything the rendered files depend on: the same spec gives the same bytes with the same library versions.

    The defaults are the demo's: small enough to render in seconds, large enough that a small network trained from
    scratch learns the parts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, description="changes every picture; the classes stay the same")
    short_side: int = Field(72, ge=32, le=512, description="pixels, without Aircraft's banner")
    sets: tuple[SetName, ...] = Field(SET_NAMES, min_length=1, description="catalogue names of the sets to write")
    cub: Counts = Counts(classes=14, train=40, test=15)
    nabirds: Counts = Counts(classes=20, train=45, test=15)
    aircraft: Counts = Counts(classes=12, train=40, test=15)
    cars: Counts = Counts(classes=12, train=40, test=15)
    coco: int = Field(300, ge=1, description="unlabelled scenes of two to four bodies")
    imagenet: int = Field(300, ge=1, description="unlabelled pictures of one body each, of all kinds")

"""Profiles hold the numbers; a recipe is what one cell gets of them, with the origin of every value."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from methods.args import AlignmentArgs, Args, BackboneArgs
from methods.registry import OBJECTIVES, VIEWS, Entry
from suite.data.synthetic.spec import SyntheticSpec
from suite.errors import UsageError, unknown
from suite.grid.spec import EXPERIMENTS, Row
from suite.grid.validate import validated

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]

_MEASURED_WITH_MAPS = ("localisation", "background")  # sections that read saliency maps, whatever a row's views read


class Section(BaseModel):
    """A part of a recipe: immutable, an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimizerArgs(Section):
    """Optimiser of one stage."""

    name: Literal["sgd", "lars"]
    base_lr: float = Field(gt=0, description="at `reference_batch` images; scaled linearly with the batch size")
    reference_batch: int = Field(256, ge=1, description="Goyal et al. 2017, arXiv:1706.02677")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(ge=0)
    eta: float = Field(0.001, gt=0, description="LARS's trust coefficient (arXiv:1708.03888)")


class StageArgs(Section):
    """Length and optimisation of one stage. Learning rate: linear warm-up, then half a cosine to 0, per step."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2, description="of the optimiser step, over all devices")
    warmup_epochs: float = Field(0, ge=0)
    optimizer: OptimizerArgs
    precision: Precision = "32-true"


class PretrainArgs(StageArgs):
    """Self-supervised pretraining."""

    collapse_std: float = Field(ge=0, description="final embedding_std below which the result is marked suspicious")


class FinetuneArgs(StageArgs):
    """Supervised fine-tuning of the whole network with a fresh classifier."""

    crop_scale: float = Field(gt=0, le=1, description="smallest area of a training crop")
    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")
    lr_candidates: tuple[float, ...] = Field(
        (), description="base learning rates to choose from on a held-out part of the training split; none: base_lr"
    )
    held_out: float = Field(0.2, gt=0, lt=1, description="share of every class of the training split to choose on")

    @model_validator(mode="after")
    def _distinct(self) -> FinetuneArgs:
        if len(self.lr_candidates) == 1 or len(set(self.lr_candidates)) < len(self.lr_candidates):
            raise ValueError(
                f"expected lr_candidates to be none or several different rates, found {self.lr_candidates}"
            )
        if any(rate <= 0 for rate in self.lr_candidates):
            raise ValueError(f"expected lr_candidates above 0, found {self.lr_candidates}")
        return self


class KnnArgs(Section):
    """Weighted nearest neighbours on frozen features (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

    k: int = Field(ge=1, description="neighbours")
    temperature: float = Field(gt=0, description="T of the weight exp(cosine / T)")


class LinearArgs(Section):
    """Multinomial logistic regression on frozen features (Kornblith et al. 2019, arXiv:1805.08974, and SimCLR,
    arXiv:2002.05709, appendix B.8.1)."""

    weakest: float = Field(gt=0, description="L2 penalty to try")
    strongest: float = Field(gt=0, description="L2 penalty to try")
    strengths: int = Field(ge=2, description="how many to try, evenly spaced on a logarithmic scale")
    held_out: float = Field(gt=0, lt=1, description="share of every class of the training split to choose on")
    iterations: int = Field(ge=1, description="of L-BFGS at most, per strength")

    @model_validator(mode="after")
    def _consistent(self) -> LinearArgs:
        if self.weakest >= self.strongest:
            raise ValueError(f"expected weakest below strongest, found {self.weakest} and {self.strongest}")
        return self


class ProbeArgs(Section):
    """What is measured on the frozen backbone, beside fine-tuning. Features of central crops, as fine-tuning tests."""

    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")
    knn: KnnArgs | None
    linear: LinearArgs | None


class SaliencyArgs(Section):
    """Which maps views and measurements read, and how a map becomes a box."""

    detector: Literal["u2netp", "spectral", "boxes", "masks"]
    threshold: float = Field(gt=0, lt=1, description="of the map's range; above it counts as salient")
    min_side: float = Field(ge=0, lt=1, description="smaller boxes, as a share of the image's side, count as none")


class LocalisationArgs(Section):
    """Where the networks look, measured on the official boxes (Choe et al. 2020, arXiv:2007.04178)."""

    threshold_images: int = Field(
        ge=1, description="training images, at most, on whose boxes the thresholds of MaxBoxAcc are chosen"
    )
    thresholds: int = Field(ge=2, description="how many to try, evenly spaced over a map's range")


class BackgroundArgs(Section):
    """How much the fine-tuned network goes by the background (Xiao et al. 2020, arXiv:2006.09994)."""

    fill: Literal["tile", "mean"] = Field(
        description="what takes the object's place: the largest strip of background beside its box, repeated; or the "
        "mean colour outside the box"
    )


class Recipe(Section):
    """Everything that determines a cell's numbers but the data, the seed and the code's version."""

    image_size: int = Field(ge=16, description="side of the network's input, px")
    store_size: int = Field(ge=16, description="short side of the decoded images, px; smaller ones stay as they are")
    backbone: BackboneArgs
    finetune: FinetuneArgs
    objective: SerializeAsAny[Args] | None = None
    views: SerializeAsAny[Args] | None = None
    alignment: AlignmentArgs | None = None
    saliency: SaliencyArgs | None = None
    pretrain: PretrainArgs | None = None
    probe: ProbeArgs | None = None
    localisation: LocalisationArgs | None = None
    background: BackgroundArgs | None = None

    @model_validator(mode="after")
    def _maps_named(self) -> Recipe:
        if (self.localisation or self.background) and self.saliency is None:
            raise ValueError("localisation and background read saliency maps: expected a section saliency, found none")
        return self


class Profile(Section):
    """A scale to run a grid at: experiments/profiles/NAME.yaml."""

    name: str
    note: str = Field(description="completes the sentence 'profile NAME: ...' in captions; empty for paper")
    seeds: tuple[int, ...] = Field(min_length=1)
    synthetic: SyntheticSpec | None = Field(None, description="draw the data instead of reading photographs")
    extends: str | None = Field(
        None, description="a shipped profile whose recipe fields hold where this one, section by section, has none"
    )
    defaults: dict[str, Any] = Field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="per objective: recipe fields laid over the defaults; under `views`, per kind of view, what this "
        "objective lays over that kind's arguments",
    )
    views: dict[str, dict[str, Any]] = Field(default_factory=dict, description="per kind of view: its arguments")
    stage1: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="per first-stage dataset: recipe fields of that stage"
    )

    @property
    def chain(self) -> tuple[Profile, ...]:
        """The profile it extends, where there is one, and itself; of each section, later ones win.

        Raises:
            UsageError: no such profile is shipped, or that one extends another.
        """
        if self.extends is None:
            return (self,)
        if Path(self.extends).suffix:
            raise UsageError(f"profile '{self.name}': extends takes the name of a shipped profile, not a file.")
        base = _shipped(self.extends)
        if base.extends is not None:
            raise UsageError(
                f"profile '{self.name}' extends '{base.name}', which extends '{base.extends}': expected a profile that "
                f"stands on its own. Extend '{base.extends}' and repeat what '{base.name}' changes."
            )
        return base, self


def load_profile(name_or_file: str) -> Profile:
    """Read a profile by the name of a shipped one or from a YAML file."""
    path = profile_path(name_or_file)
    return validated(Profile, yaml.safe_load(path.read_text("utf-8")), str(path))


@cache
def _shipped(name: str) -> Profile:
    """A shipped profile, read once."""
    return load_profile(name)


def profile_path(name_or_file: str) -> Path:
    """The file of a profile. Raises UsageError with the nearest match where there is none."""
    path = Path(name_or_file)
    if path.suffix not in {".yaml", ".yml"}:
        path = EXPERIMENTS / "profiles" / f"{name_or_file}.yaml"
        if not path.is_file():
            raise unknown("profile", name_or_file, [p.stem for p in path.parent.glob("*.yaml")])
    if not path.is_file():
        raise UsageError(f"profile file {path} does not exist.")
    return path


@dataclass(frozen=True, slots=True)
class Resolved:
    """A cell's recipe and where each of its values came from: {"pretrain.epochs": "profile small"}."""

    recipe: Recipe
    origins: Mapping[str, str]


def check_known(row: Row) -> None:
    """Raise UsageError, with the nearest match, where a row names an objective or a view that does not exist."""
    if row.objective is None:
        return
    if row.objective not in OBJECTIVES:
        raise unknown("objective", row.objective, OBJECTIVES)
    if row.views not in VIEWS:
        raise unknown("view", row.views, VIEWS)


def first_stage(row: Row) -> Row:
    """What trains in the first stage of `row`: its objective with that objective's own views, and nothing else.

    The paper says only that the first stage "trains feature extraction"; that it is the plain method is our reading.
    All rows of one objective therefore share one first stage.
    """
    if row.objective is None:
        raise UsageError(f"row '{row.name}' has no objective, so it has no first stage.")
    name = f"first stage of {row.objective}"
    views = OBJECTIVES[row.objective].plain_views
    return Row(name=name, label=name, method=row.method, objective=row.objective, views=views)


def resolve(profile: Profile, row: Row, overrides: Mapping[str, Any], stage1: str | None = None) -> Resolved:
    """Lay the layers over each other: profile, objective, view, objective for this view, row, `--set`; later ones win.

    `overrides` has dotted paths; those that this row has no place for are left out (see `applies`). `stage1` names the
    dataset of a first stage, whose section of the profile then comes before the row's.

    Raises:
        UsageError: a value of the wrong type, or an unknown field; names the place and the nearest field.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers: list[tuple[str, dict[str, Any]]] = [(f"profile {part.name}", part.defaults) for part in profile.chain]
    if row.objective is None:
        keep = {"image_size", "store_size", "backbone", "finetune", "probe", "saliency", *_MEASURED_WITH_MAPS}
        layers = [(origin, {field: part[field] for field in part if field in keep}) for origin, part in layers]
    else:
        objective = _sections(profile, "objective", row.objective, OBJECTIVES)
        views = _sections(profile, "view", row.views, VIEWS)
        for origin, section in objective:
            for kind in section.get("views", {}):
                if kind not in VIEWS:
                    raise unknown(f"view under {origin}:", kind, VIEWS)
        layers += [
            (origin, {key: value for key, value in part.items() if key != "views"}) for origin, part in objective
        ]
        layers += [(origin, {"views": section}) for origin, section in views]
        layers += [(origin, {"views": section.get("views", {}).get(row.views, {})}) for origin, section in objective]
    if stage1 is not None:
        layers += [(f"profile {part.name}, stage 1 {stage1}", part.stage1.get(stage1, {})) for part in profile.chain]
    layers.append((f"row {row.name}", _nested(row.set)))
    layers.append(("--set", _nested(overrides)))
    for origin, layer in layers:
        _lay_over(merged, layer, origin, origins)

    where = f"recipe of row '{row.name}' in profile '{profile.name}'"
    if row.objective is not None:
        merged["objective"] = _block(OBJECTIVES[row.objective], merged.get("objective", {}), f"{where}, objective")
        merged["views"] = _block(VIEWS[row.views], merged.get("views", {}), f"{where}, views")
        if not row.alignment:
            merged.pop("alignment", None)
    views_need_maps = row.objective is not None and VIEWS[row.views].needs_saliency
    if not views_need_maps and not any(merged.get(section) for section in _MEASURED_WITH_MAPS):
        merged.pop("saliency", None)
    recipe = validated(Recipe, merged, where)
    shown = {path: origin for path, origin in origins.items() if path.partition(".")[0] in merged}
    return Resolved(recipe, shown)


def _sections(
    profile: Profile, what: Literal["objective", "view"], name: str, known: Mapping[str, Entry]
) -> list[tuple[str, Mapping[str, Any]]]:
    """What there is on an objective or a view, with its origin: a plugin's own recipe, and over it the profile's."""
    entry, found = known[name], list[tuple[str, Mapping[str, Any]]]()
    if entry.plugin:
        found.append((f"plugin {entry.plugin}", entry.recipe))
        for part in profile.chain:
            found.append((f"plugin {entry.plugin}, profile {part.name}", entry.by_profile.get(part.name, {})))
    for part in profile.chain:
        sections = part.objectives if what == "objective" else part.views
        if name in sections:
            found.append((f"profile {part.name}, {what} {name}", sections[name]))
    if not found:
        raise UsageError(f"profile '{profile.name}' has no recipe for {what} '{name}'.")
    return found


def applies(path: str, recipe: Recipe) -> bool:
    """Whether a recipe has a field at the dotted `path`."""
    value: Any = recipe
    for part in path.split("."):
        if not isinstance(value, BaseModel) or part not in type(value).model_fields:
            return False
        value = getattr(value, part)
    return True


def field_paths(recipe: BaseModel, prefix: str = "") -> list[str]:
    """Every dotted path of a recipe, for the nearest match of a mistyped one."""
    paths: list[str] = []
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        paths += field_paths(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
    return paths


def _block(entry: Entry, data: dict[str, Any], where: str) -> Args:
    return validated(entry.args, data, where)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        place = nested
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def _lay_over(
    below: dict[str, Any], above: Mapping[str, Any], origin: str, origins: dict[str, str], at: str = ""
) -> None:
    for name, value in above.items():
        path = at + name
        if isinstance(value, Mapping):
            if not isinstance(below.get(name), dict):
                below[name] = {}
            _lay_over(below[name], value, origin, origins, path + ".")
        else:
            below[name] = copy.deepcopy(value)
            origins[path] = origin

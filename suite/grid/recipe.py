"""Profiles hold the numbers; a recipe is what one cell gets of them, with the origin of every value."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny, SerializerFunctionWrapHandler, model_serializer, model_validator

from methods.args import AlignmentArgs, Args, BackboneArgs
from methods.backbones.base import architectures, family_of
from methods.registry import OBJECTIVES, VIEWS, ComponentEntry
from suite.data.spec import SaliencyArgs
from suite.errors import UsageError, unknown
from suite.grid.profile import Profile
from suite.grid.spec import Row
from suite.grid.validate import validated
from suite.jobs.sections import Section
from suite.kinds.background import BackgroundArgs
from suite.kinds.finetune import FinetuneArgs
from suite.kinds.linear_sgd import LinearSgdArgs
from suite.kinds.localisation import LocalisationArgs
from suite.kinds.pretrain import PretrainArgs
from suite.kinds.probe import ProbeArgs
from suite.kinds.registry import protocols

# Sections on which accuracy after fine-tuning depends. The others belong to measurements.
TRAINING_SECTIONS = (
    *("image_size", "store_size", "backbone", "objective", "views", "alignment", "saliency", "pretrain", "finetune"),
)


class Recipe(Section):
    """Everything that determines a cell's numbers but the data, the seed and the code's version."""

    image_size: int = Field(ge=16, description="side of the network's input, px")
    store_size: int = Field(ge=16, description="short side of the decoded images, px; smaller ones stay as they are")
    backbone: SerializeAsAny[BackboneArgs]
    finetune: FinetuneArgs
    objective: SerializeAsAny[Args] | None = None
    views: SerializeAsAny[Args] | None = None
    alignment: AlignmentArgs | None = None
    saliency: SaliencyArgs | None = None
    pretrain: PretrainArgs | None = None
    probe: ProbeArgs | None = None
    localisation: LocalisationArgs | None = None
    background: BackgroundArgs | None = None
    linear_sgd: LinearSgdArgs | None = None
    protocols: dict[str, SerializeAsAny[Section] | None] = Field(
        default_factory=dict, description="settings of further protocols by name; null leaves one out"
    )

    def section(self, protocol: str) -> Section | None:
        """The settings of a protocol; None where the recipe does not measure by it."""
        args: Section | None = getattr(self, protocol, None) or self.protocols.get(protocol)
        return args

    @model_serializer(mode="wrap")
    def _leave_out_later_sections(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit sections that are empty and were added later: recorded recipes then stay equal."""
        values: dict[str, Any] = handler(self)
        unused = {name for name in ("linear_sgd", "protocols") if not getattr(self, name)}
        return {name: value for name, value in values.items() if name not in unused}

    @model_validator(mode="after")
    def _maps_named(self) -> Recipe:
        if (self.localisation or self.background) and self.saliency is None:
            raise ValueError("localisation and background read saliency maps: expected a section saliency, found none")
        return self


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


def own_first_stage(row: Row) -> bool:
    """Whether the first stage of `row` is trained by another method than the plain objective.

    A row with `first_stage: own` that has plain views, no alignment and no settings shares the plain first stage.
    """
    plain_views = row.objective is None or row.views == OBJECTIVES[row.objective].plain_views
    measuring = {"finetune", *protocols()}  # sections that no pretraining reads
    settings = any(path.partition(".")[0] not in measuring for path in row.set)
    return row.first_stage == "own" and not (plain_views and not row.alignment and not settings)


def first_stage(row: Row) -> Row:
    """The row that is trained in the first stage of `row`.

    By default it is the objective with its plain views, without alignment and without the row's `set`, so that all
    rows of one objective share one first stage. With `first_stage: own` it is the row's own method: views, alignment
    and `set`.

    The paper says only that the first stage "trains feature extraction". Plain is our reading of it. The poster's
    panel "(a) Stage-1 only" has different maps for BYOL and BYOL+CVSA, which own first stages would explain.
    """
    if row.objective is None:
        raise UsageError(f"row '{row.name}' has no objective, so it has no first stage.")
    if own_first_stage(row):
        name = f"first stage of {row.name}"
        return Row(
            name=name, label=name, method=row.method, objective=row.objective, views=row.views,
            alignment=row.alignment, set=row.set,
        )  # fmt: skip
    name = f"first stage of {row.objective}"
    views = OBJECTIVES[row.objective].plain_views
    return Row(name=name, label=name, method=row.method, objective=row.objective, views=views)


def recipe_without_pretraining(profile: Profile, overrides: Mapping[str, Any]) -> Recipe:
    """The settings of a profile that belong to no method: measurements, saliency, sizes.

    Raises:
        UsageError: see `resolve`.
    """
    return resolve(profile, Row(name="none", label="none", method="none", stage2=False), overrides).recipe


def resolve(profile: Profile, row: Row, overrides: Mapping[str, Any], stage1: str | None = None) -> Resolved:
    """Lay the layers over each other: profile, objective, view, objective for this view, row, `--set`; later ones win.

    `overrides` has dotted paths; those that this row has no place for are left out (see `applies`). `stage1` names the
    dataset of a first stage, whose section of the profile then comes before the row's.

    Raises:
        UsageError: a value of the wrong type, or an unknown field; names the place and the nearest field.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    measured_with_maps = {name for name, protocol in protocols().items() if protocol.needs_saliency}
    layers = _protocol_layers(profile)
    layers += [(f"profile {part.name}", part.defaults) for part in profile.chain]
    if row.objective is None:
        keep = {"image_size", "store_size", "backbone", "finetune", "probe", "linear_sgd", "saliency", "protocols"}
        keep |= measured_with_maps
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
    if row.frozen:
        left_out = measured_with_maps.difference(row.measure)
        layers = [(origin, {field: part[field] for field in part if field not in left_out}) for origin, part in layers]
    if stage1 is not None:
        layers += [(f"profile {part.name}, stage 1 {stage1}", part.stage1.get(stage1, {})) for part in profile.chain]
    layers.append((f"row {row.name}", _nested(row.set)))
    layers.append(("--set", _nested(overrides)))
    for origin, layer in layers:
        _drop_other_family(merged, layer, origins)
        _lay_over(merged, layer, origin, origins)

    where = f"recipe of row '{row.name}' in profile '{profile.name}'"
    if row.objective is not None:
        merged["objective"] = _args_of(OBJECTIVES[row.objective], merged.get("objective", {}), f"{where}, objective")
        merged["views"] = _args_of(VIEWS[row.views], merged.get("views", {}), f"{where}, views")
        if not row.alignment:
            merged.pop("alignment", None)
    if "protocols" in merged:
        merged["protocols"] = _protocol_sections(merged["protocols"], where)
    views_need_maps = row.objective is not None and VIEWS[row.views].needs_saliency
    if not views_need_maps and not any(
        section in measured_with_maps and settings for section, settings in _protocols_of(merged)
    ):
        merged.pop("saliency", None)
    recipe = validated(Recipe, merged, where)
    shown = {path: origin for path, origin in origins.items() if path.partition(".")[0] in merged}
    return Resolved(recipe, shown)


def _protocols_of(merged: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and settings of the protocols in a recipe: built-in ones have a section of their own."""
    yield from merged.items()
    yield from merged.get("protocols", {}).items()


def _protocol_layers(profile: Profile) -> list[tuple[str, dict[str, Any]]]:
    """The settings that plugins give their protocols."""
    layers: list[tuple[str, dict[str, Any]]] = []
    for name, protocol in protocols().items():
        if protocol.plugin:
            layers.append((f"plugin {protocol.plugin}", {"protocols": {name: protocol.recipe}}))
            for part in profile.chain:
                section = protocol.by_profile.get(part.name, {})
                layers.append((f"plugin {protocol.plugin}, profile {part.name}", {"protocols": {name: section}}))
    return layers


def _protocol_sections(sections: Mapping[str, Any], where: str) -> dict[str, Section | None]:
    """Each section as its protocol's settings."""
    further = {name: protocol for name, protocol in protocols().items() if name not in Recipe.model_fields}
    for name in sections:
        if name not in further:
            raise unknown(f"protocol in {where}:", name, further, "A plugin that brings it is named with --plugin.")
    return {
        name: None if section is None else validated(further[name].args, section, f"{where}, protocols.{name}")
        for name, section in sections.items()
    }


def _sections(
    profile: Profile, what: Literal["objective", "view"], name: str, registry: Mapping[str, ComponentEntry]
) -> list[tuple[str, Mapping[str, Any]]]:
    """The recipe sections of an objective or a view with their origins: a plugin's, and over it the profile's."""
    entry, layers = registry[name], list[tuple[str, Mapping[str, Any]]]()
    if entry.plugin:
        layers.append((f"plugin {entry.plugin}", entry.recipe))
        for part in profile.chain:
            layers.append((f"plugin {entry.plugin}, profile {part.name}", entry.by_profile.get(part.name, {})))
    for part in profile.chain:
        sections = part.objectives if what == "objective" else part.views
        if name in sections:
            layers.append((f"profile {part.name}, {what} {name}", sections[name]))
    if not layers:
        raise UsageError(f"profile '{profile.name}' has no recipe for {what} '{name}'.")
    return layers


def applies(path: str, recipe: Recipe) -> bool:
    """Whether a recipe has a field at the dotted `path`."""
    value: Any = recipe
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, BaseModel) and part in type(value).model_fields:
            value = getattr(value, part)
        else:
            return False
    return True


def field_paths(recipe: BaseModel, prefix: str = "") -> list[str]:
    """Every dotted path of a recipe, for the nearest match of a mistyped one."""
    paths: list[str] = []
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        inner = value if isinstance(value, Mapping) and name == "protocols" else {"": value}
        for key, section in inner.items():
            path = f"{prefix}{name}" + (f".{key}" if key else "")
            paths += field_paths(section, f"{path}.") if isinstance(section, BaseModel) else [path]
    return paths


def _drop_other_family(below: dict[str, Any], above: Mapping[str, Any], origins: dict[str, str]) -> None:
    """Drop the backbone's settings where a layer names an architecture of another family, whose settings differ."""
    old, new = (layer.get("backbone", {}).get("arch") for layer in (below, above))
    names = architectures()
    if old in names and new in names and family_of(old) is not family_of(new):
        below["backbone"] = {}
        for path in [path for path in origins if path.startswith("backbone.")]:
            del origins[path]


def _args_of(entry: ComponentEntry, data: dict[str, Any], where: str) -> Args:
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

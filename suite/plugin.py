"""Custom methods, views, backbones, protocols and datasets: `--plugin FILE.py` or `--plugin FOLDER`.

A Python file calls the `register_...` functions below when it is loaded. Its registrations take part in every grid of
that command: an objective as a further row, a dataset as a further column. The file's SHA-256 enters the keys of all
jobs that use its code, so an edited method is trained again. A folder with `train/<class>/` and `test/<class>/` is a
dataset as it is. Plugins run with the user's rights: load only what you trust.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from methods.args import Args
from methods.backbones.base import BackboneFamily, add_family, architectures
from methods.registry import OBJECTIVES, VIEWS, ComponentEntry
from suite.data.catalogue import DATASETS, DatasetInfo
from suite.data.datasets.folder import parse_folder
from suite.data.datasets.names import composed, dataset_name
from suite.data.record import Dataset
from suite.errors import UsageError
from suite.grid.recipe import Recipe
from suite.grid.spec import GridSpec, Row
from suite.kinds.base import Protocol, ProtocolSpec
from suite.kinds.registry import KINDS
from suite.paths import user_path

_ROWS: dict[str, Row] = {}
_PLUGIN_DATASETS: list[str] = []
_LOADED: dict[Path, str] = {}  # file or folder -> SHA-256 of a file, empty for a folder
_LOADING: list[tuple[str, str]] = []  # name and SHA-256 of the file that is being executed


def load_plugins(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Load each file or folder once per process. Returns their absolute paths, for other processes to load too.

    Raises:
        UsageError: nothing is there, the file cannot be executed, or a name is taken.
    """
    places = tuple(user_path(path, "--plugin").resolve() for path in paths)
    for place in places:
        if place in _LOADED:
            continue
        if place.is_dir():
            _register_folder(place)
            _LOADED[place] = ""
        elif place.suffix == ".py" and place.is_file():
            before = _registered()
            _LOADED[place] = _execute(place)
            if _registered() == before:
                del _LOADED[place]
                raise UsageError(
                    f"plugin {place} registers nothing: expected a call such as register_objective(...) or "
                    "register_dataset(...) when the file is loaded. See examples/align_uniform.py."
                )
        else:
            reason = "" if place.exists() else ", which does not exist"
            raise UsageError(f"--plugin expects a Python file or a folder with train/ and test/, got {place}{reason}.")
    return places


def register_objective(
    name: str,
    code: type,
    args: type[Args],
    *,
    recipe: Mapping[str, Any],
    by_profile: Mapping[str, Mapping[str, Any]] | None = None,
    label: str | None = None,
    views: str = "random_resized_crop",
    needs_train_size: bool = False,
    exposes_maps: bool = False,
    needs_regions: bool = False,
) -> None:
    """Register an objective, and add a row with it to every grid.

    Args:
        name: for `--method` and for cells' ids.
        code: a `methods.objective.Objective`, called with (args, backbone).
        args: its settings; every field has a value in `recipe` or a default.
        recipe: as a section under `objectives:` of a profile: `objective`, `pretrain`, `views`, ...
        by_profile: per profile, what to lay over `recipe` there.
        label: as printed in tables; the name where it is not given.
        views: what it trains on, in a first stage too.
        needs_train_size: call it with `train_images`, the number of training images, as well.
        exposes_maps: it takes `alignment`, None or a `methods.alignment.SaliencyAlignment`, and adds its loss.
        needs_regions: its backbone is a `methods.backbone.RegionBackbone`; other backbones are refused.
    """
    _add(
        OBJECTIVES,
        "objective",
        name,
        code,
        ComponentEntry(
            "", args, needs_train_size=needs_train_size, exposes_maps=exposes_maps, needs_regions=needs_regions,
            plain_views=views, recipe=recipe, by_profile=by_profile or {},
        ),
    )  # fmt: skip
    register_row(name, label=label, objective=name, views=views)


def register_backbone(family: BackboneFamily) -> None:
    """Make a family of backbones available to `backbone.arch` in profiles and `--set`. A complete example is
    examples/vit_backbone.py. The file's SHA-256 enters the keys of all jobs with such a backbone."""
    for arch in family.archs:
        if arch in architectures():
            raise UsageError(f"{_where()} registers the backbone '{arch}', which exists already. Choose another name.")
    if not _LOADING:
        raise UsageError(f"the backbone '{family.archs[0]}' must be registered by a file given with --plugin.")
    family.sha256 = _LOADING[-1][1]
    add_family(family)


def register_protocol(
    protocol: Protocol[Any],
    *,
    recipe: Mapping[str, Any],
    by_profile: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Register an evaluation protocol: every cell of every grid is then measured by it as well. A complete example is
    examples/nearest_mean_protocol.py. The file's SHA-256 enters the keys of the protocol's jobs.

    Args:
        protocol: its spec derives from `suite.kinds.base.ProtocolSpec`, its loop is a function of the plugin's file.
        recipe: its settings; `protocols.NAME` in a profile and `--set protocols.NAME.FIELD=VALUE` change them, and
            `--set protocols.NAME=null` leaves the protocol out.
        by_profile: per profile, what to lay over `recipe` there.
    """
    name = protocol.name
    if name in KINDS or name in Recipe.model_fields:
        raise UsageError(f"{_where()} registers the protocol '{name}', which exists already. Choose another name.")
    if not _LOADING:
        raise UsageError(f"the protocol '{name}' must be registered by a file given with --plugin.")
    if not issubclass(protocol.spec, ProtocolSpec):
        raise UsageError(
            f"{_where()}: the spec of protocol '{name}' is {protocol.spec.__name__}; expected a class that derives "
            "from suite.kinds.base.ProtocolSpec."
        )
    protocol.plugin, protocol.sha256 = _LOADING[-1]
    protocol.recipe, protocol.by_profile = recipe, by_profile or {}
    KINDS[name] = protocol


def register_views(
    name: str,
    code: type,
    args: type[Args],
    *,
    recipe: Mapping[str, Any],
    by_profile: Mapping[str, Mapping[str, Any]] | None = None,
    needs_saliency: bool = False,
    gives_masks: bool = False,
) -> None:
    """Register a kind of view, for rows to use. `code`: a `methods.views.base.ViewMaker`, called with
    (args, source, size); `recipe`: as a section under `views:` of a profile; the rest as in `register_objective`."""
    entry = ComponentEntry(
        "", args, needs_saliency=needs_saliency, gives_masks=gives_masks, recipe=recipe, by_profile=by_profile or {}
    )
    _add(VIEWS, "view", name, code, entry)


def register_row(
    name: str,
    *,
    objective: str,
    label: str | None = None,
    views: str = "random_resized_crop",
    alignment: bool = False,
    set: Mapping[str, Any] | None = None,
) -> None:
    """Add a row, a combination of known objectives and views, to every grid. Fields as in a grid file."""
    if name in _ROWS:
        raise UsageError(f"{_where()} registers the row '{name}', which another plugin has registered.")
    _ROWS[name] = Row(
        name=name, label=label or name, method=name, objective=objective, views=views, alignment=alignment,
        set=dict(set or {}),
    )  # fmt: skip


def register_dataset(
    name: str, folder: Path, parse: Callable[[Path], Dataset], *, label: str | None = None, licence: str = "not stated"
) -> None:
    """Add a labelled dataset to every grid. `parse` reads `folder`; it is called here once, for the counts."""
    name = composed(name)
    if name in DATASETS:
        raise UsageError(f"{_where()} registers the dataset '{name}', which exists already. Choose another name.")
    dataset = parse(folder)
    DATASETS[name] = DatasetInfo(
        name=name, label=label or name, folders=(str(folder),), markers=(".",), parse=parse,
        train=len(dataset.train), test=len(dataset.test), classes=len(dataset.classes),  # so it counts as complete
        licence=licence, source=str(folder), added=True,
    )  # fmt: skip
    _PLUGIN_DATASETS.append(name)


def with_plugins(grid: GridSpec) -> GridSpec:
    """The grid with the rows and datasets of all plugins. New rows have the stages of the grid's reference row."""
    reference = grid.row(grid.reference_row)
    taken = sorted(_ROWS.keys() & {row.name for row in grid.rows})
    if taken:
        raise UsageError(f"a plugin registers the row '{taken[0]}', which grid {grid.name} has already.")
    rows = [
        row.model_copy(
            update={
                "stage1": reference.stage1,
                "first_stage": reference.first_stage,
                "series": row.label if grid.sweep else None,
                "set": {**grid.set, **row.set},
            }
        )
        for row in _ROWS.values()
    ]
    return grid.model_copy(
        update={"rows": (*grid.rows, *rows), "datasets": (*grid.datasets, *_PLUGIN_DATASETS)},
    )


def _registered() -> int:
    """Number of things registered so far, of every kind that a plugin can add."""
    return len(OBJECTIVES) + len(VIEWS) + len(architectures()) + len(KINDS) + len(DATASETS) + len(_ROWS)


def _execute(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"suite_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be loaded as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # components are loaded by "module:name"
    _LOADING.append((path.name, digest))
    try:
        spec.loader.exec_module(module)
    except UsageError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"plugin {path} fails when it is loaded: {type(error).__name__}: {error}") from error
    finally:
        _LOADING.pop()
    return digest


def _register_folder(path: Path) -> None:
    name = dataset_name(path.name)
    if not name:
        raise UsageError(
            f"--plugin {path}: the dataset is named after its folder, and '{path.name}' has no letter and no digit. "
            "Rename the folder."
        )
    if name in DATASETS:
        raise UsageError(
            f"--plugin {path}: the folder '{path.name}' gives the dataset name '{name}', which exists already "
            f"({DATASETS[name].source}). Rename the folder."
        )
    register_dataset(name, path, lambda root: parse_folder(name, root), label=composed(path.name))


def _add(registry: dict[str, ComponentEntry], what: str, name: str, code: type, entry: ComponentEntry) -> None:
    if name in registry:
        raise UsageError(f"{_where()} registers the {what} '{name}', which exists already. Choose another name.")
    if not _LOADING:
        raise UsageError(f"the {what} '{name}' must be registered by a file given with --plugin.")
    plugin, digest = _LOADING[-1]
    registry[name] = replace(entry, code=f"{code.__module__}:{code.__qualname__}", plugin=plugin, sha256=digest)


def _where() -> str:
    return f"plugin {_LOADING[-1][0]}" if _LOADING else "a plugin"

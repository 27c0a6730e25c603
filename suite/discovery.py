"""Everything that has a name in the suite, with one line about it and its source: for `suite list` and `suite show`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from methods.registry import OBJECTIVES, VIEWS, ComponentEntry
from suite.errors import unknown
from suite.grid.spec import EXPERIMENTS

if TYPE_CHECKING:
    from pydantic import BaseModel

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})|doi:\S+[^\s.,)]")


@dataclass(frozen=True)
class CatalogueEntry:
    """Something with a name."""

    kind: str  # grids, profiles, methods, views, datasets, protocols, backbones
    name: str
    line: str  # one sentence
    source: str  # paper, download page or file
    details: tuple[str, ...] = ()  # further lines of `suite show`


def entries_of_kind(kind: str) -> list[CatalogueEntry]:
    """Everything of a kind, in the order of its registry.

    Raises:
        UsageError: no such kind.
    """
    if kind not in KINDS:
        raise unknown("kind of name", kind, KINDS)
    return list(KINDS[kind]())


def entries_named(name: str) -> list[CatalogueEntry]:
    """Everything of that name; several kinds may share one.

    Raises:
        UsageError: nothing has that name.
    """
    everything = [thing for kind in KINDS for thing in entries_of_kind(kind)]
    matches = [thing for thing in everything if thing.name.lower() == name.lower()]
    if not matches:
        raise unknown("name", name, {thing.name for thing in everything}, "All of them: suite list")
    return matches


def _grids() -> Iterator[CatalogueEntry]:
    from suite.grid.spec import load_grid

    for path in _shipped("grids"):
        grid = load_grid(path.stem)
        size = f"{len(grid.rows)} rows, {len(grid.datasets)} dataset{'s' * (len(grid.datasets) > 1)}"
        rows = (f"{row.name:18}{row.label}: {_row(row)}" for row in grid.rows)
        details = (f"datasets: {', '.join(grid.datasets)}", "rows:", *(f"  {row}" for row in rows))
        command = f"plan: suite plan --grid {grid.name} --profile small"
        yield CatalogueEntry("grids", grid.name, f"{grid.title} ({size})", _place(path), (*details, command))


def _row(row: Any) -> str:
    if row.reference is not None:
        return f"reference row, {row.reference}: the frozen checkpoint {row.stage1_checkpoint}"
    if row.objective is None:
        return "no pretraining"
    own = " by the row's own method" * (row.first_stage == "own")
    stages = [*([f"first stage on {row.stage1}{own}"] * (row.stage1 != "none")), *(["second stage"] * row.stage2)]
    alignment = " + alignment" if row.alignment else ""
    return f"{row.objective} x {row.views}{alignment}; {', '.join(stages)}"


def _profiles() -> Iterator[CatalogueEntry]:
    from suite.grid.profile import load_profile

    for path in _shipped("profiles"):
        profile = load_profile(path.stem)
        recipe: dict[str, Any] = {}
        for part in profile.chain:
            recipe |= part.defaults
        data = "photographs" if profile.synthetic is None else "synthetic images"
        line = f"{recipe['backbone']['arch']} at {recipe['image_size']} px on {data}; seeds {_numbers(profile.seeds)}"
        epochs = (f"{stage}: {recipe[stage]['epochs']} epochs" for stage in ("pretrain", "finetune"))
        details = (*epochs, *([f"extends {profile.extends}"] if profile.extends else []))
        yield CatalogueEntry("profiles", profile.name, line, _place(path), details)


def _methods() -> Iterator[CatalogueEntry]:
    """Every name that `--method` takes: the methods of the shipped grids' rows, and those of plugins."""
    from suite.grid.spec import load_grid
    from suite.plugin import with_plugins

    rows: dict[str, Any] = {}
    for path in _shipped("grids"):
        for row in with_plugins(load_grid(path.stem)).rows:
            if row.series is None:  # the points of a sweep are not what a method is
                rows.setdefault(row.method, row)
    for name, row in rows.items():
        if row.objective is None:
            yield CatalogueEntry("methods", name, f"{row.label}: {_row(row)}", "experiments/grids")
            continue
        objective = _block("methods", name, OBJECTIVES[row.objective])
        own_views = row.alignment or row.views != OBJECTIVES[row.objective].plain_views
        source = _block("views", row.views, VIEWS[row.views]).source if own_views else objective.source
        combination = f"{row.objective} x {row.views}{' + alignment' * row.alignment}"
        details = (objective.line, *objective.details, f"views: suite show {row.views}")
        yield CatalogueEntry("methods", name, f"{row.label}: {combination}", source, details)


def _views() -> Iterator[CatalogueEntry]:
    for name, entry in VIEWS.items():
        yield _block("views", name, entry)


def _block(kind: str, name: str, entry: ComponentEntry) -> CatalogueEntry:
    text = _docstring(entry.code.partition(":")[0])
    needs = [
        *(["reads saliency maps"] if entry.needs_saliency else []),
        *(["gives masks, as the alignment needs them"] if entry.gives_masks else []),
        *([f"from plugin {entry.plugin}"] if entry.plugin else []),
    ]
    details = (*text.splitlines()[1:], *needs, *_settings(entry.args))
    return CatalogueEntry(kind, name, _first(text), _source(text, entry.code.partition(":")[0]), details)


def _datasets() -> Iterator[CatalogueEntry]:
    from suite.data.catalogue import DATASETS

    for name, info in DATASETS.items():
        counts = f"{info.train:,} training images"
        if info.labelled:
            counts += f", {info.test:,} test images, {info.classes:,} classes"
        details = (f"licence: {info.licence}", f"folder below the data root: {' or '.join(info.folders)}")
        yield CatalogueEntry(
            "datasets", name, f"{info.label}: {counts}", info.source, (*details, f"get it: suite data fetch {name}")
        )


def _protocols() -> Iterator[CatalogueEntry]:
    from suite.kinds.finetune import FinetuneArgs
    from suite.kinds.registry import protocols

    text = _docstring("suite.kinds.finetune")
    yield CatalogueEntry(
        "protocols", "finetune", _first(text), _source(text, "suite.kinds.finetune"), _settings(FinetuneArgs)
    )
    for name, protocol in protocols().items():
        module = type(protocol).__module__
        text = _docstring(module)
        yield CatalogueEntry("protocols", name, _first(text), _source(text, module), _settings(protocol.args))


def _backbones() -> Iterator[CatalogueEntry]:
    from methods.backbones.base import architectures, family_of

    for arch in architectures():
        family = family_of(arch)
        module = type(family).__module__
        text = _docstring(module)
        yield CatalogueEntry("backbones", arch, _first(text), _source(text, module), _settings(family.args))


KINDS: Mapping[str, Callable[[], Iterator[CatalogueEntry]]] = {
    "grids": _grids,
    "profiles": _profiles,
    "methods": _methods,
    "views": _views,
    "datasets": _datasets,
    "protocols": _protocols,
    "backbones": _backbones,
}


def _docstring(module: str) -> str:
    """A module's docstring, read without importing the module: most of them would load torch."""
    from sys import modules

    file = getattr(modules.get(module), "__file__", None)
    if file is None and (spec := find_spec(module)) is not None:
        file = spec.origin
    return ast.get_docstring(ast.parse(Path(file).read_text("utf-8"))) or "" if file is not None else ""


def _first(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.partition("\n\n")[0].split())


def _source(text: str, module: str) -> str:
    cited = _ARXIV.search(text)
    return cited[0] if cited is not None else module.replace(".", "/") + ".py"


def _settings(args: type[BaseModel]) -> tuple[str, ...]:
    """One line per field of a section of a recipe."""
    fields = [f"  {name}: {field.description or _type(field.annotation)}" for name, field in args.model_fields.items()]
    return ("settings:", *fields) if fields else ()


def _type(annotation: Any) -> str:
    """The choices of a `Literal`, else the name of the type."""
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    return str(getattr(annotation, "__name__", annotation))


def _shipped(folder: str) -> list[Path]:
    return sorted((EXPERIMENTS / folder).glob("*.yaml"))


def _place(path: Path) -> str:
    return path.relative_to(EXPERIMENTS.parent).as_posix()


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in numbers)

"""The Python interface: plan, run and read results. The command line uses the same functions.

Every function takes the names that the command line takes. Torch is loaded only by `run`, `evaluate` and
`load_backbone`, pandas only by `results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from suite.data.catalogue import DATASETS
from suite.data.datasets.names import composed
from suite.errors import UsageError, unknown
from suite.grid.cells import Selection
from suite.grid.evaluation import MEASURES, evaluation_grid
from suite.grid.profile import Profile, load_profile
from suite.grid.spec import GridSpec
from suite.grid.spec import load_grid as _load_grid
from suite.planning.plan import Plan, make_plan
from suite.plugin import load_plugins, with_plugins
from suite.store.cells import COLUMNS, CellRecord, result_lines
from suite.store.ledger import profile_of, read_cells
from suite.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from methods.backbone import Backbone
    from suite.execute.engine import Engine
    from suite.execute.run import RunOutcome

Names = str | Iterable[str]


class Selectors(TypedDict, total=False):
    """Which part of a grid, with which profile, and where. All are optional, with the command line's defaults."""

    profile: str  # name or YAML file; default paper
    data: Path | str | None  # data root; default $SUITE_DATA, else ./data
    runs: Path | str | None  # result store; default $SUITE_RUNS, else ./runs
    datasets: Names  # "cub,aircraft" or ["cub", "aircraft"]; default all
    methods: Names  # names or labels, in any case; default all
    only: str | None  # one cell, such as "byol/cub/0"
    seeds: Iterable[int]  # default the profile's
    overrides: Mapping[str, Any]  # {"pretrain.epochs": 5}, as --set
    stage1: Mapping[str, str]  # objective -> file, URL#sha256=... or public name; {"*": "public"} as --stage1 public
    plugins: Iterable[Path | str]  # files or folders, as --plugin


@dataclass(frozen=True)
class PlanRequest:
    """What a caller asked for, with every name resolved."""

    grid: GridSpec
    profile: Profile
    workspace: Workspace
    selection: Selection
    plugins: tuple[Path, ...]

    def plan(self, obtain_inputs: bool = False) -> Plan:
        """The plan. `obtain_inputs`: render missing synthetic datasets and download missing checkpoints."""
        return make_plan(self.workspace, self.grid, self.profile, self.selection, obtain_inputs, self.plugins)


def load_grid(grid: str, plugins: Iterable[Path | str] = ()) -> GridSpec:
    """A shipped grid by its name, or one from a YAML file, with the rows and datasets of plugins.

    Raises:
        UsageError: no such grid, or a file that does not fit; names the nearest match.
    """
    load_plugins([Path(path) for path in plugins])
    return with_plugins(_load_grid(grid))


def plan_request(grid: str, **selectors: Unpack[Selectors]) -> PlanRequest:
    """Resolve the names of a grid and of selectors.

    Raises:
        UsageError: an unknown name or a value that does not fit.
    """
    plugins = load_plugins([Path(path) for path in selectors.get("plugins", ())])
    return _request(with_plugins(_load_grid(grid)), plugins, "paper", selectors)


def evaluation_request(backbones: Iterable[str], measure: Names = (), **selectors: Unpack[Selectors]) -> PlanRequest:
    """Resolve the backbones, the measures and the selectors of an evaluation.

    Raises:
        UsageError: an unknown name, a value that does not fit, or no dataset.
    """
    plugins = load_plugins([Path(path) for path in selectors.get("plugins", ())])
    labelled = {name: name for name, info in DATASETS.items() if info.labelled}
    datasets = resolve_names("dataset", selectors.get("datasets", ()), labelled)
    if not datasets:
        raise UsageError(f"expected a dataset to evaluate on: {', '.join(labelled)}, or one that a plugin brings.")
    for name in datasets:
        if name not in labelled:
            raise unknown("dataset", name, labelled)
    measures = resolve_names("measure", measure, {name: name for name in MEASURES})
    return _request(evaluation_grid(backbones, datasets, measures), plugins, "evaluate", selectors)


def _request(spec: GridSpec, plugins: tuple[Path, ...], profile: str, selectors: Selectors) -> PlanRequest:
    labels = {row.label: row.method for row in spec.rows if row.series is None}
    only = selectors.get("only")
    selection = Selection(
        resolve_names("dataset", selectors.get("datasets", ()), {name: name for name in spec.datasets}),
        resolve_names("method", selectors.get("methods", ()), labels | {row.method: row.method for row in spec.rows}),
        None if only is None else composed(only),
        tuple(dict.fromkeys(selectors.get("seeds", ()))),
        dict(selectors.get("overrides", {})),
        dict(selectors.get("stage1", {})),
    )
    workspace = Workspace.of(_path(selectors.get("data")), _path(selectors.get("runs")))
    return PlanRequest(spec, load_profile(selectors.get("profile", profile)), workspace, selection, plugins)


def plan(grid: str, **selectors: Unpack[Selectors]) -> Plan:
    """The jobs of a run and the reason for each (`Plan.explain()`). Trains nothing and loads no torch.

    Raises:
        UsageError: an unknown name or a value that does not fit. Missing data are no error: `Plan.missing` names them.
    """
    return plan_request(grid, **selectors).plan()


def run(
    grid: str,
    *,
    workers: int | None = None,
    devices: int = 1,
    fail_fast: bool = False,
    engine: Engine | None = None,
    **selectors: Unpack[Selectors],
) -> RunOutcome:
    """Train every planned job that has no result yet, as `suite run` does.

    Call it below ``if __name__ == "__main__":`` in a script, since jobs run in processes of their own.

    Args:
        grid: name or YAML file.
        workers: jobs trained at the same time; default by the machine.
        devices: processes that train each job together.
        fail_fast: start no further job after a failure.
        engine: where jobs run; default this machine.
        selectors: as for `plan`.

    Returns:
        The outcome; `outcome.missing_cells()` names cells without a number and why, `outcome.exit_code` is 0 if there
        are none.

    Raises:
        DataError: data are missing or wrong; nothing was trained.
        UsageError: as `plan`.
    """
    from suite.execute.local.executor import LocalEngine
    from suite.execute.run import run_plan

    request = plan_request(grid, **selectors)
    engine = LocalEngine(workers, devices) if engine is None else engine
    return run_plan(request.plan(obtain_inputs=True), request.selection.overrides, engine, fail_fast)


def evaluate(
    backbones: Iterable[str],
    *,
    measure: Names = (),
    workers: int | None = None,
    engine: Engine | None = None,
    **selectors: Unpack[Selectors],
) -> RunOutcome:
    """Measure frozen backbones by kNN, a linear classifier, retrieval and plugins, as `suite evaluate` does.

    Nothing is pretrained or fine-tuned. Call it below ``if __name__ == "__main__":`` in a script.

    Args:
        backbones: each ``ARCH`` (random weights), ``ARCH=FILE`` or ``ARCH=URL#sha256=...``; ``NAME:`` before it names
            the row.
        measure: localisation, background or both, beside the other measures.
        workers: jobs run at the same time; default by the machine and the number of backbones.
        engine: where jobs run; default this machine.
        selectors: as for `plan`; `datasets` is required, the default profile is ``evaluate``.

    Returns:
        As `run`. The numbers are in `results(grid="evaluate")`.

    Raises:
        DataError: data or a weight file are missing or do not fit; nothing was measured.
        UsageError: an unknown name or a value that does not fit.
    """
    from suite.execute.local.executor import LocalEngine
    from suite.execute.local.machine import default_workers
    from suite.execute.run import run_plan

    request = evaluation_request(backbones, measure, **selectors)
    chosen = request.plan(obtain_inputs=True)
    if engine is None:  # one backbone gets all threads
        engine = LocalEngine(workers or min(default_workers(), max(1, len(chosen.cells))))
    return run_plan(chosen, request.selection.overrides, engine, fail_fast=False)


def results(runs: Path | str | None = None, grid: str | None = None, profile: str | None = None) -> pd.DataFrame:
    """Every number of a store, one row per cell, metric and seed: the columns of results.csv.

    `seed` and `n` are integers, `value` is a float (top-1 in percent). Only finished jobs have rows.
    """
    import pandas as pd

    store = Workspace.of(None, _path(runs)).store
    lines = result_lines(store, read_cells(store.root, grid, profile))
    table = {column: [getattr(line, column) for line in lines] for column in COLUMNS}
    types = {"seed": "int64", "value": "float64", "n": "int64"}
    return pd.DataFrame(table, columns=list(COLUMNS)).astype({name: types.get(name, "object") for name in COLUMNS})


def load_backbone(
    cell: str,
    grid: str | None = None,
    profile: str | None = None,
    runs: Path | str | None = None,
    plugins: Iterable[Path | str] = (),
) -> Backbone:
    """The pretrained backbone of a finished cell, on the CPU and in evaluation mode.

    It maps images [B, 3, H, W], normalised by ImageNet's mean and standard deviation, to features: `pooled(images)` is
    [B, dim]. For a row without pretraining it is the random initialisation that fine-tuning started from.

    Args:
        cell: such as ``byol_cvsa/cub/0``; without the seed if there is one only.
        grid: needed if several grids in the store have that cell.
        profile: needed if the grid was run with several.
        runs: result store; default $SUITE_RUNS, else ./runs.
        plugins: files that bring the backbone's family.

    Raises:
        UsageError: no such cell, or several.
        StoreError: not finished, or its weights are missing or damaged.
    """
    import torch

    from methods.args import BackboneArgs
    from suite.training.networks import frozen_backbone

    load_plugins([Path(path) for path in plugins])
    store = Workspace.of(None, _path(runs)).store
    record = _record(store.root, cell, grid, profile)
    stages = [key for role, key in record.roles.items() if role.startswith("stage ")]
    init = stages[-1] if stages else None
    weights = None if init is None else store.weights(init, "backbone.safetensors")
    spec = _Frozen(BackboneArgs.model_validate(record.recipe["backbone"]), record.seed, init)
    return frozen_backbone(spec, weights, torch.device("cpu"))


def resolve_names(what: str, typed: Names, candidates: Mapping[str, str]) -> tuple[str, ...]:
    """The names behind what was typed: joined by commas or one by one, in any case.

    A name that is not known stays as it is, for the error that suggests the nearest one. `what` they name: for errors.

    Raises:
        UsageError: something was typed that has no name in it, such as an empty string. It must not mean all names.
    """
    by_lower_case = {composed(name).lower(): meant for name, meant in candidates.items()}
    texts = [typed] if isinstance(typed, str) else list(typed)
    parts = [composed(part.strip()) for text in texts for part in ([text] if text in candidates else text.split(","))]
    names = tuple(dict.fromkeys(by_lower_case.get(part.lower(), part) for part in parts if part))
    if texts and not names:
        raise UsageError(f"expected the name of a {what}, or several joined by commas, got '{texts[0]}'.")
    return names


@dataclass(frozen=True)
class _Frozen:
    """What `frozen_backbone` reads of a spec."""

    backbone: Any
    seed: int
    init: str | None


def _record(root: Path, cell: str, grid: str | None, profile: str | None) -> CellRecord:
    if grid is not None:
        profile = profile_of(root, grid, profile)
    records = read_cells(root, grid, profile)
    matches = [record for record in records if cell in {record.id, "/".join(record.row_and_dataset)}]
    if not matches:
        raise unknown("cell", cell, {record.id for record in records}, f"(recorded in {root})")
    if len(matches) > 1:
        raise UsageError(f"several cells are called {cell}: {_listing(matches)}. Name seed, grid and profile.")
    return matches[0]


def _listing(records: Sequence[CellRecord]) -> str:
    return ", ".join(f"{record.id} (grid {record.grid}, profile {record.profile})" for record in records[:5])


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)

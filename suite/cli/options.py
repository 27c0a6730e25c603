"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.data.catalogue import DATASETS
from suite.paths import path_option

_EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def _shipped(folder: str) -> list[str]:
    """Names of the YAML files in a folder of experiments/, for shell completion."""
    return sorted(path.stem for path in (_EXPERIMENTS / folder).glob("*.yaml"))


def _grids(incomplete: str) -> list[str]:
    return [name for name in _shipped("grids") if name.startswith(incomplete)]


def _profiles(incomplete: str) -> list[str]:
    return [name for name in _shipped("profiles") if name.startswith(incomplete)]


def _datasets(incomplete: str) -> list[str]:
    return [name for name in DATASETS if name.startswith(incomplete)]


Grid = Annotated[str, typer.Option("--grid", help="name of a shipped grid, or a YAML file", autocompletion=_grids)]
OptionalGrid = Annotated[
    str | None, typer.Option("--grid", help="name of a shipped grid, or a YAML file", autocompletion=_grids)
]
ProfileName = Annotated[
    str,
    typer.Option("--profile", help="paper, small, demo, ... (suite list), or a YAML file", autocompletion=_profiles),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", parser=path_option("--data"), metavar="PATH", help="data root [default: $SUITE_DATA, else ./data]"
    ),
]
Runs = Annotated[
    Path | None,
    typer.Option(
        "--runs", parser=path_option("--runs"), metavar="PATH", help="result store [default: $SUITE_RUNS, else ./runs]"
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="only these datasets; repeatable, or cub,cars", autocompletion=_datasets),
]
Methods = Annotated[list[str] | None, typer.Option("--method", help="only these methods; repeatable, or byol,simclr")]
Only = Annotated[str | None, typer.Option("--only", help="only this cell, such as byol/cub or byol/cub/0")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="such as 0,1,2 or 0-4 [default: the profile's]")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        parser=path_option("--plugin"),
        metavar="PATH",
        help="Python file that adds methods, views, backbones, protocols or datasets, or an image folder; repeatable",
    ),
]
Stage1 = Annotated[
    list[str] | None,
    typer.Option(
        "--stage1",
        help="checkpoint that replaces a first stage: OBJECTIVE=FILE, OBJECTIVE=URL#sha256=..., OBJECTIVE=NAME of a "
        "public one (`suite data list`), or public: all rows that have one; repeatable",
    ),
]
Devices = Annotated[int, typer.Option("--devices", min=1, help="GPUs (or CPU processes) that train each job together")]
Loaders = Annotated[
    int | None,
    typer.Option(
        "--loaders",
        min=0,
        help="threads per process that make batches ahead; 0: within the step [default: the cores beside a GPU; 1 on a "
        "CPU]",
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE, such as pretrain.epochs=5; repeatable")]
Executor = Annotated[
    str, typer.Option("--executor", help="local: this machine; slurm: a Slurm cluster; ray: a Ray cluster, or KubeRay")
]
Site = Annotated[
    str | None, typer.Option("--site", help="slurm: YAML file that describes the cluster [default: $SUITE_SITE]")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="ray: cluster to join [default: $RAY_ADDRESS, else a cluster of this machine]"),
]
GpusPerJob = Annotated[
    float | None,
    typer.Option("--gpus-per-job", help="ray: GPUs per device of a job, such as 0.5 [default: 1 where there are GPUs]"),
]

"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Grid = Annotated[str, typer.Option("--grid", help="name of a shipped grid, or a YAML file")]
ProfileName = Annotated[str, typer.Option("--profile", help="paper, small, demo, or a YAML file")]
Data = Annotated[Path | None, typer.Option("--data", help="data root [default: $SUITE_DATA, else ./data]")]
Runs = Annotated[Path | None, typer.Option("--runs", help="result store [default: $SUITE_RUNS, else ./runs]")]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="only this dataset; repeatable")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="only this method; repeatable")]
Only = Annotated[str | None, typer.Option("--only", help="only this cell, such as byol/cub or byol/cub/0")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="such as 0,1,2 [default: the profile's]")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file or image folder with an own method or dataset")
]
Stage1 = Annotated[
    list[str] | None,
    typer.Option("--stage1", help="OBJECTIVE=FILE or URL#sha256=...: checkpoint in place of a first stage; repeatable"),
]
Devices = Annotated[int, typer.Option("--devices", min=1, help="GPUs, or processes on a CPU, that train each job")]
Set = Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE, such as pretrain.epochs=5; repeatable")]

"""`suite evaluate`: frozen backbones of torchvision, of files and of plugins, measured without any training stage."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

import suite
from methods.backbones.registry import BackboneArgs, build_backbone
from suite.errors import DataError, UsageError
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.evaluation import evaluation_grid
from suite.grid.profile import load_profile
from suite.training.schedule import derived_seed

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "nearest_mean_protocol.py"


def invoke(*arguments: object, expect: int = 0) -> str:
    """Standard output of a command, in a process of its own: a plugin stays registered for the life of a process."""
    command = [sys.executable, "-m", "suite", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == expect, result.stdout + result.stderr
    return result.stdout


def resnet18_of_seed_5() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return resnet18().state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files: the initialisation of seed 0 under torchvision's key names, and a torchvision network of other weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(derived_seed(0, "init"))
    same = build_backbone(BackboneArgs.model_validate({"arch": "resnet18"})).state_dict()
    other = resnet18_of_seed_5()
    files = {"same": folder / "same.safetensors", "other": folder / "other.pth"}
    save_file({name: tensor.contiguous() for name, tensor in same.items()}, files["same"])
    torch.save(other, files["other"])
    return files


@pytest.fixture(scope="module")
def evaluated(
    drawn: Path, tiny_profile: Path, weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[object]]:
    runs = tmp_path_factory.mktemp("evaluated") / "runs"
    command = [
        "evaluate", "resnet18", f"resnet18={weights['same']}", f"third:resnet18={weights['other']}", "--dataset", "CUB",
        "--profile", tiny_profile, "--data", drawn, "--runs", runs, "--workers", 1, "--plugin", PLUGIN,
        "--set", "probe.retrieval=cosine",
    ]  # fmt: skip
    shown = invoke(*command)
    assert "resnet18_same" in shown
    assert "Linear" in shown
    assert "Rank-1" in shown
    assert "Nearest class mean" in shown
    return runs, command


def read(runs: Path) -> dict[tuple[str, str], float]:
    with (runs / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["grid"] for line in lines} == {"evaluate"}
    return {(line["row"], line["protocol"] + "/" + line["metric"]): float(line["value"]) for line in lines}


def test_weights_of_a_file_are_measured(evaluated: tuple[Path, list[object]]) -> None:
    numbers = read(evaluated[0])
    measures = {"knn/top1", "linear/top1", "retrieval/rank1", "retrieval/rank5", "retrieval/map"}
    measures |= {"nearest_mean/top1", "nearest_mean/top5"}
    assert set(numbers) == {(row, name) for row in ("resnet18", "resnet18_same", "third") for name in measures}
    for name in measures:  # the file holds the very weights that the random row starts from
        assert numbers["resnet18", name] == numbers["resnet18_same", name]
    assert numbers["third", "retrieval/map"] != numbers["resnet18", "retrieval/map"]


def test_nothing_is_trained_or_measured_twice(evaluated: tuple[Path, list[object]]) -> None:
    runs, command = evaluated
    outcome = json.loads(invoke(*command, "--json"))
    assert (outcome["cells"], outcome["trained"], outcome["cached"], outcome["holes"]) == (3, 0, 8, {})
    kinds = {yaml.safe_load(path.read_text("utf-8"))["spec"]["kind"] for path in runs.glob("*/job.yaml")}
    assert kinds == {"import", "probe", "nearest_mean"}


def test_the_report_has_the_backbones_as_rows(evaluated: tuple[Path, list[object]]) -> None:
    runs, _ = evaluated
    invoke("report", "--runs", runs)
    with (runs / "report" / "evaluate_probe.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines if line["metric"] == "knn"] == ["resnet18", "resnet18_same", "third"]
    with (runs / "report" / "evaluate_retrieval.csv").open(encoding="utf-8", newline="") as file:
        ranks = {(line["row"], line["metric"]): float(line["mean"]) for line in csv.DictReader(file)}
    assert ranks["third", "rank5"] == read(runs)["third", "retrieval/rank5"]
    assert (runs / "report" / "evaluate_nearest_mean.tex").is_file()
    with (runs / "report" / "evaluate.csv").open(encoding="utf-8", newline="") as file:
        table = {line["row"]: line for line in csv.DictReader(file)}
    assert table["third"]["protocol"] == "linear"
    assert float(table["third"]["mean"]) == read(runs)["third", "linear/top1"]
    assert table["third"]["remark"] == ""  # neither a hole nor outdated
    page = (runs / "report" / "index.html").read_text("utf-8")
    assert "resnet18_same" in page
    assert "3 of 3 cells complete" in page


def test_the_report_from_mlflow_and_the_export(evaluated: tuple[Path, list[object]], tmp_path: Path) -> None:
    runs, _ = evaluated
    uri = f"sqlite:///{runs}/mlflow.db"
    invoke("report", "--runs", runs)
    invoke("report", "--grid", "evaluate", "--from-mlflow", uri, "--out", tmp_path / "report")
    for name in ("evaluate.csv", "evaluate_probe.csv", "evaluate_retrieval.csv", "evaluate_retrieval.tex"):
        assert (tmp_path / "report" / name).read_bytes() == (runs / "report" / name).read_bytes()
    invoke("export", "--grid", "evaluate", "--cell", "third/cub/0", "--runs", runs, "--out", tmp_path / "out")
    exported = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(exported["conv1.weight"], resnet18_of_seed_5()["conv1.weight"])
    command = ["export", "--grid", "evaluate", "--cell", "third/cub/0", "--runs", runs, "--out", tmp_path / "out"]
    invoke(*command, "--stage", "finetuned", expect=2)


def test_status_and_forget(evaluated: tuple[Path, list[object]]) -> None:
    runs, command = evaluated
    assert "evaluate (tiny): 3 of 3 cells complete" in invoke("status", "--runs", runs)
    invoke("forget", "third/cub/0", "--runs", runs)
    assert ("third", "knn/top1") not in read(runs)
    assert json.loads(invoke(*command, "--json"))["trained"] > 0


def test_from_python(drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    outcome = suite.evaluate(
        ["resnet10"], datasets="cub", profile=str(tiny_profile), data=drawn, runs=tmp_path, seeds=[3], workers=1
    )
    assert outcome.exit_code == 0
    numbers = suite.results(tmp_path, grid="evaluate")
    assert set(numbers["protocol"]) == {"knn", "linear"}
    assert set(numbers["seed"]) == {3}
    assert suite.load_backbone("resnet10/cub/3", runs=tmp_path).dim == 512


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("resnet19", "did you mean 'resnet18'"),
        ("resnet18=", "expected a file"),
        ("a b:resnet18", "a name consists of letters"),
        ("resnet18=/nowhere/weights.pth", "does not exist"),
    ],
)
def test_mistakes(backbone: str, said: str, drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    with pytest.raises((UsageError, DataError), match=said):
        suite.evaluate([backbone], datasets="cub", profile=str(tiny_profile), data=drawn, runs=tmp_path)
    assert not list(tmp_path.glob("*/job.yaml"))


@pytest.mark.parametrize(
    ("backbone", "row"),
    [
        ("resnet18=a/b.pth.tar", "resnet18_b"),
        ("resnet18=resnet18-f37072fd.pth", "resnet18-f37072fd"),  # the architecture is named once
        ("resnet50=https://example.org/w.bin?raw=1#sha256=" + "0" * 64, "resnet50_w.bin_raw_1"),
        ("own:resnet18=b.pt", "own"),
    ],
)
def test_names_of_rows(backbone: str, row: str) -> None:
    assert [part.name for part in evaluation_grid([backbone], ["cub"]).rows] == [row]


def test_a_dataset_and_distinct_names_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a dataset"):
        suite.evaluate(["resnet18"], runs=tmp_path)
    with pytest.raises(UsageError, match="two backbones are called 'resnet18_w'"):
        suite.evaluate(["resnet18=a/w.pth", "resnet18=b/w.pth"], datasets="cub", runs=tmp_path)


def test_weights_of_another_architecture_are_refused(
    drawn: Path, tiny_profile: Path, weights: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="import resnet50_other"):
        suite.evaluate(
            [f"resnet50={weights['other']}"], datasets="cub", profile=str(tiny_profile), data=drawn, runs=tmp_path
        )


def test_the_profile_measures_the_published_network() -> None:
    (cell,) = cells(evaluation_grid(["resnet18"], ["cub"]), load_profile("small"), Selection())
    assert cell.recipe.backbone.model_dump() == {"arch": "resnet18", "width": 64, "stem": "imagenet"}
    assert (cell.recipe.localisation, cell.recipe.background, cell.recipe.saliency) == (None, None, None)


def test_a_frozen_row_of_a_grid_is_pretrained_but_not_fine_tuned(tiny_profile: Path) -> None:
    grid = suite.load_grid("paper_table1")
    frozen = grid.model_copy(update={"rows": tuple(row.model_copy(update={"frozen": True}) for row in grid.rows)})
    (cell,) = cells(frozen, load_profile(str(tiny_profile)), Selection(methods=("byol",), datasets=("cub",)))
    jobs: Any = jobs_of(cell, {"cub": "0" * 64}, {})
    assert [job.spec.kind for job in jobs.jobs] == ["pretrain", "probe"]
    assert list(jobs.measured) == ["probe"]

"""What users type for datasets, methods, seeds and fields, and the errors that answer mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suite.cli import app
from suite.cli.select import SelectorOptions
from suite.errors import UsageError, unknown

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def selectors(**typed: object) -> SelectorOptions:
    empty = dict.fromkeys(("data", "runs", "datasets", "methods", "only", "seeds", "overrides"))
    return SelectorOptions(**({"grid": "paper_table1", "profile": "small"} | empty | typed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["BYOL"], ("byol",)),
        (["moco.v2", "Byol+CVSA"], ("moco_v2", "byol_cvsa")),
        (["byol, simclr", "byol"], ("byol", "simclr")),
    ],
)
def test_methods_by_label_in_any_case_and_joined_by_commas(typed: list[str], expected: tuple[str, ...]) -> None:
    assert selectors(methods=typed).selection.methods == expected


@pytest.mark.parametrize("selector", ["datasets", "methods"])
@pytest.mark.parametrize("typed", [[""], [" , "], ["", ""]])
def test_a_selector_without_a_name_does_not_select_everything(selector: str, typed: list[str]) -> None:
    """Such as ``--method "$METHOD"`` where the variable is not set."""
    with pytest.raises(UsageError, match=rf"expected the name of a {selector[:-1]}, or several .*, got '{typed[0]}'"):
        _ = selectors(**{selector: typed}).selection


def test_datasets_joined_by_commas() -> None:
    assert selectors(datasets=["CUB,aircraft"]).selection.datasets == ("cub", "aircraft")


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("5,0-2,1", (5, 0, 1, 2)), ("3-3", (3,))]
)
def test_seeds_as_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert selectors(seeds=text).selection.seeds == seeds


@pytest.mark.parametrize("text", ["4-1", "-1", "a", "1,,2", "1-2-3", ""])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"0,1,2 or a range such as 0-4, got"):
        _ = selectors(seeds=text).selection


def test_a_range_of_very_many_seeds_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="more than 1000 seeds in a range"):
        _ = selectors(seeds="0-99999999999").selection


def test_two_checkpoints_for_one_first_stage_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--stage1 names two checkpoints for byol: a\.pth and b\.pth"):
        _ = selectors(grid="paper_table2", stage1=["byol=a.pth", "byol=b.pth"]).selection


def test_an_error_names_five_of_many() -> None:
    names = [f"pretrain.field_{number:02}" for number in range(40)]
    text = str(unknown("field", "pretrain.feild_07", names))
    assert "did you mean 'pretrain.field_07'?" in text
    assert "Nearest of 40: " in text
    assert text.count("pretrain.field_") == 6  # the suggestion, and five


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"methods": ["random"], "overrides": ["pretrain.epochs=1"]}, "the selected rows have no pretraining"),
        ({"methods": ["byol"], "overrides": ["alignment.weight=2"]}, "none of the selected rows has an alignment"),
        ({"methods": ["byol"], "overrides": ["stage1.pretrain.epochs=2"]}, "none of the selected rows has a first st"),
        ({"methods": ["byol"], "stage1": ["byol=x.pth"]}, "--stage1 replaces the first stage .* paper_table2"),
        ({"methods": ["byol"], "overrides": ["pretrain.epoch=2"]}, r"did you mean 'pretrain\.epochs'"),
    ],
)
def test_errors_name_the_reason(typed: dict[str, list[str]], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        selectors(data=tmp_path, runs=tmp_path, datasets=["cub"], **typed).plan(obtain_inputs=False)


def test_a_plugin_that_registers_nothing_is_an_error(tmp_path: Path) -> None:
    plugin = tmp_path / "empty.py"
    plugin.write_text("NUMBER = 3\n", "utf-8")
    with pytest.raises(UsageError, match="registers nothing: expected a call such as register_objective"):
        _ = selectors(plugins=[plugin]).selection


def test_plan_needs_no_folder_that_can_be_written(drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    """The result store lies below a file, so that nothing can be made there, also by root."""
    (tmp_path / "file").write_text("", "utf-8")
    command = ["plan", "--grid", "paper_table1", "--dataset", "cub", "--method", "byol", "--profile", str(tiny_profile)]
    done = CliRunner().invoke(app, [*command, "--data", str(drawn), "--runs", str(tmp_path / "file" / "runs")])
    assert done.exit_code == 0, done.output
    assert "never run" in done.output


def test_paper_profile_without_a_gpu_names_the_small_one(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    batches = ["--set", "pretrain.batch_size=4", "--set", "finetune.batch_size=4"]  # not larger than the split
    command = ["plan", "--grid", "paper_table1", "--dataset", "cub", "--method", "byol", "--data", str(drawn), *batches]
    paper = CliRunner().invoke(app, [*command, "--runs", str(tmp_path)])
    assert "warning: profile paper is made for GPUs" in paper.stderr
    assert "--profile small" in paper.stderr
    small = CliRunner().invoke(app, [*command, "--runs", str(tmp_path), "--profile", "small"])
    assert "warning" not in small.stderr
    monkeypatch.setattr("suite.execute.local.machine.gpu_count", lambda: 1)
    with_gpu = CliRunner().invoke(app, [*command, "--runs", str(tmp_path)])
    assert "warning" not in with_gpu.stderr


def test_a_batch_larger_than_its_training_split_is_a_warning_with_what_to_type(drawn: Path, tmp_path: Path) -> None:
    selected = ["--grid", "paper_table1", "--dataset", "cub", "--method", "byol,byol_cvsa", "--data", str(drawn)]
    command = ["plan", *selected, "--runs", str(tmp_path)]
    paper = CliRunner().invoke(app, command)
    assert paper.exit_code == 0, paper.output
    images = len(selectors(data=drawn, runs=tmp_path, datasets=["cub"]).plan(obtain_inputs=False).datasets["cub"].train)
    line = next(line for line in paper.stderr.splitlines() if line.startswith("warning: pretrain byol cub s0"))
    assert "will fail: a batch of 256 images is larger than the training split of cub, which has" in line
    assert f"--set pretrain.batch_size={images}" in line
    smaller = CliRunner().invoke(app, [*command, "--set", "pretrain.batch_size=4", "--set", "finetune.batch_size=4"])
    assert "will fail" not in smaller.stderr


@pytest.mark.parametrize("example", sorted({path.name for path in EXAMPLES.glob("*.py")} - {"inline_engine.py"}))
def test_every_plugin_among_the_examples_counts_as_registering_something(example: str, tmp_path: Path) -> None:
    """In a process of its own, since plugins stay loaded."""
    if example == "vit_backbone.py":
        pytest.importorskip("timm")
    table = "file,label,split\na.png,x,train\nb.png,x,test\n"
    (tmp_path / "labels.csv").write_text(table, "utf-8")
    code = (
        "import sys; from pathlib import Path; from suite.plugin import load_plugins; load_plugins([Path(sys.argv[1])])"
    )
    command = [sys.executable, "-c", code, str(EXAMPLES / example)]
    environment = os.environ | {"CSV_DATASET": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

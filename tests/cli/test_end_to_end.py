"""The product as a user runs it, on tiny drawn data: run, run again, plan, status, MLflow, report, and mistakes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

GRID = ["--grid", "paper_table1"]
METHODS = ["--method", "random", "--method", "byol", "--method", "byol_cvsa"]


def suite(*arguments: str | Path, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    done = subprocess.run(
        [sys.executable, "-c", "from suite.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> tuple[Path, dict[str, Any]]:
    """Three rows on two datasets, trained by two workers."""
    runs = tmp_path_factory.mktemp("finished")
    done = suite("run", *GRID, *METHODS, *where(drawn, tiny_profile, runs), "--workers", "2", "--json")
    return runs, json.loads(done.stdout)


def where(drawn: Path, profile: Path, runs: Path) -> list[str | Path]:
    return ["--profile", profile, "--data", drawn, "--runs", runs, "--dataset", "cub", "--dataset", "cars"]


def read(runs: Path) -> list[dict[str, str]]:
    with (runs / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_cell_has_a_number(finished: tuple[Path, dict[str, Any]]) -> None:
    runs, outcome = finished
    assert (outcome["cells"], outcome["trained"], outcome["cached"], outcome["holes"]) == (6, 16, 0, {})
    lines = read(runs)
    assert ",".join(lines[0]) == "grid,row,method,dataset,stage1,stage2,profile,protocol,seed,metric,value,n,key"
    assert {(line["row"], line["dataset"]) for line in lines} == {
        (row, data) for row in ("random", "byol", "byol_cvsa") for data in ("cub", "cars")
    }
    assert Counter(line["protocol"] for line in lines) == {"finetune": 6, "knn": 6, "linear": 6}
    for line in lines:
        assert (line["metric"], line["n"], line["profile"]) == ("top1", "12", "tiny")
        hits = float(line["value"]) * 12 / 100
        assert hits == pytest.approx(round(hits))  # correct / N, nothing averaged over batches
        assert (runs / line["key"] / "result.json").is_file()
        assert line["stage2"] == ("no" if line["row"] == "random" else "yes")


def test_a_job_folder_holds_what_a_reader_needs(finished: tuple[Path, dict[str, Any]]) -> None:
    runs, _ = finished
    for line in read(runs):
        if line["protocol"] != "finetune":
            continue
        folder = runs / line["key"]
        names = {path.name for path in folder.iterdir()}
        assert {"job.yaml", "env.json", "metrics.jsonl", "result.json", "log.txt", "checkpoint"} <= names
        assert (folder / "checkpoint" / "model.safetensors").is_file()
        assert not (folder / "failure.json").exists()


def test_running_again_trains_nothing(finished: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path) -> None:
    runs, _ = finished
    before = (runs / "results.csv").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    again = json.loads(suite("run", *GRID, *METHODS, *where(drawn, tiny_profile, runs), "--json").stdout)
    assert (again["trained"], again["cached"]) == (0, 16)
    assert (runs / "results.csv").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")} == stamps


def test_a_deleted_cache_costs_only_time(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    command = ["run", *GRID, *where(drawn, tiny_profile, tmp_path), "--only", "random/cub", "--json"]
    suite(*command)
    shutil.rmtree(tmp_path / "cache")
    table = suite("report", *GRID, "--runs", tmp_path, "--no-figures").stdout
    assert "3/200 classes" in " ".join(table.split())
    assert "same `suite run`" in suite("report", *GRID, "--runs", tmp_path, expect=2).stderr
    assert json.loads(suite(*command).stdout)["trained"] == 0
    suite("report", *GRID, "--runs", tmp_path, "--images", "1")


def test_images_decoded_on_demand_give_the_same_weights(
    finished: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path, tmp_path: Path
) -> None:
    """With saliency maps, by the same keys and to the same bits; the plan tells both forms and their disk."""
    command = ["--grid", "paper_table1", *where(drawn, tiny_profile, tmp_path), "--only", "byol_cvsa/cars", "--json"]

    def expected(setting: str) -> tuple[dict[str, Any], int]:
        forecast = json.loads(suite("plan", *command, SUITE_DECODE=setting).stdout)["forecast"]
        (store,) = forecast["stores"]
        return store, forecast["disk_bytes"] - store["bytes_to_write"]

    demand, weights = expected("demand")
    ahead, same = expected("auto")
    assert weights == same > 0
    assert (demand["ahead"], ahead["ahead"]) == (False, True)
    assert demand["decoded_bytes"] == ahead["decoded_bytes"] < ahead["bytes_to_write"]  # and the maps
    assert demand["bytes_to_write"] < ahead["bytes_to_write"] / 5
    assert "cars is decoded on demand" in suite("plan", *command[:-1], SUITE_DECODE="0").stdout

    suite("run", *command, SUITE_DECODE="demand")
    assert not list(tmp_path.rglob("*.u8"))
    written = sum(file.stat().st_size for file in (tmp_path / "cache/images").rglob("*") if file.is_file())
    assert written < 3 * demand["bytes_to_write"] + 10_000  # a few hundred bytes of headers are no estimate's fault
    runs, _ = finished
    for file in tmp_path.glob("*/checkpoint/*.safetensors"):
        assert file.read_bytes() == (runs / file.relative_to(tmp_path)).read_bytes()
    assert len(list(tmp_path.glob("*/checkpoint/*.safetensors"))) >= 2
    mine = [line for line in read(runs) if (line["row"], line["dataset"]) == ("byol_cvsa", "cars")]
    assert read(tmp_path) == mine
    suite("report", *GRID, "--runs", tmp_path, "--images", "1", SUITE_DECODE="demand")


def test_a_file_that_disappears_between_check_and_training_is_named(
    drawn: Path, tiny_profile: Path, tmp_path: Path
) -> None:
    shutil.copytree(drawn, tmp_path / "data")
    command = ["run", *GRID, *where(tmp_path / "data", tiny_profile, tmp_path / "runs"), "--only", "random/cub"]
    suite(*command, SUITE_DECODE="demand")
    (finetuned,) = (file.parent for file in (tmp_path / "runs").glob("*/checkpoint/model.safetensors"))
    shutil.rmtree(finetuned.parent)
    folder = next((tmp_path / "runs/cache/images").glob("cub-*px-files-v*"))
    lengths = folder / "lengths.npy"
    lengths.write_bytes(lengths.read_bytes()[:-8] + (77).to_bytes(8, "little"))  # as if the last file had been longer
    failed = suite(*command, SUITE_DECODE="demand", expect=1)
    assert "bytes, but had 77 when the dataset was checked" in failed.stdout + failed.stderr


def test_plan_and_status_show_the_jobs(finished: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path) -> None:
    runs, _ = finished
    plan = suite("plan", *GRID, *METHODS, *where(drawn, tiny_profile, runs), "--json", "--seeds", "0,1")
    jobs = json.loads(plan.stdout)["jobs"]
    assert [sum(job["status"] == state for job in jobs) for state in ("done", "new")] == [16, 16]
    assert "paper_table1 (tiny): 6 of 6 cells complete; jobs: 16 done" in suite("status", "--runs", runs).stdout
    assert suite("status", "--runs", runs, "--all").stdout.count("done  ") == 16
    resolved = suite(
        "plan", *GRID, *METHODS, *where(drawn, tiny_profile, runs), "--resolved", "--set", "views.scale=0.3"
    )
    assert "scale: 0.3  # --set" in resolved.stdout


def test_plan_says_why_and_how_long(finished: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path) -> None:
    runs, _ = finished
    command = ["plan", *GRID, *METHODS, *where(drawn, tiny_profile, runs)]
    changed = json.loads(suite(*command, "--set", "pretrain.epochs=4", "--json").stdout)
    reasons = {job["name"]: job["reason"] for job in changed["jobs"] if job["status"] == "new"}
    assert reasons["pretrain byol cub s0"] == "train.epochs 2 -> 4"
    assert reasons["finetune byol cub s0"] == "its starting weights changed"
    assert not any("random" in name for name in reasons)
    times = {job["name"]: job["seconds"] for job in changed["jobs"]}
    assert times["finetune random cub s0"] == 0
    assert all(times[name] > 0 for name in reasons)
    forecast = changed["forecast"]
    assert forecast["sources"] == {"measured": 12}
    assert forecast["wall_seconds"] <= forecast["seconds"] == pytest.approx(sum(times.values()))
    text = suite(*command, "--seeds", "0,1").stdout
    assert "16 done" in text
    assert "measured on finished jobs of the same kind (16 jobs)" in text


def test_plan_without_data_still_says_how_long(tmp_path: Path) -> None:
    done = suite("plan", *GRID, "--profile", "paper", "--data", tmp_path, "--runs", tmp_path / "runs", expect=2)
    assert "120 cells, 588 jobs, 0 done (the data of 120 cells are missing" in done.stdout
    assert "from start to end" in done.stdout
    assert "guesses from multiply-adds" in done.stdout
    assert "GPU-hours: " in done.stdout
    assert "missing cub:" in done.stdout


def test_plan_of_synthetic_data_that_are_not_drawn(tmp_path: Path) -> None:
    done = suite(
        "plan", *GRID, "--profile", "demo", "--dataset", "cub", "--data", tmp_path, "--runs", tmp_path / "runs"
    )
    assert "not rendered yet: cub. `suite run` renders them, or now: suite data synth" in done.stdout
    assert "fetch" not in done.stdout


def test_mlflow_holds_jobs_and_cells(finished: tuple[Path, dict[str, Any]]) -> None:
    from mlflow import MlflowClient

    runs, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paper_table1")
    assert experiment is not None
    everything = client.search_runs([experiment.experiment_id], max_results=100)
    cells = [run for run in everything if "suite.cell" in run.data.tags]
    jobs = {run.info.run_id: run for run in everything if "suite.key" in run.data.tags}
    assert (len(cells), len(jobs)) == (6, 16)
    assert {run.info.status for run in everything} == {"FINISHED"}
    for cell in cells:
        named = cell.data.tags["suite.jobs"].split(",")
        assert set(named) <= jobs.keys()
        finetune, probe = (jobs[name] for name in named[-2:])
        assert cell.data.metrics == {**final_metrics(finetune), **final_metrics(probe)}
        value = next(line["value"] for line in read(runs) if line["key"] == finetune.data.tags["suite.key"])
        assert cell.data.metrics["final.top1"] == pytest.approx(float(value))
    pretraining = next(run for run in jobs.values() if run.data.tags["suite.kind"] == "pretrain")
    history = client.get_metric_history(pretraining.info.run_id, "loss")
    assert [point.step for point in history] == [3, 6]
    assert pretraining.data.params["backbone.width"] == "8"
    artifacts = {item.path for item in client.list_artifacts(pretraining.info.run_id)}
    assert {"job.yaml", "env.json", "checkpoint"} <= artifacts
    stored = {item.path for item in client.list_artifacts(pretraining.info.run_id, "checkpoint")}
    assert stored == {"checkpoint/backbone.safetensors"}


def final_metrics(run: Any) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if name.startswith("final.")}


def mlflow_statuses(runs: Path) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paper_table1")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=100)
    return {str(run.info.run_name): run.info.status for run in found}


def test_sync_makes_a_new_tracker_complete_and_repeats_nothing(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs, _ = finished
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    first = suite("sync", "--runs", runs, MLFLOW_TRACKING_URI=uri).stdout
    assert first.startswith("22 MLflow runs")  # 16 jobs and 6 cells
    assert suite("sync", "--runs", runs, MLFLOW_TRACKING_URI=uri).stdout.startswith("0 MLflow runs")


def test_training_goes_on_when_the_tracker_is_down(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    command = ["run", *GRID, *where(drawn, tiny_profile, tmp_path), "--only", "random/cub"]
    done = suite(*command, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "Training goes on" in done.stderr
    assert [line["protocol"] for line in read(tmp_path)] == ["finetune", "knn", "linear"]


def test_a_report_from_a_server_needs_the_grids_names(tmp_path: Path) -> None:
    done = suite("report", "--from-mlflow", f"sqlite:///{tmp_path / 'none.db'}", expect=2)
    assert "needs the grids by name: --grid NAME" in done.stderr


def test_report_writes_table_and_figures(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    runs, _ = finished
    done = suite("report", *GRID, "--runs", runs, "--out", tmp_path, "--images", "2")
    assert "BYOL+CVSA" in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    figures = {f"paper_table1_gradcam_{data}.{kind}" for data in ("cub", "cars") for kind in ("pdf", "png", "json")}
    tables = {f"paper_table1{of}.{kind}" for of in ("", "_probe") for kind in ("tex", "csv")}
    assert names == tables | {"index.html"} | figures
    text = (tmp_path / "paper_table1.tex").read_text()
    for needed in ("synthetic images, not photographs", "oracle", "Profile tiny"):
        assert needed in " ".join(text.split())
    record = json.loads((tmp_path / "paper_table1_gradcam_cub.json").read_text())
    assert len(record["images"]) == 2
    assert list(record["networks"]) == ["random", "byol", "byol_cvsa"]
    again = tmp_path / "again"
    suite("report", *GRID, "--runs", runs, "--out", again, "--images", "2")
    for name in names:
        one, other = (
            re.sub(rb"20\d\d-\d\d-\d\d \d\d:\d\d UTC|suite report --grid [^<]+", b"", (folder / name).read_bytes())
            for folder in (tmp_path, again)
        )
        assert one == other, name  # but for the date and the command on the page


def test_report_from_mlflow_is_the_same(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    runs, _ = finished
    suite("report", *GRID, "--runs", runs, "--out", tmp_path / "store", "--no-figures")
    uri = f"sqlite:///{runs / 'mlflow.db'}"
    done = suite("report", *GRID, "--from-mlflow", uri, "--out", tmp_path / "mlflow")
    assert "neither weights nor images" in done.stderr
    for name in ("paper_table1.tex", "paper_table1.csv"):
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "mlflow" / name).read_bytes()


def test_export_of_what_was_trained(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    runs, _ = finished
    cell = ["--cell", "byol_cvsa/cub/0", "--runs", runs, "--out", tmp_path]
    assert len(suite("export", *GRID, *cell, "--stage", "finetuned").stdout.splitlines()) == 3
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["head"]["classes"], len(config["head"]["names"])) == (3, 3)
    assert [job["spec"]["kind"] for job in config["jobs"]] == ["pretrain", "finetune"]
    assert "rendered by a program" in " ".join((tmp_path / "README.md").read_text().split()).lower()
    assert "did you mean 'finetuned'" in suite("export", *GRID, *cell, "--stage", "finetune", expect=2).stderr


def test_report_draws_the_maps_and_images_it_is_asked_for(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs, _ = finished
    command = ["report", *GRID, "--runs", runs, "--out", tmp_path, "--colormap", "jet"]
    suite(*command, "--cam", "layercam", "--cam", "gradcam++", "--images", "1", "--image-seed", "3")
    record = json.loads((tmp_path / "paper_table1_layercam_cub.json").read_text())
    assert (record["cam"], record["colormap"], record["image_seed"]) == ("layercam", "jet", 3)
    image = Path(record["images"][0]).name
    suite(*command, "--image", image)
    named = json.loads((tmp_path / "paper_table1_gradcam_cub.json").read_text())
    assert (named["images"], named["image_seed"]) == (record["images"], None)
    assert json.loads((tmp_path / "paper_table1_gradcam_cars.json").read_text())["image_seed"] == 0
    assert image in (tmp_path / "index.html").read_text("utf-8")
    assert {path.stem for path in tmp_path.glob("*.pdf")} == {
        f"paper_table1_{kind}_{data}" for kind in ("layercam", "gradcampp", "gradcam") for data in ("cub", "cars")
    }
    assert "Did you mean" in suite(*command, "--image", f"x{image}", expect=2).stderr
    assert "did you mean 'layercam'" in suite(*command, "--cam", "layrcam", expect=2).stderr


@pytest.mark.skipif(
    not all(map(shutil.which, ("pdflatex", "kpsewhich")))
    or not subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False).stdout,
    reason="pdflatex or siunitx is not installed (Debian: texlive-latex-extra, texlive-science)",
)
def test_the_table_compiles_on_its_own(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    runs, _ = finished
    suite("report", *GRID, "--runs", runs, "--out", tmp_path, "--no-figures")
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper_table1.tex"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "paper_table1.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "paper_tabel1"], "did you mean 'paper_table1'"),
        ([*GRID, "--profile", "dmeo"], "did you mean 'demo'"),
        ([*GRID, "--method", "byol_csva"], "did you mean 'byol_cvsa'"),
        ([*GRID, "--method", "byol", "--set", "pretrain.epoch=1"], "did you mean 'pretrain.epochs'"),
        ([*GRID, "--method", "byol", "--set", "epochs"], "expects FIELD=VALUE"),
        ([*GRID, "--method", "byol", "--seeds", "0,x"], "whole numbers"),
        ([*GRID, "--method", "byol"], "CUB_200_2011"),
    ],
)
def test_mistakes_exit_with_2_and_start_nothing(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = suite("run", *arguments, "--data", tmp_path / "nothing", "--runs", tmp_path / "runs", expect=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").glob("*/job.yaml"))


def test_a_truncated_photograph_stops_the_run_before_training(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(drawn, copy)
    victim = sorted((copy / "CUB_200_2011" / "images").glob("*/*.jpg"))[3]
    victim.write_bytes(victim.read_bytes()[:-200])
    command = ["run", *GRID, *where(copy, tiny_profile, tmp_path / "runs"), "--only", "random/cub"]
    done = suite(*command, expect=2)
    assert victim.name in done.stderr
    assert not list((tmp_path / "runs").glob("*/job.yaml"))


def test_one_failed_cell_leaves_the_others_and_is_named(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    command = ["run", *GRID, *METHODS, *where(drawn, tiny_profile, tmp_path)]
    done = suite(*command, "--set", "pretrain.optimizer.base_lr=1e30", expect=1)
    assert {line["row"] for line in read(tmp_path)} == {"random"}
    assert "no number for byol/cub/0: TrainingError: the loss became" in done.stdout
    statuses = mlflow_statuses(tmp_path)
    for failed in ("pretrain byol cub s0", "pretrain byol_cvsa cars s0", "byol/cub/0", "byol_cvsa/cars/0"):
        assert statuses[failed] == "FAILED"
    for fine in ("finetune random cub s0", "random/cub/0"):
        assert statuses[fine] == "FINISHED"
    healthy = suite(*command)  # a failure is never cached, and another recipe is another job
    assert "12 jobs trained, 4 cached" in healthy.stdout
    assert len(read(tmp_path)) == 6 * 3


def test_two_stages(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    command = ["run", "--grid", "paper_table2", "--method", "byol", "--method", "byol_cvsa", "--json"]
    outcome = json.loads(suite(*command, *where(drawn, tiny_profile, tmp_path)).stdout)
    # One first stage for three rows and two datasets; two second stages, three fine-tunings and probes per dataset.
    assert (outcome["cells"], outcome["trained"]) == (6, 1 + 2 * 2 + 2 * 3 * 2)
    assert {(line["row"], line["stage1"], line["stage2"]) for line in read(tmp_path)} == {
        ("byol_stage1", "coco", "no"), ("byol", "coco", "yes"), ("byol_cvsa", "coco", "yes"),
    }  # fmt: skip
    report = suite("report", "--grid", "paper_table2", "--runs", tmp_path, "--no-figures").stdout
    assert "BYOL+CVSA" in report


def test_an_empty_store_has_nothing_to_show_or_to_sync(tmp_path: Path) -> None:
    assert "no runs yet" in suite("status", "--runs", tmp_path).stdout
    assert suite("sync", "--runs", tmp_path).stdout.startswith("0 MLflow runs")


def test_report_without_results_says_what_to_type(tmp_path: Path) -> None:
    assert "suite run --grid paper_table1" in suite("report", *GRID, "--runs", tmp_path, expect=2).stderr

"""`suite tune` as a user types it, on tiny drawn data."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]
STUDY = "paper_table1-tiny-byol_cvsa-cub-views.scale+finetune.optimizer.base_lr"


def suite(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*SUITE, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def command(drawn: Path, profile: Path, runs: Path, *more: str) -> list[str | Path]:
    selectors: list[str | Path] = ["--grid", "paper_table1", "--profile", profile, "--data", drawn, "--runs", runs]
    return ["tune", *selectors, "--dataset", "cub", "--method", "byol_cvsa", *more]


GRID = [
    "--param", "views.scale=0.2,0.4", "--param", "finetune.optimizer.base_lr=0.4,0.8", "--sampler", "grid",
    "--trials", "4", "--workers", "2", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> tuple[Path, dict[str, Any]]:
    """Four trials that share two pretrainings."""
    runs = tmp_path_factory.mktemp("tuned")
    done = suite(*command(drawn, tiny_profile, runs, *GRID))
    return runs, json.loads(done.stdout)


def test_trials_share_what_they_have_in_common(tuned: tuple[Path, dict[str, Any]]) -> None:
    runs, outcome = tuned
    assert outcome["study"] == STUDY
    assert [trial["state"] for trial in outcome["trials"]] == ["complete"] * 4
    assert outcome["trained"] == 6  # two pretrainings, four fine-tunings
    assert len(list(runs.glob("*/result.json"))) == 6
    assert len({tuple(trial["params"].values()) for trial in outcome["trials"]}) == 4
    assert outcome["best"]["value"] == max(trial["value"] for trial in outcome["trials"])
    assert outcome["held_out"] == 6  # two of each of the three classes
    assert outcome["best"]["number"] not in outcome["undecided"]
    assert not (runs / "results.csv").exists()  # a held-out accuracy is no result
    curves = {trial["params"]["views.scale"]: trial["curve"] for trial in outcome["trials"]}
    assert all(list(curve) == ["1", "2"] for curve in curves.values())


def test_the_same_command_adds_nothing(tuned: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path) -> None:
    runs, outcome = tuned
    again = json.loads(suite(*command(drawn, tiny_profile, runs, *GRID)).stdout)
    assert again["trained"] == 0
    assert {name: again[name] for name in ("trials", "best", "next")} == {
        name: outcome[name] for name in ("trials", "best", "next")
    }


def test_the_best_values_are_a_profile_that_run_accepts(tuned: tuple[Path, dict[str, Any]]) -> None:
    runs, outcome = tuned
    words = outcome["next"].split()
    assert words[:4] == ["suite", "run", "--grid", "paper_table1"]
    assert words[5] == outcome["profile"] == str(runs / "tuning" / STUDY / "best.yaml")
    plan = json.loads(suite("plan", *words[2:], "--json").stdout)
    states = {job["name"]: job["status"] for job in plan["jobs"]}
    assert states["pretrain byol_cvsa cub s0"] == "done"  # the best trial's stage
    assert states["finetune byol_cvsa cub s0"] == "new"  # on the whole training split, measured on the test split
    resolved = suite("plan", *words[2:], "--resolved").stdout
    for field, value in outcome["best"]["params"].items():
        assert f"{field.rpartition('.')[2]}: {value}  # profile {STUDY}" in resolved
    header = Path(outcome["profile"]).read_text("utf-8").splitlines()[:4]
    assert all(line.startswith("# ") for line in header)
    assert "held_out_top1" in header[2]


def test_status_knows_studies_and_their_jobs(tuned: tuple[Path, dict[str, Any]]) -> None:
    runs, outcome = tuned
    said = suite("status", "--all", "--runs", runs).stdout
    best = f"best held_out_top1 {outcome['best']['value']:.2f}"
    assert f"study {STUDY} (paper_table1, tiny): trials: 4 complete, {best}" in said
    assert said.count("done        ") == 6
    found = json.loads(suite("status", "--json", "--runs", runs).stdout)
    assert found["studies"] == {STUDY: {"complete": 4}}
    assert {job["state"] for job in found["jobs"]} == {"done"}


def test_figures_are_written_and_show_something(tuned: tuple[Path, dict[str, Any]]) -> None:
    from PIL import Image

    runs, outcome = tuned
    folder = runs / "tuning" / STUDY
    # With six held-out images all trials may have one and the same value; then nothing is important.
    differ = len({trial["value"] for trial in outcome["trials"]}) > 1
    kinds = ("history", "slice", *(("importance",) if differ else ()), "curves")
    assert [Path(path).name for path in outcome["figures"]] == [
        f"{kind}.{end}" for kind in kinds for end in ("pdf", "png")
    ]
    for kind in kinds:
        image = Image.open(folder / f"{kind}.png").convert("L")
        assert image.getextrema() == (0, 255) or image.getextrema()[1] == 255
        assert sum(value < 128 for value in image.getdata()) > 300
        assert (folder / f"{kind}.pdf").read_bytes().startswith(b"%PDF")


def test_every_trial_is_an_mlflow_run(tuned: tuple[Path, dict[str, Any]]) -> None:
    from mlflow import MlflowClient

    runs, outcome = tuned
    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(f"tune/{STUDY}")
    assert experiment is not None
    found = {run.data.tags["suite.trial"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(found) == 4
    for trial in outcome["trials"]:
        run = found[f"tune/{STUDY}/{trial['number']}"]
        assert run.info.status == "FINISHED"
        assert run.data.params["views.scale"] == str(trial["params"]["views.scale"])
        assert run.data.metrics["held_out_top1"] == pytest.approx(trial["value"])
        assert run.data.tags["suite.job_keys"].split(",") == trial["jobs"]
        curve = client.get_metric_history(run.info.run_id, "knn_held_out")
        assert {str(point.step): point.value for point in curve} == trial["curve"]
    assert suite("sync", "--runs", runs).stdout.startswith("0 MLflow runs")


def test_a_trial_that_diverges_has_failed_and_the_others_count(
    tuned: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path
) -> None:
    runs, _ = tuned
    rates = ["--param", "pretrain.optimizer.base_lr=1.6,1e30", "--sampler", "grid", "--trials", "2", "--workers", "1"]
    done = suite(*command(drawn, tiny_profile, runs, *rates), expect=1)
    *_, cached, failed, summary, best, figures, following = done.stdout.splitlines()
    assert cached.split()[-1] == "complete"
    assert "fail (TrainingError: the loss became" in failed
    assert ", 0 jobs trained" in summary  # the other trial's were there
    assert "pretrain.optimizer.base_lr 1.6" in best
    assert "history.pdf" in figures
    assert following.startswith("next: suite run --grid paper_table1 --profile")


def test_mistakes_cost_nothing(
    tuned: tuple[Path, dict[str, Any]], drawn: Path, tiny_profile: Path, tmp_path: Path
) -> None:
    runs, _ = tuned

    def mistake(*more: str, method: str = "byol_cvsa", profile: Path = tiny_profile) -> str:
        told = command(drawn, profile, runs, *more)
        told[told.index("byol_cvsa")] = method
        return suite(*told, *(() if "--trials" in more else ("--trials", "2")), expect=2).stderr

    assert 'space was {"views.scale"' in mistake("--param", "views.scale=0.1:0.3", "--study", STUDY)
    longer = tmp_path / "longer.yaml"
    longer.write_text(tiny_profile.read_text("utf-8").replace("epochs: 2", "epochs: 3"), "utf-8")
    assert "the recipes, the data or the suite's code changed since then" in mistake(*GRID, profile=longer)
    assert "did you mean 'views.scale'" in mistake("--param", "views.scales=0.1:0.3")
    assert "less than or equal to 1" in mistake("--param", "views.scale=0.5:1.5")
    assert "'soft' or 'binary' (got 'hard')" in mistake("--param", "alignment.mask=soft,hard")
    assert "does not depend on it" in mistake("--param", "probe.knn.k=5:20")
    assert "fixes views.scale itself" in mistake("--grid", "ss_scale", "--param", "views.scale")
    assert "cannot be both" in mistake("--param", "views.scale", "--set", "views.scale=0.3")
    assert "'tpe', 'random' or 'grid' (got 'tp')" in mistake("--param", "views.scale", "--sampler", "tp")
    assert "unknown field in --param: 'views.scale'" in mistake("--param", "views.scale", method="random")


@pytest.mark.slow
def test_a_killed_study_ends_as_an_undisturbed_one(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    long = [
        "--param", "views.scale", "--trials", "3", "--workers", "2", "--json", "--set", "pretrain.epochs=8",
        "--sampler", "random", "--pruner", "none",  # what two workers do side by side then depends on nothing else
    ]  # fmt: skip
    calm = json.loads(suite(*command(drawn, tiny_profile, tmp_path / "calm", *long)).stdout)
    arguments = [*SUITE, *map(str, command(drawn, tiny_profile, tmp_path / "killed", *long))]
    rng, kills = random.Random(0), 0
    environment = {**os.environ, "SUITE_CHECKPOINT_MINUTES": "0.008"}
    for _ in range(40):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        assert process.stderr is not None
        life = rng.randint(1, 4)  # lines about trials, jobs and epochs: its time differs from machine to machine
        for line in process.stderr:
            life -= line.startswith(b"[")
            if life == 0 and kills < 5:
                time.sleep(rng.uniform(0, 0.5))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        output, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
    outcome = json.loads(output)
    assert kills >= 3
    assert outcome["trials"] == calm["trials"]
    assert outcome["best"] == calm["best"]
    jobs = {path.parent.name for path in (tmp_path / "killed").glob("*/result.json")}
    assert jobs == {path.parent.name for path in (tmp_path / "calm").glob("*/result.json")}
    for folder in (tmp_path / "killed" / key for key in jobs):
        assert (folder / "log.txt").read_text("utf-8").count(" done: ") == 1
        same = [
            yaml.safe_load((root / folder.name / "result.json").read_text("utf-8"))["files"]
            for root in (tmp_path / "killed", tmp_path / "calm")
        ]
        assert same[0] == same[1]

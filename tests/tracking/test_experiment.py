"""A grid in MLflow: cells with their jobs below, inputs, source; also from databases that an earlier version wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow import MlflowClient

from suite.errors import StoreError
from suite.grid.cells import Selection
from suite.kinds.imported import ImportSpec
from suite.store.cells import CellRecord
from suite.store.ledger import read_cells
from suite.store.store import Store
from suite.tracking.bulk import _COLUMNS, BulkWriter
from suite.tracking.contents import cell_points, dataset_inputs, source_tags
from suite.tracking.mirror import Mirror
from suite.tracking.restore import mirrored

from ..analysis.made_store import fill

NEW_TAGS = ("mlflow.parentRunId", "suite.layout", "mlflow.source.name", "mlflow.source.git.commit")


def runs_of(client: MlflowClient, grid: str = "paper_table1") -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs of cells and of jobs, by their tags."""
    experiment = client.get_experiment_by_name(grid)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    cells = {run.data.tags["suite.cell"]: run for run in runs if "suite.cell" in run.data.tags}
    jobs = {run.data.tags["suite.key"]: run for run in runs if "suite.key" in run.data.tags}
    assert len(cells) + len(jobs) == len(runs)
    return cells, jobs


Database = Callable[[Path], str]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Makes an empty database of MLflow at a path, by copying one: MLflow needs seconds for a new one."""
    empty = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{empty}").search_experiments()

    def copied(path: Path) -> str:
        shutil.copy(empty, path)
        return f"sqlite:///{path}"

    return copied


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, database: Database) -> tuple[Store, str]:
    """A store whose cells share their first stage on COCO; one of its jobs has a commit."""
    store = Store(tmp_path_factory.mktemp("nested") / "runs")
    planned = fill(store.root, "paper_table2", Selection(methods=("byol",), datasets=("cub", "cars"), seeds=(0,)))
    environment = {"python": "3.11", "commit": "v0.1-3-gabcdef123456-dirty"}
    (store.folder(planned[-1].finetune.key) / "env.json").write_text(json.dumps(environment), "utf-8")
    uri = database(store.root / "mlflow.db")
    assert Mirror(store, uri).sync() > 0
    return store, uri


def test_jobs_stand_below_the_first_cell_that_uses_them(synced: tuple[Store, str]) -> None:
    store, uri = synced
    cells, jobs = runs_of(MlflowClient(tracking_uri=uri), "paper_table2")
    records = read_cells(store.root)
    parents = {key: run.data.tags["mlflow.parentRunId"] for key, run in jobs.items()}
    expected: dict[str, str] = {}
    for record in records:
        for key in record.jobs:
            expected.setdefault(key, cells[f"small:{record.id}"].info.run_id)
    assert parents == expected
    assert all("mlflow.parentRunId" not in run.data.tags for run in cells.values())
    for record in records:  # shared jobs are named by every cell
        named = cells[f"small:{record.id}"].data.tags["suite.jobs"].split(",")
        assert named == [jobs[key].info.run_id for key in record.jobs]
    assert len(expected) < sum(len(record.jobs) for record in records)
    assert Mirror(store, uri).sync() == 0


def test_runs_name_their_dataset_program_and_commit(synced: tuple[Store, str]) -> None:
    _, uri = synced
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("paper_table2")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    cells, jobs = runs_of(client, "paper_table2")
    found = {
        name: {(given.dataset.name, given.dataset.digest, given.tags[0].value) for given in run.inputs.dataset_inputs}
        for name, run in cells.items()
    }
    assert found["small:byol/cub/0"] == {("cub", "f" * 20, "training"), ("coco", "f" * 20, "training")}
    assert {run.data.tags["mlflow.source.name"] for run in (*cells.values(), *jobs.values())} == {
        f"suite {metadata.version('fgssl-suite')}"
    }
    dirty = [run for run in jobs.values() if "mlflow.source.git.commit" in run.data.tags]
    assert [run.data.tags["mlflow.source.git.commit"] for run in dirty] == ["abcdef123456"]
    assert dirty[0].data.tags["mlflow.source.git.dirty"] == "true"


@pytest.mark.parametrize(
    ("commit", "expected"),
    [
        ("abcdef123456", ("abcdef123456", "false")),
        ("v1.2-14-g0123456789ab-dirty", ("0123456789ab", "true")),
        ("v1.2", (None, None)),  # a name, which is no commit
        (None, (None, None)),
    ],
)
def test_commits(commit: str | None, expected: tuple[str | None, str | None], tmp_path: Path) -> None:
    (tmp_path / "env.json").write_text(json.dumps({"commit": commit}), "utf-8")
    tags = source_tags(tmp_path)
    assert (tags.get("mlflow.source.git.commit"), tags.get("mlflow.source.git.dirty")) == expected
    (tmp_path / "env.json").write_text("{", "utf-8")
    assert "mlflow.source.git.commit" not in source_tags(tmp_path)


def test_two_protocols_may_have_a_metric_of_one_name() -> None:
    entry = CellRecord.model_construct(measured={"finetune": "a", "linear_sgd": "b"})
    metrics = {"a": {"top1": 80.0, "loss": 1.5}, "b": {"top1": 55.0}}

    class Results:
        def result(self, key: str) -> Any:
            return SimpleNamespace(metrics=metrics[key])

    points = cell_points(cast("Store", Results()), entry, 0)
    assert {name: value for name, value, *_ in points} == {
        "final.top1": 80.0,
        "final.loss": 1.5,
        "final.linear_sgd.top1": 55.0,
    }


def restored(uri: str) -> dict[str, bytes]:
    """What a report reads: every file of the store that is made of MLflow's."""
    with mirrored(uri, ["paper_table1"], None) as workspace:
        files = [path for path in workspace.runs.rglob("*") if path.is_file()]
        return {str(path.relative_to(workspace.runs)): path.read_bytes() for path in files}


def test_databases_of_the_earlier_version_are_read_and_completed(tmp_path: Path, database: Database) -> None:
    """It had neither parents nor inputs nor the tags of the program."""
    store = Store(tmp_path / "runs")
    fill(store.root, "paper_table1", Selection(methods=("random", "byol"), datasets=("cub",), seeds=(0,)))
    uri = database(store.root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("suite.tracking.experiment.LAYOUT_TAG", {})
        patch.setattr("suite.tracking.experiment.parent_tag", lambda parent: {})
        patch.setattr("suite.tracking.experiment.source_tags", lambda folder=None: {})
        patch.setattr("suite.tracking.experiment.dataset_inputs", lambda store, keys: [])
        Mirror(store, uri).sync()
    client = MlflowClient(tracking_uri=uri)
    cells, jobs = runs_of(client)
    assert not any(tag in run.data.tags for run in (*cells.values(), *jobs.values()) for tag in NEW_TAGS)
    before = restored(uri)
    assert Mirror(store, uri).sync() == len(cells) + len(jobs)
    assert Mirror(store, uri).sync() == 0
    assert restored(uri) == before
    after_cells, after_jobs = runs_of(client)
    ids = {run.info.run_id for run in cells.values()}
    assert {run.info.run_id for run in after_cells.values()} == ids
    assert {run.data.tags["mlflow.parentRunId"] for run in after_jobs.values()} <= ids
    assert all(len(run.inputs.dataset_inputs) == 1 for run in after_cells.values())
    assert {run.info.status for run in (*after_cells.values(), *after_jobs.values())} == {"FINISHED"}


def test_a_sync_that_was_stopped_within_a_cell(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BulkWriter, "of", lambda client, experiment: None)
    store = Store(tmp_path / "runs")
    fill(store.root, "paper_table1", Selection(methods=("byol",), datasets=("cub",), seeds=(0,)))
    uri = database(store.root / "mlflow.db")
    answers = iter([False, False, True])  # late after the first job
    mirror = Mirror(store, uri, lambda: next(answers))
    mirror.sync()
    assert mirror.behind
    with pytest.raises(StoreError, match="sync was interrupted"):
        restored(uri)
    whole = Mirror(store, uri)
    whole.sync()
    assert not whole.behind
    cells, jobs = runs_of(MlflowClient(tracking_uri=uri))
    assert (len(cells), len(jobs)) == (1, len(read_cells(store.root)[0].jobs))
    assert restored(uri)


def test_jobs_without_a_dataset_and_damaged_ones_have_no_input(tmp_path: Path) -> None:
    class Imported(Store):
        def spec(self, key: str) -> Any:
            return ImportSpec.model_construct(kind="import")

    assert dataset_inputs(Imported(tmp_path), ["a"]) == []
    assert dataset_inputs(Store(tmp_path), ["a"]) == []


def test_runs_written_in_bulk_are_those_of_the_client(tmp_path: Path, database: Database) -> None:
    """Everything that MLflow tells of a run, but its id, the time at which a cell was synced and its place."""

    def told(uri: str) -> dict[str, Any]:
        client = MlflowClient(tracking_uri=uri)
        cells, jobs = runs_of(client)
        names = {run.info.run_id: name for name, run in (cells | jobs).items()}
        found = {}
        for name, run in (cells | jobs).items():
            content = run.to_dictionary()
            for field in ("run_id", "run_uuid", "artifact_uri", *(("start_time", "end_time") if name in cells else ())):
                content["info"].pop(field, None)
            tags = content["data"]["tags"]
            for tag in ("mlflow.parentRunId", "suite.jobs"):
                if tag in tags:
                    tags[tag] = [names[run_id] for run_id in tags[tag].split(",")]
            history = {metric: client.get_metric_history(run.info.run_id, metric) for metric in run.data.metrics}
            place = Path(run.info.artifact_uri.removeprefix("file://"))
            found[name] = (
                json.dumps(content, sort_keys=True),  # text, for NaN is not equal to itself
                {
                    metric: [(repr(p.value), p.step, p.timestamp - run.info.start_time) for p in points]
                    for metric, points in history.items()
                },
                {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()},
            )
        return found

    store = Store(tmp_path / "runs")
    planned = fill(store.root, "paper_table1", Selection(methods=("random", "byol"), datasets=("cub",), seeds=(0, 1)))
    lines = [{"step": step, "loss": 1 / step, "worst": float("nan"), "top": float("inf")} for step in (1, 2, 5)]
    folder = store.folder(planned[-1].finetune.key)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[-1]]), "utf-8")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "model.safetensors").write_bytes(b"weights")
    in_bulk, one_by_one = (database(tmp_path / f"{name}.db") for name in ("bulk", "client"))
    changed = Mirror(store, in_bulk).sync()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkWriter, "of", lambda client, experiment: None)
        assert Mirror(store, one_by_one).sync() == changed
        assert Mirror(store, in_bulk).sync() == 0  # the client finds nothing to add
    assert told(in_bulk) == told(one_by_one)
    assert restored(in_bulk) == restored(one_by_one)


def test_cells_in_bulk_and_by_the_client_share_datasets(tmp_path: Path, database: Database) -> None:
    """Finished, failed, finished: the client brings the second dataset between two bulk writes."""
    store = Store(tmp_path / "runs")
    some = [("byol", "cub"), ("byol", "cars"), ("simclr", "cars"), ("simclr", "cub")]
    for method, dataset in some:
        chosen = Selection(methods=(method,), datasets=(dataset,), seeds=(0,))
        fill(store.root, "paper_table1", chosen, value=lambda cell: None if cell.id == "byol/cars/0" else 50.0)
    uri = database(store.root / "mlflow.db")
    Mirror(store, uri).sync()
    cells, _ = runs_of(MlflowClient(tracking_uri=uri))
    inputs = {name: [given.dataset.name for given in run.inputs.dataset_inputs] for name, run in cells.items()}
    assert inputs == {f"small:{method}/{dataset}/0": [dataset] for method, dataset in some}
    statuses = {name: run.info.status for name, run in cells.items()}
    assert statuses.pop("small:byol/cars/0") == "FAILED"
    assert set(statuses.values()) == {"FINISHED"}
    assert Mirror(store, uri).sync() == 0


def test_the_client_is_used_where_the_tables_are_others(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(tracking_uri=database(tmp_path / "a.db"))
    experiment = client.create_experiment("x", artifact_location=(tmp_path / "files").as_uri())
    assert BulkWriter.of(client, experiment) is not None
    elsewhere = client.create_experiment("y", artifact_location="s3://bucket/x")
    assert BulkWriter.of(client, elsewhere) is None
    monkeypatch.setitem(_COLUMNS, "SqlTag", {"key", "value", "run_uuid", "another"})
    assert BulkWriter.of(client, experiment) is None


@pytest.mark.parametrize("dies_at", ["copy_file", "write_json_file"])
def test_a_process_that_dies_within_a_bulk_write(
    dies_at: str, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "runs")
    fill(store.root, "paper_table1", Selection(methods=("byol",), datasets=("cub",), seeds=(0,)))
    whole, torn = (database(tmp_path / f"{name}.db") for name in ("whole", "torn"))
    Mirror(store, whole).sync()

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"suite.tracking.bulk.{dies_at}", die)
        with pytest.raises(KeyboardInterrupt):
            Mirror(store, torn).sync()
    cells, jobs = runs_of(MlflowClient(tracking_uri=torn))
    assert {run.info.status for run in (*cells.values(), *jobs.values())} == {"RUNNING"}
    assert Mirror(store, torn).sync() == len(cells) + len(jobs)
    assert Mirror(store, torn).sync() == 0
    assert restored(torn) == restored(whole)


def test_a_damaged_job_is_left_out_and_named(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "runs")
    (item,) = fill(store.root, "paper_table1", Selection(methods=("byol",), datasets=("cub",), seeds=(0,)))
    (store.folder(item.finetune.key) / "job.yaml").write_text("torn", "utf-8")
    Mirror(store, database(store.root / "mlflow.db")).sync()
    assert "MLflow goes without this job" in caplog.text

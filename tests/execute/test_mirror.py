"""MLflow is a mirror: its server may die between any two calls, and many processes may open a fresh database at once;
training goes on, and one `suite sync` makes it complete, with every point there once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from suite.store.ledger import read_cells
from suite.store.store import Store
from suite.tracking.bulk import BulkWriter
from suite.tracking.mirror import Mirror

SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]


def command(drawn: Path, runs: Path, profile: Path, *more: str) -> list[str]:
    return [
        *SUITE, "run", "--grid", "paper_table1", "--profile", str(profile), "--data", str(drawn), "--runs", str(runs),
        "--dataset", "cub", "--method", "random", "--method", "byol", "--workers", "2", *more,
    ]  # fmt: skip


def assert_complete(client: MlflowClient, store: Store) -> None:
    """Every job and cell once and finished; every metric of every epoch once; parameters and files."""
    cells = read_cells(store.root)
    keys = {key for cell in cells for key in cell.jobs}
    experiment = client.get_experiment_by_name("paper_table1")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert Counter(run.data.tags.get("suite.key", "cell") for run in runs) == Counter([*keys, *["cell"] * len(cells)])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags.get("suite.error", "") for run in runs} == {""}
    ids = {run.data.tags["suite.key"]: run.info.run_id for run in runs if "suite.key" in run.data.tags}
    of_cells = {run.info.run_id: run.data.tags["suite.job_keys"] for run in runs if "suite.cell" in run.data.tags}
    for run in runs:
        assert run.data.params["backbone.width"] == "8"
        history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        if "suite.cell" in run.data.tags:
            assert {ids[key] for key in run.data.tags["suite.job_keys"].split(",")} <= set(ids.values())
            assert run.data.tags["suite.jobs"].split(",") == [
                ids[k] for k in run.data.tags["suite.job_keys"].split(",")
            ]
            assert {len(points) for points in history.values()} == {1}
            assert [given.dataset.name for given in run.inputs.dataset_inputs] == [run.data.tags["suite.dataset"]]
            continue
        key = run.data.tags["suite.key"]
        assert key in of_cells[run.data.tags["mlflow.parentRunId"]].split(",")
        result = store.result(key)
        assert result is not None
        expected = {f"final.{name}": [(0, value)] for name, value in result.metrics.items()}
        expected |= {"seconds": [(0, result.seconds)], "images_per_second_mean": [(0, result.images_per_second)]}
        for line in store.metrics(key):
            for name in line.keys() - {"step"}:
                expected.setdefault(name, []).append((int(line["step"]), line[name]))
        assert {n: sorted((p.step, p.value) for p in points) for n, points in history.items()} == expected
        times = [point.timestamp for point in history.get("loss", ())]
        assert times == sorted(times)
        assert {"job.yaml", "result.json", "log.txt"} <= {item.path for item in client.list_artifacts(run.info.run_id)}


class Dying:
    """A client whose n-th change is made, but whose answer gets lost; after that nothing works."""

    def __init__(self, client: MlflowClient, changes: int) -> None:
        self.client, self.left, self.made = client, changes, 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.client, name)
        if not name.startswith(("create", "log", "set", "update")):
            return method

        def change(*arguments: Any, **named: Any) -> Any:
            if self.left <= 0:
                raise ConnectionError("gone")
            made = method(*arguments, **named)
            self.left, self.made = self.left - 1, self.made + 1
            if self.left == 0:
                raise ConnectionError("gone")
            return made

        return change


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> Path:
    """A store with one cell, and a database nothing was mirrored to, `empty.db`."""
    root = tmp_path_factory.mktemp("finished")
    uri = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    only = command(drawn, root / "runs", tiny_profile, "--only", "random/cub")
    subprocess.run(only, check=True, env=uri, capture_output=True)
    MlflowClient(tracking_uri=f"sqlite:///{root / 'empty.db'}").search_experiments()
    return root


@pytest.mark.parametrize("first", range(3))
def test_an_answer_may_get_lost_at_any_change(
    first: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BulkWriter, "of", lambda client, experiment: None)  # as with a server
    store = Store(finished / "runs")
    for changes in range(1 + first, 100, 3):
        database = tmp_path / f"{changes}.db"
        shutil.copy(finished / "empty.db", database)
        mirror = Mirror(store, f"sqlite:///{database}")
        client = mirror._connect()
        mirror._client = dying = Dying(client, changes)  # type: ignore[assignment]
        try:
            mirror.sync()
        except ConnectionError:
            assert dying.made == changes
        else:
            assert dying.made < changes
            break
        dying.left = 1000
        mirror.sync()
        assert_complete(client, store)
        assert mirror.sync() == Mirror(store, mirror.uri).sync() == 0


def test_a_server_killed_and_restarted_during_a_run(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    server = serve(tmp_path, port)
    training = None
    try:
        wait_for(lambda: answers(uri), server)
        runs = tmp_path / "runs"
        # Long enough for a first sync, ten seconds after the start.
        training = subprocess.Popen(
            command(drawn, runs, tiny_profile, "--set", "pretrain.epochs=200"),
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        client = MlflowClient(tracking_uri=uri)
        wait_for(lambda: bool(client.get_experiment_by_name("paper_table1")), training)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        _, errors = training.communicate(timeout=600)
        assert training.returncode == 0, errors.decode()
        assert b"Training goes on; `suite sync` catches up" in errors
        server = serve(tmp_path, port)
        wait_for(lambda: answers(uri), server)
        synced = subprocess.run(
            [*SUITE, "sync", "--runs", str(runs)], env=environment, capture_output=True, text=True, check=True
        )
        assert not synced.stdout.startswith("0 ")
        assert_complete(client, Store(runs))
        assert Mirror(Store(runs), uri).sync() == 0
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        if training is not None and training.poll() is None:
            training.kill()


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination", str(folder / "files"),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while not true():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_many_processes_on_a_fresh_store(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """Three runs of two workers and two syncs at once: every job trained once, the database complete."""
    runs = tmp_path / "runs"
    training = command(drawn, runs, tiny_profile, "--json")
    alone = subprocess.run(
        command(drawn, tmp_path / "alone", tiny_profile), check=True, capture_output=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert alone.returncode == 0
    processes = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line in [training, [*SUITE, "sync", "--runs", str(runs)], training, training]
    ]
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors.decode()
        assert b"Traceback" not in errors
        outputs.append(output)
    told = [json.loads(output) for output in outputs if output.startswith(b"{")]
    assert sum(outcome["trained"] for outcome in told) == 5
    assert [outcome["trained"] + outcome["cached"] for outcome in told] == [5, 5, 5]
    logs = [path.read_text("utf-8") for path in runs.glob("*/log.txt")]
    assert len(logs) == 5
    assert all(log.count(" on cpu, ") == log.count("INFO done: ") == 1 for log in logs)
    assert (runs / "results.csv").read_bytes() == (tmp_path / "alone" / "results.csv").read_bytes()
    assert hashes(runs) == hashes(tmp_path / "alone")
    assert_complete(MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}"), Store(runs))
    assert not list(runs.glob("*/claim.json"))
    assert not list((runs / "active").iterdir())


def hashes(runs: Path) -> dict[str, dict[str, str]]:
    return {path.parent.name: json.loads(path.read_text())["files"] for path in runs.glob("*/result.json")}


def test_the_database_of_a_shared_store_is_open_to_its_group(tmp_path: Path) -> None:
    """SQLite gives its file the mode 0644, whatever the umask; the second user of a store needs to write it."""
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o2770)
    code = (
        "import sys; from pathlib import Path; from suite.workspace import Workspace\n"
        "from suite.tracking.address import tracking_uri; from suite.tracking.mirror import Mirror\n"
        "store = Workspace.of(None, Path(sys.argv[1])).store\n"
        "Mirror(store, tracking_uri(store.root))._connect().search_experiments()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    subprocess.run([sys.executable, "-c", code, str(runs)], check=True, env=environment, umask=0o022)
    assert (runs / "mlflow.db").stat().st_mode & 0o777 == 0o664

"""`suite data list`, `verify`, `fetch`, `pack` and `suite doctor` as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from suite.cli import app
from suite.errors import DataError


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def listed(root: Path, runs: Path) -> dict[str, dict[str, Any]]:
    text = run("data", "list", "--data", str(root), "--runs", str(runs), "--json")
    return {one["name"]: one for one in json.loads(text)}


def test_list_verify_pack(drawn: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    before = listed(drawn, runs)
    assert (before["cub"]["state"], before["nabirds"]["state"], before["cub"]["verified"]) == (
        "synthetic",
        "missing",
        None,
    )
    assert before["cub"]["counts"] == {"train": [24, 5994], "test": [12, 5794], "classes": [3, 200]}
    assert not runs.exists()  # looking changes nothing

    output = run("data", "verify", "--data", str(drawn), "--runs", str(runs))
    assert [line.split(":")[0] for line in output.splitlines()] == ["CUB synthetic", "Cars synthetic", "COCO synthetic"]
    run("data", "saliency", "cub", "--detector", "boxes", "--split", "train", "--data", str(drawn), "--runs", str(runs))
    from suite.data.datasets.fingerprint import fingerprint
    from suite.data.datasets.load import load_dataset
    from suite.data.decoded.files import build_index
    from suite.data.decoded.images import build_store

    dataset = load_dataset("cub", drawn)
    store = build_store(dataset, fingerprint(dataset, runs / "cache"), 32, runs / "cache")
    after = listed(drawn, runs)["cub"]
    assert after["verified"]
    assert after["saliency"] == [{"detector": "boxes", "oracle": True, "computed": 24, "images": 36}]
    size = sum(file.stat().st_size for file in store.folder.iterdir())
    assert after["decoded"] == [
        {"short_side": 32, "on_demand": False, "detector": None, "bytes": size, "current": True}
    ]
    index = build_index(dataset, store.facts.fingerprint, 48, runs / "cache", verified=True)
    size = sum(file.stat().st_size for file in index.folder.iterdir())
    assert {"short_side": 48, "on_demand": True, "detector": None, "bytes": size, "current": True} in listed(
        drawn, runs
    )["cub"]["decoded"]
    text = run("data", "list", "--data", str(drawn), "--runs", str(runs))
    assert "48 px images on demand, index 0 MB" in text
    assert "saliency: boxes (oracle) 24/36" in text
    assert "suite data fetch nabirds" in text

    copy = tmp_path / "copy"
    output = run("data", "pack", "cub", "--out", str(copy), "--classes", "2", "--per-class", "3", "--data", str(drawn))
    assert output.startswith("CUB synthetic: 6/5994 train, 6/5794 test, 2/200 classes, in ")
    (copy / "CUB_200_2011/images.txt").unlink()
    assert listed(copy, runs)["cub"]["state"] == "broken"
    result = json.loads(run("data", "verify", "cub", "--data", str(copy), "--runs", str(runs), "--json", code=2))
    assert "missing list" in result["broken"]["cub"]


def test_fetch_says_what_to_obtain(tmp_path: Path, drawn: Path) -> None:
    for name, text in (("nabirds", "form at https://dl.allaboutbirds.org"), ("imagenet", "ILSVRC2012_img_train.tar")):
        done = CliRunner().invoke(app, ["data", "fetch", name, "--data", str(tmp_path)])
        assert isinstance(done.exception, DataError)
        assert text in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_verify_without_any_dataset(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "verify", "--data", str(tmp_path)])
    assert isinstance(done.exception, DataError)
    assert "suite data fetch NAME" in str(done.exception)


def examined(tmp_path: Path, data: Path, code: int = 0) -> dict[str, dict[str, str]]:
    report = json.loads(run("doctor", "--json", "--data", str(data), "--runs", str(tmp_path / "runs"), code=code))
    assert report["sound"] == (code == 0)
    return {check["name"]: check for check in report["checks"]}


def test_doctor(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("suite.doctor.shutil.which", lambda name: "/bin/sbatch" if name == "sbatch" else None)
    monkeypatch.setenv("PATH", "/nonexistent")
    checks = examined(tmp_path, drawn)
    for name in ("Python", "torch", "threads", "GPU", "precision", "runs", "cub", "saliency", "Chromium"):
        assert checks[name]["text"]
    for name in ("MLflow", "LaTeX", "Slurm", "nabirds"):
        assert checks[name]["state"] == "missing"
        assert checks[name]["fix"]
    assert checks["torch"]["state"] == checks["solo-learn"]["state"] == "ok"
    assert (checks["cub"]["state"], checks["cub"]["fix"]) == ("missing", "suite data verify cub")
    assert not (tmp_path / "runs").exists()


def test_doctor_on_a_broken_installation(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object, *__: object) -> str:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr("methods.solo_learn._FUNCTIONS", {})
    monkeypatch.setattr("methods.solo_learn._module", none)
    monkeypatch.setattr("suite.doctor.PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr("suite.doctor.writable", lambda _: False)
    checks = examined(tmp_path, drawn, code=1)
    broken = {name: check["fix"] for name, check in checks.items() if check["state"] == "broken"}
    assert broken.keys() == {"packages", "solo-learn", "runs", "cache"}
    assert broken["packages"] == "pip install no-such-package"
    text = run("doctor", "--data", str(drawn), "--runs", str(tmp_path / "runs"), code=1)
    assert "broken   solo-learn" in text
    assert "fix: pip install --no-deps solo-learn==1.0.2" in text
    assert text.splitlines()[-1].startswith("4 broken, ")


def test_an_outdated_store_is_named(drawn: Path, tmp_path: Path) -> None:
    """A store of content that is no longer there can be deleted, and the list says so."""
    root, runs = tmp_path / "data", tmp_path / "runs"
    shutil.copytree(drawn, root)
    folder = runs / "cache/images/cars-0123456789abcdef-64px-v1"
    folder.mkdir(parents=True)
    (folder / "pixels.u8").write_bytes(bytes(1000))
    other = runs / "cache/images/cars-0123456789abcdef-64px-v1-u2netp-0123456789ab-v1"
    other.mkdir()
    assert [one["current"] for one in listed(root, runs)["cars"]["decoded"]] == [None, None]
    run("data", "verify", "cars", "--data", str(root), "--runs", str(runs))
    decoded = listed(root, runs)["cars"]["decoded"]
    assert [(one["detector"], one["bytes"], one["current"]) for one in decoded] == [
        (None, 1000, False), ("u2netp", 0, False),
    ]  # fmt: skip
    assert "(outdated)" in run("data", "list", "--data", str(root), "--runs", str(runs))

"""A published folder is complete, describes itself, and holds nothing of the machine or the person it comes from."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from typer.testing import CliRunner

from analysis.publish.anonymous import Anonymiser
from analysis.publish.hub import check_target, upload
from analysis.publish.publish import PublicationOptions, files_below, publish
from analysis.publish.record import Published, read_published
from suite import __version__
from suite.cli import app
from suite.errors import DataError, StoreError, UsageError
from suite.grid.cells import Selection
from suite.store.store import Failure, Store, sha256
from suite.workspace import Workspace

from .made_store import fill
from .test_export import made

PERSON, HOST, TOKEN = "quillfeather", "kestrel-17", "hf_0123456789abcdef"


class Links(HTMLParser):
    """Addresses in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A cell with weights, one without, and a failed one whose error quotes the machine; everything below a home."""
    home = tmp_path / "home" / PERSON
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", PERSON)
    monkeypatch.setenv("HOSTNAME", HOST)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    runs = home / "my runs"
    made(runs, {"pretrain.epochs": 3})
    fill(runs, "paper_table1", Selection(methods=("random",), datasets=("cub",), seeds=(0, 1)))
    (item,) = fill(runs, "paper_table1", Selection(methods=("simclr",), datasets=("cub",), seeds=(0,)))
    failed = item.jobs[-1]
    error = f"OSError: {runs}/cache/a.npy and /mnt/scratch/{PERSON}/cub.tar on {HOST} with {TOKEN}"
    folder = Store(runs).folder(failed.key)
    (folder / "result.json").unlink()
    Store(runs).fail(failed.key, Failure(error=error, kind="failed", traceback=""))
    for path in runs.glob("*/job.yaml"):
        (path.parent / "log.txt").write_text(f"{PERSON}@{HOST} reads {home}/photos\n" * 3, "utf-8")
        environment = {"python": "3.11", "platform": f"Linux at /home/{PERSON}/x", "commit": "abcdef123456"}
        (path.parent / "env.json").write_text(json.dumps(environment), "utf-8")
    return Workspace(home / "photos", runs)


def published(workspace: Workspace, out: Path, **chosen: Any) -> Published:
    return publish(workspace, PublicationOptions(("paper_table1",), **chosen), out, date="2026-11-26")


def test_the_folder_describes_itself(store: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "public"
    record = published(store, out, cells=("byol/cub/0",), title="Birds & <b>bytes</b>")
    assert read_published(out) == record
    assert (record.format, record.suite, record.date, record.commits) == (
        1,
        __version__,
        "2026-11-26",
        ["abcdef123456"],
    )
    (grid,) = record.grids
    assert (grid.name, grid.profile, grid.reference_row) == ("paper_table1", "small", "byol")
    rows = [(cell.row, cell.seed) for cell in grid.cells]
    assert rows == [("random", 0), ("random", 1), ("simclr", 0), ("byol", 0)]
    byol = grid.cells[-1]
    assert byol.changed == {"pretrain.epochs": 3}
    assert record.recipes[byol.recipe]["recipe"]["pretrain"]["epochs"] == 3
    assert {result.protocol for result in byol.results} >= {"finetune", "knn", "linear"}
    assert byol.suspicious == ["top-1 5.00 is not above chance"]
    assert [data.fingerprint for data in grid.datasets] == ["f" * 20]
    assert record.files.keys() == set(files_below(out)) - {"published.json"}
    assert all(sha256(out / name) == digest for name, digest in record.files.items())
    for page in ("index.html", "report/index.html"):
        links = Links((out / page).read_text("utf-8")).found
        local = [unquote(link.partition("#")[0]) for link in links if not link.startswith(("data:", "#"))]
        assert [link for link in local if not (out / page).parent.joinpath(link).is_file()] == []
    front = (out / "index.html").read_text("utf-8")
    assert "Birds &amp; &lt;b&gt;bytes" in front
    assert "not the protocol of the CVSA paper" in front
    assert "paper_table1.tex" in front


def test_networks_have_their_cards(store: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "public"
    (model,) = published(store, out, cells=("byol/cub",)).models
    folder = out / model.folder
    assert model.sha256 == sha256(folder / "model.safetensors")
    card = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    assert card["model-index"][0]["results"][0]["dataset"]["split"] == "test"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["weights"]["sha256"] == model.sha256
    without = published(store, out, cells=("byol/cub",), weights=False)
    assert without.models[0].sha256 is None
    assert not (folder / "model.safetensors").exists()
    assert (folder / "README.md").is_file()


def test_nothing_of_the_machine_is_published(store: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "public"
    published(store, out, cells=("byol/cub/0",))
    page = (out / "report" / "index.html").read_text("utf-8")
    assert "OSError: [path]/a.npy and [path]/cub.tar on *** with ***" in page
    needles = [PERSON, HOST, TOKEN, str(tmp_path), str(Path.cwd()), "/home/", "/mnt/", "my runs"]
    found = {
        (name, needle)
        for name in files_below(out)
        for needle in needles
        if needle.encode() in (out / name).read_bytes()
    }
    assert found == set()


def test_a_leak_that_was_missed_stops_the_publication(
    store: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Anonymiser, "text", lambda self, text: text)
    with pytest.raises(StoreError, match=r"would hold (the path|a password|the name).*nothing was published"):
        published(store, tmp_path / "public", cells=("byol/cub/0",))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_publishing_again_replaces_its_own_files_only(store: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "public"
    published(store, out, cells=("byol/cub/0",))
    (out / ".git").mkdir()
    (out / "mine.txt").write_text("kept")
    record = published(store, out)
    assert set(files_below(out)) == {*record.files, "published.json", "mine.txt"}
    assert (out / ".git").is_dir()
    assert not (out / "models").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("private")
    with pytest.raises(UsageError, match="holds other files"):
        published(store, tmp_path / "other")


def test_what_cannot_be_published_is_named(store: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'byol/cub/0'"):
        published(store, tmp_path / "public", cells=("bylo/cub/0",))
    with pytest.raises(StoreError, match=r"backbone\.safetensors is missing"):
        published(store, tmp_path / "public", cells=("simclr/cub/0",))
    assert not (tmp_path / "public").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2, "suite": "9.0"}, r"has format 2, expected 1.*suite 9\.0"),
        ({"date": "yesterday"}, "is damaged: date"),
        ({"recipes": {}}, "recipes are missing"),
    ],
)
def test_damaged_records_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fill(tmp_path / "runs", "paper_table1", Selection(methods=("random",), datasets=("cub",), seeds=(0,)))
    out = tmp_path / "public"
    published(Workspace(tmp_path, tmp_path / "runs"), out)
    path = out / "published.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(DataError, match=message):
        read_published(out)
    with pytest.raises(UsageError, match="does not exist"):
        read_published(tmp_path)


class Hub:
    """A huggingface_hub.HfApi that keeps what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def create_repo(self, **arguments: Any) -> str:
        self.calls.append(("create", arguments))
        if self.error is not None:
            raise self.error
        return f"https://huggingface.co/{arguments['repo_id']}"

    def upload_folder(self, **arguments: Any) -> None:
        self.calls.append(("upload", arguments))


def test_upload_sends_the_listed_files_only(store: Workspace, tmp_path: Path) -> None:
    from huggingface_hub.utils import filter_repo_objects

    out, hub = tmp_path / "public", Hub()
    record = published(store, out, cells=("byol/cub/0",))
    (out / "mine.txt").write_text("kept here")
    assert upload(out, record, "lab/birds", "space", True, hub) == "https://huggingface.co/lab/birds"
    (_, created), (_, sent) = hub.calls
    assert created == {
        "repo_id": "lab/birds", "repo_type": "space", "private": True, "exist_ok": True, "space_sdk": "static",
    }  # fmt: skip
    chosen = filter_repo_objects(files_below(out), allow_patterns=sent["allow_patterns"])
    assert set(chosen) == {*record.files, "published.json"}


def test_an_upload_that_fails_says_what_to_do(store: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "public"
    record = published(store, out)
    with pytest.raises(StoreError, match=r"not uploaded \(no route for \*\*\*\).*hf auth login"):
        upload(out, record, "lab/birds", "model", True, Hub(ConnectionError(f"no route for {TOKEN}")))
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not the Hub's
        upload(out, record, "lab/birds", "model", True, Hub(ZeroDivisionError()))
    for name in ("birds", "lab/", "https://huggingface.co/lab/birds"):
        with pytest.raises(UsageError, match="OWNER/NAME"):
            check_target(name, "model")
    with pytest.raises(UsageError, match="did you mean 'space'"):
        check_target("lab/birds", "spaces")


def test_the_command_uploads_nothing_by_itself(
    store: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr("analysis.publish.hub.api_of_hub", lambda: hub)
    command = ["publish", "--runs", str(store.runs), "--out", str(tmp_path / "public")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.output.splitlines()[-1] == str(tmp_path / "public" / "index.html")
    assert hub.calls == []
    done = CliRunner().invoke(app, [*command, "--upload", "lab/birds", "--public"], catch_exceptions=False)
    assert done.output.splitlines()[-1] == "https://huggingface.co/lab/birds"
    assert hub.calls[0][1]["private"] is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read /data/lab/cub/001.jpg, /opt/x, /tmp", "read [path]/001.jpg, [path]/x, /tmp"),
        ("sqlite:////srv/anna/mlflow.db is locked", "[path]/mlflow.db is locked"),
        ("'file:///srv/anna/a.csv'", "'[path]/a.csv'"),
        (r"C:\Users\anna\cub.zip", "[path]/cub.zip"),
        ("~anna/birds/list.txt and ~/x/y", "[path]/list.txt and [path]/y"),
        ("byol/cub/0 at https://host.org/a/b/c, 3 images/s, ./a/b, 1/2", None),
        ("[path]/001.jpg", None),
    ],
)
def test_paths_become_their_last_part(text: str, expected: str | None) -> None:
    assert Anonymiser((), ()).text(text) == (text if expected is None else expected)


def test_folders_with_spaces_and_names_as_words() -> None:
    anonymous = Anonymiser(("/srv/my birds",), ("anna",))
    assert anonymous.text("in /srv/my birds/a b.jpg") == "in [path]/a b.jpg"
    assert anonymous.text("anna saw annas banana; /my birdsong") == "*** saw annas banana; /my birdsong"
    assert (
        Anonymiser(("/srv/a",), ()).text("/srv/a/x, /srv/ab, https://host/srv/a")
        == "[path]/x, [path]/ab, https://host/srv/a"
    )
    assert anonymous.tree({"a": ["anna", (1, None)]}) == {"a": ["***", (1, None)]}


def test_the_published_pages_load_nothing(store: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "public"
    published(store, out)
    text = (out / "index.html").read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "<script" not in text

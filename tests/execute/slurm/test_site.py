"""Site files: mistakes are named with the nearest match; what they say reaches sbatch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from suite.errors import UsageError
from suite.execute.context import RunPaths
from suite.execute.slurm.site import load_site
from suite.execute.slurm.submit import ResourceRequest, Submission


def write(folder: Path, **values: Any) -> str:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"cpus_per_task": 2, "mem_gb": 4, **values}), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"partitoin": "gpu"}, "did you mean 'partition'"),
        ({"time": {"max_minute": 5}}, "did you mean 'max_minutes'"),
        ({"by_kind": {"probe": {"gpu_per_node": 1}}}, "did you mean 'gpus_per_node'"),
        ({"by_kind": {"pretrian": {}}}, "pretrain"),
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"time": {"min_minutes": 9, "max_minutes": 3}}, "found 9 > 3"),
        ({"time": {"min_minutes": 1}, "grace_seconds": 60}, "grace_seconds"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"site\.yaml") as raised:
        load_site(write(tmp_path, **values))
    assert said in str(raised.value)


def test_names_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_site("example").resources("probe").mem_gb == 16
    with pytest.raises(UsageError, match="did you mean 'example'"):
        load_site("exampel")
    with pytest.raises(UsageError, match="does not exist"):
        load_site(str(tmp_path / "none.yaml"))
    monkeypatch.delenv("SUITE_SITE", raising=False)
    with pytest.raises(UsageError, match="--site"):
        load_site(None)
    monkeypatch.setenv("SUITE_SITE", write(tmp_path))
    assert load_site(None).cpus_per_task == 2


def test_time_limits_are_few_and_within_bounds(tmp_path: Path) -> None:
    site = load_site(write(tmp_path, time={"factor": 2, "min_minutes": 10, "max_minutes": 60}, grace_seconds=60))
    assert [site.minutes(seconds) for seconds in (0, 270, 280, 1000, 1e6)] == [10, 10, 20, 40, 60]


def test_every_field_reaches_sbatch(tmp_path: Path) -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    site = load_site(
        write(
            tmp_path, partition="gpu", account="lab", qos="low", constraint="a100", gpus_per_node=1, mem_gb=1.5,
            setup=["module load cuda"], options={"exclude": "n7"}, grace_seconds=90,
            by_kind={"probe": {"partition": "small"}},
        )
    )  # fmt: skip
    submission = Submission(site, RunPaths(tmp_path, tmp_path), 5.0, at_once=3)
    request = ResourceRequest("pretrain", site.resources("pretrain"), 30)
    parameters = submission.parameters(request, ["afterok:1_0:2", "aftercorr:4"])
    script = _make_sbatch_string(command="python", folder=tmp_path, map_count=8, **parameters)
    for line in (
        "partition=gpu", "account=lab", "qos=low", "constraint=a100", "gpus-per-node=1", "cpus-per-task=2",
        "mem=1536M", "time=30", "signal=USR1@90", "requeue", "kill-on-invalid-dep=yes", "exclude=n7", "nodes=1",
        "dependency=afterok:1_0:2,aftercorr:4", "array=0-7%3", "job-name=suite-pretrain", "ntasks-per-node=1",
    ):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script, script
    assert "wckey" not in script
    assert script.index("export OMP_NUM_THREADS=2") < script.index("module load cuda") < script.index("srun")
    assert "--cpus-per-task=2 --open-mode=append" in script
    other = ResourceRequest("probe", site.resources("probe"), 30)
    assert submission.parameters(other, [])["partition"] == "small"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--executor", "slrum"], "did you mean 'slurm'"),
        (["--executor", "slurm"], "--site FILE"),
        (["--executor", "slurm", "--site", "exampel"], "did you mean 'example'"),
        (["--executor", "slurm", "--site", "example"], "sbatch"),
        (["--detach"], "it is for --executor slurm"),
    ],
)
def test_the_command_line_says_what_it_lacks(options: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from suite.cli import main; main()", "run", "--grid", "paper_table1", *options]
    import os

    environment = {**os.environ, "PATH": str(tmp_path)}  # no Slurm there
    environment.pop("SUITE_SITE", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert said in done.stderr

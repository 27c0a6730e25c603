"""A Slurm cluster of one node, started by hand in a folder of its own and gone after the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from suite.execute.slurm.site import Site, load_site

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Daemons:
    """munged, slurmctld and slurmd as children of this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.root / name).mkdir()
        key, conf = self.root / "munge.key", self.root / "slurm.conf"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        conf.write_text(CONF.format(host=host, root=self.root, ports=free_ports(2)), "utf-8")
        munge = [f"--{name}-file={self.root / 'munge'}.{name}" for name in ("pid", "log", "seed")]
        self._spawn(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.root}/munge.sock", *munge
        )
        self._wait_for((self.root / "munge.sock").exists)
        self._spawn("slurmctld", "-D", "-f", str(conf))
        self._spawn("slurmd", "-D", "-f", str(conf))
        self._wait_for(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T"))

    def stop(self) -> None:
        self.call("scancel", "--user=root")
        deadline = time.monotonic() + 15
        while self.call("squeue", "--noheader").strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in reversed(self.running):
            process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()

    def call(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def _spawn(self, *command: str) -> None:
        out = (self.root / f"{command[0]}.out").open("wb")
        self.running.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            dead = [process for process in self.running if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                said = "\n".join(path.read_text("utf-8", errors="replace") for path in self.root.glob("*.out"))
                raise RuntimeError(said[-1500:])
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A real cluster; SLURM_CONF points at it."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs for their users and has to be root")
    daemons = Daemons(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(daemons.root / "slurm.conf"))
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            daemons.start()
        except RuntimeError as error:
            daemons.stop()
            pytest.skip(f"Slurm does not start here: {error}")
        yield daemons
        daemons.stop()


@pytest.fixture(scope="session")
def site_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = {
        "cpus_per_task": 1, "mem_gb": 1, "time": {"min_minutes": 2, "max_minutes": 60}, "grace_seconds": 30,
        "poll_seconds": 0.5, "setup": ["export SUITE_TEST_SETUP=1"],
    }  # fmt: skip
    path = tmp_path_factory.mktemp("site") / "here.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


@pytest.fixture(scope="session")
def site(site_file: Path) -> Site:
    return load_site(str(site_file))


@pytest.fixture(scope="session")
def lean_profile(tiny_profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny profile without probes: two jobs per cell, a pretraining and a fine-tuning."""
    profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
    profile["defaults"]["probe"] = None
    path = tmp_path_factory.mktemp("lean") / "tiny.yaml"
    path.write_text(yaml.safe_dump(profile), "utf-8")
    return path

"""Several processes that train one job, one per device: who is who, where they meet, and what they train with.

Process 0 holds the claim, writes every file and reports; the others compute their share of each batch. Who starts them
does not matter: `members.py` does on one machine, Slurm's srun on several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from suite.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from suite.execute.places import Places
    from suite.jobs.identity import Job
    from suite.jobs.sections import Precision

Kind = Literal["cpu", "cuda"]

BACKENDS: dict[Kind, str] = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # tensors on the CPU always by gloo
# Longer than process 0 ever works alone (saving, measuring). That another has died shows long before.
_PATIENCE = timedelta(hours=2)
_SLURM_PORTS = 20_000, 10_000  # the first, and how many


@dataclass(frozen=True)
class Group:
    """One process's place among those that train a job together, and where they meet."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # on its machine
    address: str = "127.0.0.1"  # of process 0's machine
    port: int = 0  # where process 0 listens; 0 lets its system choose

    @classmethod
    def from_slurm(cls, environ: Mapping[str, str]) -> Group:
        """What `srun` tells a task. Without $MASTER_ADDR and $MASTER_PORT: the first node, a port by the job's id.

        Raises:
            UsageError: not started by srun.
        """
        try:
            rank, world, local = (int(environ[f"SLURM_{name}"]) for name in ("PROCID", "NTASKS", "LOCALID"))
            first, count = _SLURM_PORTS
            port = int(environ.get("MASTER_PORT") or first + int(environ["SLURM_JOB_ID"]) % count)
        except KeyError as error:
            raise UsageError(f"expected a task that srun started, but {error.args[0]} is not set.") from None
        address = environ.get("MASTER_ADDR")
        if not address and world > 1:
            from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

            nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
            address = SLURMEnvironment.resolve_root_node_address(nodes)
        return cls(rank, world, local, address or cls.address, port)


class Crew(Protocol):
    """The processes beside process 0, as process 0 sees them."""

    def at_work(self, job: Job, places: Places) -> AbstractContextManager[Group]:
        """Process 0's place in the group, connected to all others, which work on `job` meanwhile."""


class Alone:
    """No other process."""

    def at_work(self, job: Job, places: Places) -> AbstractContextManager[Group]:
        """A group of one."""
        return nullcontext(Group())


def open_store(group: Group) -> Any:
    """The torch store at which the processes meet. Process 0 opens it, the others wait for it."""
    from torch import distributed

    leads = group.rank == 0
    return distributed.TCPStore(  # type: ignore[attr-defined]
        group.address, group.port, group.world, leads, timeout=_PATIENCE, wait_for_workers=False
    )


@contextmanager
def connected(group: Group, kind: Kind, store: Any = None) -> Iterator[Group]:
    """All processes of the group within reach of each other, for `methods.distributed` and for DDP."""
    if group.world == 1:
        yield group
        return
    from torch import distributed

    distributed.init_process_group(
        BACKENDS[kind],
        store=open_store(group) if store is None else store,
        rank=group.rank,
        world_size=group.world,
        timeout=_PATIENCE,
    )
    try:
        yield group
    except BaseException:
        with suppress(RuntimeError, AttributeError):  # what nobody will answer must not keep this one; torch >= 2.6
            distributed.distributed_c10d._get_default_group().abort()
        raise
    finally:
        distributed.destroy_process_group()


def fabric_of(group: Group, kind: Kind, gpu: int, precision: Precision) -> Fabric:
    """Lightning Fabric for this process: plain for one, DDP for several, in `connected` then.

    `gpu` is the index of the group's first on this machine. A task that sees but one GPU, as Slurm can bind them, uses
    that.
    """
    import torch
    from lightning_fabric import Fabric

    if group.world == 1:
        devices = [gpu] if kind == "cuda" else 1
        return Fabric(accelerator=kind, devices=devices, precision=precision, plugins=[_environment(group)])
    index = gpu + group.local_rank if torch.cuda.device_count() > 1 else 0
    device = torch.device("cuda", index) if kind == "cuda" else torch.device("cpu")
    fabric = Fabric(accelerator=kind, strategy=_strategy(group, device), precision=precision)
    fabric.launch()
    return fabric


def _strategy(group: Group, device: Any) -> Any:
    """DDP, in which every buffer is left alone: by construction (methods/distributed.py) all processes have the same,
    and a queue is large."""
    from inspect import signature

    from lightning_fabric.strategies.ddp import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    known = signature(DistributedDataParallel).parameters
    # The old name warns where the new one is known.
    synchronise = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {synchronise: False}
    return DDPStrategy(
        # To Fabric the group is one machine with `world` devices, of which it only looks at this process's own.
        parallel_devices=[device] * group.world,
        cluster_environment=_environment(group),
        **options,
    )


def _environment(group: Group) -> Any:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    class Environment(LightningEnvironment):
        """Ranks are the group's; the processes run already, and have met."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        def world_size(self) -> int:
            return group.world

        def global_rank(self) -> int:
            return group.rank

        def local_rank(self) -> int:
            return group.rank

        def node_rank(self) -> int:
            return 0

    return Environment()

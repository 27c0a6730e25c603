"""Several processes that train one job, one per device: their ranks, their connection, and Fabric for each of them.

Rank 0 holds the claim, writes every file and reports; the other ranks compute their shard of each batch. The ranks are
started by `spawned.py` on one machine, or from outside, as by Slurm's srun (`launched.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from suite.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from suite.execute.context import RunPaths
    from suite.jobs.identity import Job
    from suite.jobs.sections import Precision

Accelerator = Literal["cpu", "cuda"]

BACKENDS: dict[Accelerator, str] = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # tensors on the CPU always by gloo
# Longer than rank 0 ever works alone (saving, measuring). The death of a rank is noticed long before.
_TIMEOUT = timedelta(hours=2)
_SLURM_PORTS = 20_000, 10_000  # the first, and how many


@dataclass(frozen=True)
class Rank:
    """One of the processes that train a job together, and the address at which they meet."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # on its machine
    address: str = "127.0.0.1"  # of rank 0's machine
    port: int = 0  # where rank 0 listens; 0: the system chooses

    @classmethod
    def from_slurm(cls, environ: Mapping[str, str]) -> Rank:
        """The rank of a task that `srun` started. Without $MASTER_ADDR and $MASTER_PORT: the first node, and a port
        that depends on the job's id.

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


class ProcessGroup(Protocol):
    """The other ranks, as rank 0 sees them."""

    def connect(self, job: Job, paths: RunPaths) -> AbstractContextManager[Rank]:
        """Rank 0, connected to the other ranks, which run `job` meanwhile."""


class SingleProcess:
    """No other rank."""

    def connect(self, job: Job, paths: RunPaths) -> AbstractContextManager[Rank]:
        """A group of one."""
        return nullcontext(Rank())


def open_store(rank: Rank) -> Any:
    """The torch store at which the ranks meet. Rank 0 opens it, the others wait for it."""
    from torch import distributed

    leads = rank.rank == 0
    return distributed.TCPStore(  # type: ignore[attr-defined]
        rank.address, rank.port, rank.world_size, leads, timeout=_TIMEOUT, wait_for_workers=False
    )


@contextmanager
def connected(rank: Rank, accelerator: Accelerator, store: Any = None) -> Iterator[Rank]:
    """torch's process group among all ranks, for `methods.distributed` and for DDP."""
    if rank.world_size == 1:
        yield rank
        return
    from torch import distributed

    distributed.init_process_group(
        BACKENDS[accelerator],
        store=open_store(rank) if store is None else store,
        rank=rank.rank,
        world_size=rank.world_size,
        timeout=_TIMEOUT,
    )
    try:
        yield rank
    except BaseException:
        with suppress(RuntimeError, AttributeError):  # do not wait for an exchange that will not end; torch >= 2.6
            distributed.distributed_c10d._get_default_group().abort()
        raise
    finally:
        distributed.destroy_process_group()


def fabric_of(rank: Rank, accelerator: Accelerator, gpu: int, precision: Precision) -> Fabric:
    """Lightning Fabric for this process: plain for a single one, with DDP for several, inside `connected`.

    `gpu` is the index of the group's first GPU on this machine. A task that sees a single GPU, as Slurm can bind them,
    uses that one. The GPU becomes the current device of the process and float32 products are exact: see `_set_device`.
    """
    import torch
    from lightning_fabric import Fabric

    # Its lines on the precision and on Tensor Cores, per process and job, say nothing that a recipe does not say.
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    single = rank.world_size == 1
    index = gpu if single else gpu + rank.local_rank if torch.cuda.device_count() > 1 else 0
    if accelerator == "cuda":
        _set_device(index)
    if single:
        devices = [index] if accelerator == "cuda" else 1
        return Fabric(accelerator=accelerator, devices=devices, precision=precision, plugins=[_environment(rank)])
    device = torch.device("cuda", index) if accelerator == "cuda" else torch.device("cpu")
    fabric = Fabric(accelerator=accelerator, strategy=_strategy(rank, device), precision=precision)
    fabric.launch()
    return fabric


def _set_device(index: int) -> None:
    """Make a GPU the current device, so that streams and allocations without a device belong to it.

    Float32 products and convolutions are computed in float32, not TF32 (10 bits of mantissa), so that probes,
    localisation and background reliance agree with the CPU. Training under autocast is not affected. The choice of
    cuDNN's algorithms is deterministic, so that a resumed job ends in the same bits; cuDNN's benchmark, which may
    choose another algorithm in the next process, stays off. docs/devices.md states what that costs.
    """
    import torch

    torch.cuda.set_device(index)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _strategy(rank: Rank, device: Any) -> Any:
    """DDP that synchronises no buffers: they are the same in all ranks by construction (methods/distributed.py), and a
    queue is large.

    Gradients are views of the buckets, which saves one copy of them. `static_graph` stays off: it saves little where no
    parameter is unused, and where the graph does change it gives wrong gradients silently.
    """
    from inspect import signature

    from lightning_fabric.strategies.ddp import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    parameters = signature(DistributedDataParallel).parameters
    # The old name warns where the new one exists.
    synchronise = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
    options: dict[str, Any] = {synchronise: False, "gradient_as_bucket_view": True}
    return DDPStrategy(
        # To Fabric the group is one machine with `world_size` devices, of which it uses this process's own.
        parallel_devices=[device] * rank.world_size,
        cluster_environment=_environment(rank),
        **options,
    )


def _environment(rank: Rank) -> Any:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    class Environment(LightningEnvironment):
        """Ranks as in `rank`; the processes run and are connected already."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        def world_size(self) -> int:
            return rank.world_size

        def global_rank(self) -> int:
            return rank.rank

        def local_rank(self) -> int:
            return rank.rank

        def node_rank(self) -> int:
            return 0

    return Environment()

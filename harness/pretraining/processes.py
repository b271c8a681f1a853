"""The processes that train one network: one, or several that torchrun starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

# Its functions keep the process group at the time of the import as a default. It is imported here,
# before any group exists: otherwise (torchvision imports it) the group would stay alive, and its
# threads could abort the process at exit.
import torch.distributed.nn
from torch import Tensor, nn

from harness.errors import InputError

_T = TypeVar("_T")


def rank() -> int:
    """The rank of this process, from 0. Only the first process prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if any. Yields the device of this one.

    Raises:
        InputError: there are GPUs, but fewer than processes on this machine.
    """
    cuda = torch.cuda.is_available()
    if "LOCAL_RANK" not in os.environ:
        yield torch.device("cuda" if cuda else "cpu")
        return
    place = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", place) if cuda else torch.device("cpu")
    if cuda:
        if place >= torch.cuda.device_count():
            raise InputError(
                f"more processes than GPUs: torchrun --nproc-per-node {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    yield device
    # Not after an error: the other processes may be waiting for this one. Destroying the group
    # would then wait for them, and the error would never be printed.
    dist.destroy_process_group()


def gathered(rows: Tensor) -> Tensor:
    """The rows of every process in order of rank. All processes give equally many.

    Gradients flow only into the rows of this process: each process computes the whole loss, and
    the sum of their gradients is the gradient of that loss.
    """
    if count() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(count())]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[rank()] = rows
    return torch.cat(parts)


def summed(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if count() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def average_statistics(model: nn.Module) -> None:
    """Averages the running statistics of batch norms over the processes.

    The processes have seen different faces. Afterwards all hold the same network.
    """
    for buffer in model.buffers() if count() > 1 else ():
        if buffer.is_floating_point():
            buffer.copy_(summed(buffer) / count())


def everyones(value: _T) -> list[_T]:
    """A small value of every process, in order of rank."""
    if count() == 1:
        return [value]
    values: list[_T | None] = [None] * count()
    dist.all_gather_object(values, value)
    return [item for item in values if item is not None]

"""Several processes that train one network, as torchrun starts them; or one, alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

# Its functions take the process group of the moment of the import as a default and keep it. Were it
# imported within a group (torchvision does), the group would outlive its end, and its threads
# could abort the process as it exits, after all is done.
import torch.distributed.nn
from torch import Tensor, nn

from harness.errors import InputError

_T = TypeVar("_T")


def rank() -> int:
    """This process's place, from 0; the first one alone prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if it did; yields this one's device.

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
    # Only where all went well: to take leave of processes that wait for this one in vain would be
    # waited for, too, and what went wrong would never be said.
    dist.destroy_process_group()


def gathered(rows: Tensor) -> Tensor:
    """The rows of every process, equally many of each, in order of rank.

    Gradients flow into this process's own rows alone: each process computes the whole loss, and
    the sum of the processes' gradients is the gradient of that loss.
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
    """Makes the running statistics of batch norms the mean over the processes.

    Each process saw other faces last; averaged, all hold the same network.
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

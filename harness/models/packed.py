"""An LSTM layer over packed sequences, on a CPU nearly as fast as its matrix products.

The layout is that of torch's packed sequences: step after step, the longest sequence first, without
padding. torch's own layers record every small operation of every step for the backward pass; here
a layer is one operation. Only the recurrence is a loop, which works in place on one step while it
is in the cache. The products of all steps, also for the gradients of the weights, are one product.
(Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates in torch's order.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn

# Gradients of the nonlinearities by their values, without a temporary: out = grad y (1 - y) and
# grad (1 - y^2).
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
# As tensors: a Python number costs a microsecond more in each call.
_MINUS_ONE, _TWO = torch.tensor(-1.0), torch.tensor(2.0)


@dataclass(frozen=True)
class Packing:
    """Where the steps of a batch of sequences lie.

    order: (clips,) the sequences, the longest first. lengths: (clips,) in that order.
    sizes: how many sequences reach each step. clip, step: (steps,) of each row of packed data,
    clip by its place in `order`. before: rows of the steps that precede those beyond the first.
    reverse: (steps,) rows that reverse each sequence. last: (clips,) rows of the last steps.
    """

    order: Tensor
    lengths: Tensor
    sizes: tuple[int, ...]
    clip: Tensor
    step: Tensor
    before: Tensor
    reverse: Tensor
    last: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> "Packing":
        """lengths: (clips,) at least 1, int64, on the CPU."""
        ordered, order = torch.sort(lengths, descending=True, stable=True)
        valid = torch.arange(int(ordered[0])) < ordered[:, None]
        step, clip = valid.t().nonzero(as_tuple=True)
        sizes = valid.sum(0)
        starts = torch.cumsum(sizes, 0) - sizes
        beyond = step > 0
        return cls(
            order=order,
            lengths=ordered,
            sizes=tuple(sizes.tolist()),
            clip=clip,
            step=step,
            before=starts[step[beyond] - 1] + clip[beyond],
            reverse=starts[ordered[clip] - 1 - step] + clip,
            last=starts[ordered - 1] + torch.arange(len(ordered)),
        )

    @cached_property
    def _cuts(self) -> list[int]:
        """Of each step, how many sequences go on and how many end."""
        return list(chain(*((b, a - b) for a, b in pairwise((*self.sizes, 0)))))

    def steps(self, rows: Tensor) -> Sequence[Tensor]:
        """Views of packed rows, step by step."""
        return torch.split(rows, list(self.sizes))

    def going_on(self, rows: Tensor) -> Sequence[Tensor]:
        """Of each step the rows of the sequences that go on: as many as the next step has."""
        return torch.split(rows, self._cuts)[::2]

    def pack(self, padded: Tensor) -> Tensor:
        """(clips, time, features) in the given order -> (steps, features)."""
        flat = padded.reshape(-1, padded.shape[-1])
        return flat[self.order[self.clip] * padded.shape[1] + self.step]

    def unsorted(self, rows: Tensor) -> Tensor:
        """Rows in packing order -> rows in the order that was given."""
        out = torch.empty_like(rows)
        out[self.order] = rows
        return out


def packed_lstm(x: Tensor, layer: nn.LSTM, packing: Packing) -> Tensor:
    """One causal layer: (steps, features) -> (steps, hidden); equals `layer` from a zero state.

    Its backward pass works in the memory of the forward one, and so only once.
    """
    w_in, w_hidden, bias_in, bias_hidden = layer.all_weights[0]
    out: Tensor = _PackedLSTM.apply(x, w_in, w_hidden, bias_in + bias_hidden, packing)
    return out


class _PackedLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_in: Tensor,
        w_hidden: Tensor,
        bias: Tensor,
        packing: Packing,
    ) -> Tensor:
        size = w_hidden.shape[1]
        gates = torch.addmm(_cell_doubled(bias), x, _cell_doubled(w_in).t())
        recurrent = _cell_doubled(w_hidden).t()
        hidden, cell, tanh_cell = (x.new_empty(len(x), size) for _ in range(3))
        now, c_now, h_now, tanh_now = map(packing.steps, (gates, cell, hidden, tanh_cell))
        i, f, g, o = map(packing.steps, gates.view(-1, 4, size).unbind(1))
        h_before, c_before = packing.going_on(hidden), packing.going_on(cell)
        for t in range(len(packing.sizes)):
            c, tanh_c = c_now[t], tanh_now[t]
            if t:
                now[t].addmm_(h_before[t - 1], recurrent)
            now[t].sigmoid_()
            _tanh_from_sigmoid_(g[t])
            torch.mul(i[t], g[t], out=c)
            if t:
                c.addcmul_(f[t], c_before[t - 1])
            _tanh_from_sigmoid_(torch.mul(c, _TWO, out=tanh_c).sigmoid_())
            torch.mul(o[t], tanh_c, out=h_now[t])
        ctx.save_for_backward(x, w_in, w_hidden, gates, hidden, cell, tanh_cell)
        ctx.packing = packing
        return hidden

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_hidden, gates, hidden, cell, tanh_cell = ctx.saved_tensors
        packing: Packing = ctx.packing
        _gates_to_gradients(grad, w_hidden, gates, cell, tanh_cell, packing)
        before = hidden.index_select(0, packing.before)
        total = torch.mv(gates.t(), gates.new_ones(len(gates)))
        beyond = slice(packing.sizes[0], None)
        return (
            gates @ w_in if ctx.needs_input_grad[0] else None,
            # Transposed: narrow x first is what the products' library is faster at.
            (x.t() @ gates).t(),
            (before.t() @ gates[beyond]).t(),
            total,
            None,
        )


def _gates_to_gradients(
    grad: Tensor,
    w_hidden: Tensor,
    gates: Tensor,
    cell: Tensor,
    tanh_cell: Tensor,
    packing: Packing,
) -> None:
    """Turns the gates into the gradients before their nonlinearities, in place; spoils tanh_cell.

    grad: (steps, hidden), of the layer's output.
    """
    to_hidden, to_cell = grad.clone(), torch.zeros_like(cell)
    grads, h_grads, c_grads = map(packing.steps, (gates, to_hidden, to_cell))
    i_now, f_now, g_now, o_now = map(packing.steps, gates.view(len(gates), 4, -1).unbind(1))
    tanh_now, spare = packing.steps(tanh_cell), torch.empty_like(cell[: packing.sizes[0]])
    h_earlier, c_earlier, c_before = map(packing.going_on, (to_hidden, to_cell, cell))
    for t in reversed(range(len(packing.sizes))):
        i, f, g, o, tanh_c = i_now[t], f_now[t], g_now[t], o_now[t], tanh_now[t]
        h, c, a = h_grads[t], c_grads[t], spare[: packing.sizes[t]]
        _tanh_backward(o, tanh_c, grad_input=a)
        c.addcmul_(h, a)
        _sigmoid_backward(torch.mul(h, tanh_c, out=a), o, grad_input=o)
        b = torch.mul(c, i, out=tanh_c)
        _sigmoid_backward(torch.mul(c, g, out=a), i, grad_input=i)
        _tanh_backward(b, g, grad_input=g)
        if t:
            torch.mul(c, f, out=c_earlier[t - 1])
            _sigmoid_backward(torch.mul(c, c_before[t - 1], out=a), f, grad_input=f)
            h_earlier[t - 1].addmm_(grads[t], w_hidden)
        else:
            f.zero_()  # there is no cell before the first step


def _cell_doubled(weight: Tensor) -> Tensor:
    """A copy (4 hidden, ...) whose part for the cell's input is twice as large: one sigmoid does
    for all gates, as tanh z = 2 sigmoid(2 z) - 1, and torch's own tanh takes six times as long."""
    doubled = weight.clone()
    doubled.view(4, -1)[2].mul_(2)
    return doubled


def _tanh_from_sigmoid_(half_way: Tensor) -> None:
    torch.add(_MINUS_ONE, half_way, alpha=2.0, out=half_way)

"""An LSTM layer over packed sequences, on a CPU as fast as its matrix products.

Sequences of a batch lie step after step, the longest first, as in torch's packed sequences: no
step stands behind an end. torch's own layers record every small operation of every step for the
backward pass; here a layer is one operation. Its backward pass takes the factors of all steps at
once, keeps only the recurrence in a loop, and makes each weight's gradient by one product.
(Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates in torch's order.)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


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
    """One causal layer: (steps, features) -> (steps, hidden); equals `layer` from a zero state."""
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
        gates = torch.addmm(bias, x, w_in.t())
        hidden, cell, tanh_cell = x.new_empty(3, len(x), size).unbind()
        recurrent = w_hidden.t()
        begin = previous = 0
        for count in packing.sizes:
            end = begin + count
            now = gates[begin:end]
            if begin:
                now.addmm_(hidden[previous : previous + count], recurrent)
            now[:, : 2 * size].sigmoid_()
            now[:, 2 * size : 3 * size].tanh_()
            now[:, 3 * size :].sigmoid_()
            i, f, g, o = torch.split(now, size, dim=1)
            c = torch.mul(i, g, out=cell[begin:end])
            if begin:
                c.addcmul_(f, cell[previous : previous + count])
            torch.mul(o, torch.tanh(c, out=tanh_cell[begin:end]), out=hidden[begin:end])
            previous, begin = begin, end
        ctx.save_for_backward(x, w_in, w_hidden, gates, hidden, cell, tanh_cell)
        ctx.packing = packing
        return hidden

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_hidden, gates, hidden, cell, tanh_cell = ctx.saved_tensors
        packing: Packing = ctx.packing
        size, first = w_hidden.shape[1], packing.sizes[0]
        i, f, g, o = torch.split(gates, size, dim=1)
        # What a step's gradient is multiplied by, for all steps at once: to the cell, and from
        # there to the gates before their nonlinearities.
        to_cell = torch.addcmul(o, o * tanh_cell, tanh_cell, value=-1)
        to_output = torch.addcmul(o, o, o, value=-1).mul_(tanh_cell)
        to_gates = x.new_empty(len(x), 3, size)
        torch.addcmul(i, i, i, value=-1, out=to_gates[:, 0]).mul_(g)
        forget = torch.addcmul(f, f, f, value=-1, out=to_gates[:, 1])
        forget[:first].zero_()  # there is no cell before the first step
        forget[first:].mul_(cell[packing.before])
        torch.addcmul(i, i * g, g, value=-1, out=to_gates[:, 2])

        grad_gates = torch.empty_like(gates)
        split = grad_gates.view(-1, 4, size)
        end, later = len(x), 0
        grad_hidden = grad_cell = grad[:0]
        for count in reversed(packing.sizes):
            begin = end - count
            from_above = grad[begin:end]
            if later:
                from_above = from_above.clone()
                from_above[:later] += grad_hidden
            to_c = from_above * to_cell[begin:end]
            if later:
                to_c[:later] += grad_cell
            torch.mul(to_c[:, None], to_gates[begin:end], out=split[begin:end, :3])
            torch.mul(from_above, to_output[begin:end], out=split[begin:end, 3])
            if begin:
                grad_hidden = grad_gates[begin:end] @ w_hidden
                grad_cell = to_c.mul_(f[begin:end])
            later, end = count, begin
        beyond = grad_gates[first:]
        return (
            grad_gates @ w_in if ctx.needs_input_grad[0] else None,
            grad_gates.t() @ x,
            beyond.t() @ hidden[packing.before],
            grad_gates.sum(0),
            None,
        )

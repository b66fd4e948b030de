"""One pass over an output head: project a chunk, turn its logits into their gradient, multiply back.

The machinery that every fused loss shares; what the loss is, is a function on one chunk's logits
(`ChunkLoss`).

Shape suffixes: N positions of the batch, L positions with a loss, D hidden size, V vocabulary, C positions
of a chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from stillmark.backends.kernels import product
from stillmark.distill.divergence import DistillationLoss
from stillmark.distill.head import OutputHead, as_head

IGNORED = -100  # the target of a position without a loss, as in transformers
CHUNK_BYTES = 64 * 2**20  # logits of one chunk, student's and teacher's together

# Turns the student's logits of a chunk (those loss positions) in place into the gradient of the mixed loss;
# returns the divergence and the cross-entropy of each position, None for one that is not asked for.
ChunkLoss = Callable[[torch.Tensor, slice], tuple[torch.Tensor | None, torch.Tensor | None]]


class FusedPass:
    """A batch's loss positions and the head that they are projected by.

    The heads' products run in the inputs' dtype (in autocast's where it is on); softmax, loss and the sum
    of the head's gradient over chunks are in float32, or float64 for float64 inputs.
    """

    def __init__(
        self,
        hidden: torch.Tensor,
        head: torch.Tensor | OutputHead,
        targets: torch.Tensor,
        num_loss_tokens: int | torch.Tensor,
        vocab_size: int | None,
    ) -> None:
        self.hidden, self.whole_head = hidden, as_head(head)
        self.head = self.whole_head.first_rows(vocab_size)
        if hidden.shape[:-1] != targets.shape or hidden.shape[-1] != self.head.weight.shape[1]:
            head_shape = tuple(self.head.weight.shape)
            raise ValueError(
                f"hidden {tuple(hidden.shape)}, head {head_shape}, targets {tuple(targets.shape)}"
            )
        targets_N = targets.reshape(-1)
        self.positions_L = (targets_N != IGNORED).nonzero().squeeze(-1)
        self.targets_L = targets_N[self.positions_L]
        self.num_loss_tokens = float(num_loss_tokens)
        if self.num_positions > self.num_loss_tokens:
            asked = f"num_loss_tokens is {self.num_loss_tokens:.0f}"
            raise ValueError(f"{asked}, but this batch alone has {self.num_positions}")
        if self.num_positions and not 0 <= self.targets_L.min() <= self.targets_L.max() < self.head.num_rows:
            raise ValueError(f"a target is outside the vocabulary of {self.head.num_rows}")
        self.product_dtype = _product_dtype(hidden, self.head.weight)
        self.loss_dtype = torch.promote_types(self.product_dtype, torch.float32)

    @property
    def num_positions(self) -> int:
        return len(self.positions_L)

    def at_loss_positions(self, values: torch.Tensor) -> torch.Tensor:
        """The rows of (..., X) at the loss positions, (L, X), detached, in the products' dtype."""
        flat = values.detach().reshape(-1, values.shape[-1])
        return flat.index_select(0, self.positions_L).to(self.product_dtype)

    def chunk_buffer(self, num_buffers: int) -> torch.Tensor:
        """Space (C, V) for one chunk's logits, where `num_buffers` such share `CHUNK_BYTES`."""
        row_bytes = self.head.num_rows * self.loss_dtype.itemsize * num_buffers
        rows = min(max(16, CHUNK_BYTES // row_bytes), max(1, self.num_positions))
        return torch.empty(rows, self.head.num_rows, dtype=self.loss_dtype, device=self.hidden.device)

    def run(
        self,
        chunk_loss: ChunkLoss,
        *,
        num_buffers: int,
        divergence_scale: float = 0.0,
        cross_entropy_weight: float = 0.0,
    ) -> DistillationLoss:
        """The loss of all chunks, with the gradient attached that `chunk_loss` leaves in the logits."""
        gradients = _Gradients(self.hidden, self.whole_head, self.num_positions, self.loss_dtype)
        scale = 1.0 / self.num_loss_tokens if self.num_positions else 0.0
        with torch.no_grad(), torch.autocast(self.hidden.device.type, enabled=False):
            sums = self._run_chunks(chunk_loss, self.chunk_buffer(num_buffers), gradients, scale)
            totals = [None if total is None else total * scale for total in sums]
            loss = torch.zeros((), dtype=self.loss_dtype, device=self.hidden.device)
            for total, weight in zip(totals, (divergence_scale, cross_entropy_weight), strict=True):
                loss = loss if total is None else loss + weight * total
            inputs = (self.hidden, self.whole_head.weight, self.whole_head.bias)
            computed = gradients.to_inputs(self.positions_L, scale)
        loss = _KnownGradient.apply(loss, computed, *inputs)
        return DistillationLoss(loss=loss, divergence=totals[0], cross_entropy=totals[1])

    def _run_chunks(
        self, chunk_loss: ChunkLoss, buffer_CV: torch.Tensor, gradients: "_Gradients", scale: float
    ) -> list[torch.Tensor | None]:
        hidden_LD = self.at_loss_positions(self.hidden)
        head = self.head.detach().to(self.product_dtype)
        sums: list[torch.Tensor | None] = [None, None]
        for start in range(0, self.num_positions, len(buffer_CV)):
            rows = slice(start, min(start + len(buffer_CV), self.num_positions))
            logits_CV = head.project(hidden_LD[rows], buffer_CV[: rows.stop - rows.start])
            slope = head.slope(logits_CV)
            for index, part_C in enumerate(chunk_loss(logits_CV, rows)):
                if part_C is not None:
                    previous = sums[index]
                    part = part_C.sum()
                    sums[index] = part if previous is None else previous + part
            if not isinstance(slope, float) or slope != 1.0:
                logits_CV.mul_(slope)
            gradients.add(logits_CV, hidden_LD[rows], head.weight, rows, scale)
        return sums


class _Gradients:
    """The gradients that are asked for: none is made for a frozen head, as under LoRA."""

    def __init__(
        self, hidden: torch.Tensor, head: OutputHead, num_positions: int, dtype: torch.dtype
    ) -> None:
        def space(tensor: torch.Tensor | None, *shape: int) -> torch.Tensor | None:
            wanted = tensor is not None and tensor.requires_grad and torch.is_grad_enabled()
            return torch.zeros(shape, dtype=dtype, device=hidden.device) if wanted else None

        self.inputs_hidden, self.inputs_head = hidden, head
        self.hidden_LD = space(hidden, num_positions, hidden.shape[-1])
        self.weight_VD = space(head.weight, *head.weight.shape)
        self.bias_V = space(head.bias, head.num_rows)

    def add(
        self,
        logits_gradient_CV: torch.Tensor,
        hidden_CD: torch.Tensor,
        weight_VD: torch.Tensor,
        rows: slice,
        scale: float,
    ) -> None:
        """One chunk's part. Rows of the head past `weight_VD`'s are padding and keep a gradient of 0."""
        num_rows = len(weight_VD)
        product_CV = logits_gradient_CV.to(weight_VD.dtype)
        if self.hidden_LD is not None:
            self.hidden_LD[rows] = product(product_CV, weight_VD)
        if self.weight_VD is not None:
            part = self.weight_VD[:num_rows]
            if part.dtype == product_CV.dtype:
                part.addmm_(product_CV.T, hidden_CD, alpha=scale)
            else:  # low precision: multiplied so, but added up in float32
                part.add_(product_CV.T @ hidden_CD, alpha=scale)
        if self.bias_V is not None:
            self.bias_V[:num_rows].add_(logits_gradient_CV.sum(0), alpha=scale)

    def to_inputs(self, positions_L: torch.Tensor, scale: float) -> list[torch.Tensor | None]:
        """The gradients in the shapes and dtypes of (hidden, weight, bias)."""
        hidden = None
        if self.hidden_LD is not None:
            hidden = torch.zeros_like(self.inputs_hidden, memory_format=torch.contiguous_format)
            rows = self.hidden_LD.mul_(scale).to(hidden.dtype)
            hidden.view(-1, hidden.shape[-1]).index_copy_(0, positions_L, rows)
        head = self.inputs_head
        weight = None if self.weight_VD is None else self.weight_VD.to(head.weight.dtype)
        bias = None if self.bias_V is None or head.bias is None else self.bias_V.to(head.bias.dtype)
        return [hidden, weight, bias]


class _KnownGradient(torch.autograd.Function):  # type: ignore[misc]
    """A loss whose gradients to its inputs were computed with it: the backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, loss: torch.Tensor, gradients: list[torch.Tensor | None], *inputs: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "the gradient of a fused loss is kept once: call the loss again instead of backward twice"
            )
        gradients, ctx.gradients = ctx.gradients, None
        if grad_loss != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(grad_loss)
        return (None, None, *gradients)


def _product_dtype(hidden: torch.Tensor, weight: torch.Tensor) -> torch.dtype:
    """Autocast's dtype where it is on, else the wider of the two inputs'."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return torch.promote_types(hidden.dtype, weight.dtype)

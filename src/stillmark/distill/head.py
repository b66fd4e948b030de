"""The output head of a language model: hidden states to logits, whole or a chunk at a time, and back.

Shape suffixes: C tokens of a chunk, D hidden size, V vocabulary.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputHead:
    """From hidden states to logits: softcap(logit_scale * (hidden @ weight.T + bias)), softcap(x) = c
    tanh(x / c).
    """

    weight: torch.Tensor
    """(V, D)"""
    bias: torch.Tensor | None = None
    logit_scale: float = 1.0
    logit_softcap: float | None = None

    @property
    def num_rows(self) -> int:
        return int(self.weight.shape[0])

    def first_rows(self, vocab_size: int | None) -> "OutputHead":
        """The head of the first `vocab_size` tokens: a view; the same as all other logits at -inf."""
        if vocab_size is None or vocab_size == self.num_rows:
            return self
        if not 0 < vocab_size < self.num_rows:
            raise UserError(f"the head has {self.num_rows} rows, and the vocabulary {vocab_size} tokens")
        bias = None if self.bias is None else self.bias[:vocab_size]
        return replace(self, weight=self.weight[:vocab_size], bias=bias)

    def detach(self) -> "OutputHead":
        """The same head without gradients."""
        bias = None if self.bias is None else self.bias.detach()
        return replace(self, weight=self.weight.detach(), bias=bias)

    def to(self, dtype: torch.dtype) -> "OutputHead":
        """The same head with its weight in this dtype, in which it multiplies; a bias is added to the logits."""
        return replace(self, weight=self.weight.to(dtype))

    def with_weight(self, weight: torch.Tensor) -> "OutputHead":
        """The same head with another matrix."""
        return replace(self, weight=weight)

    def project(self, hidden_CD: torch.Tensor, out_CV: torch.Tensor) -> torch.Tensor:
        """Logits of a chunk, written to `out_CV`, whose dtype may be wider than the product's."""
        weight = self.weight.to(hidden_CD.dtype)
        if out_CV.dtype == hidden_CD.dtype:
            torch.mm(hidden_CD, weight.T, out=out_CV)
        else:
            out_CV.copy_(hidden_CD @ weight.T)
        if self.bias is not None:
            out_CV.add_(self.bias)
        if self.logit_scale != 1.0:
            out_CV.mul_(self.logit_scale)
        if self.logit_softcap is not None:
            out_CV.div_(self.logit_softcap).tanh_().mul_(self.logit_softcap)
        return out_CV

    def slope(self, logits: torch.Tensor) -> torch.Tensor | float:
        """d logit / d (hidden @ weight.T + bias), from the logits: what a gradient to the logits is
        multiplied by.
        """
        if self.logit_softcap is None:
            return self.logit_scale
        return logits.div(self.logit_softcap).square_().neg_().add_(1).mul_(self.logit_scale)


def as_head(head: torch.Tensor | OutputHead) -> OutputHead:
    """A bare weight matrix (V, D) is a head without bias, scale or softcap."""
    return head if isinstance(head, OutputHead) else OutputHead(weight=head)


def output_head(model: Any) -> OutputHead:
    """The head of a transformers causal language model, with what its forward does to the logits.

    Known: `final_logit_softcapping` (Gemma 2), `logit_scale` (Cohere), `logits_scaling` (Granite, a
    divisor). A head that is not one linear layer is refused, as are options of the config whose effect is
    not known here.
    """
    layer, config = model.get_output_embeddings(), model.config
    if not isinstance(layer, torch.nn.Linear):
        raise UserError(
            f"{type(model).__name__}: its output head is {type(layer).__name__}, not one linear layer",
            "the fused losses need hidden states and a weight matrix",
        )
    known = {"final_logit_softcapping", "logit_scale", "logits_scaling"}
    elsewhere = {"attn_logit_softcapping", "output_router_logits"}  # these change no output logit
    options = {
        name: value
        for name, value in vars(config).items()
        if ("logit" in name or "lm_head" in name) and name not in elsewhere and value not in (None, False)
    }
    if unknown := {name: value for name, value in options.items() if name not in known}:
        raise UserError(
            f"{type(model).__name__}: its config changes the logits in a way not known here: {unknown}"
        )
    return OutputHead(
        weight=layer.weight,
        bias=layer.bias,
        logit_scale=float(options.get("logit_scale", 1.0)) / float(options.get("logits_scaling", 1.0)),
        logit_softcap=options.get("final_logit_softcapping"),
    )


@torch.no_grad()
def checked_output_head(model: Any) -> OutputHead:
    """`output_head`, held to the model's own logits on a few tokens: whatever else it does to them is
    found.
    """
    head, device = output_head(model).detach(), model.device
    ids = torch.arange(min(8, head.num_rows), device=device).unsqueeze(0)
    was_training = model.training
    model.eval()
    expected = model(input_ids=ids, use_cache=False).logits[0]
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    model.train(was_training)
    got = head.project(hidden.to(head.weight.dtype), torch.empty_like(expected))
    error = float((got - expected).abs().max())
    allowed = 64 * torch.finfo(head.weight.dtype).eps * max(1.0, float(expected.abs().max()))
    if not error <= allowed:
        raise UserError(
            f"{type(model).__name__}: its logits are not its hidden states times its head "
            f"(they differ by {error:.3g}): it does something to them that is not known here"
        )
    return output_head(model)

"""Forward passes over a packed row: the tokens of many sequences side by side, without padding.

The model's own layers run unchanged on a row [1, T]; only attention is ours, put in through transformers'
attention interface. An `AttentionPlan` knows which keys each token sees. Positions are given explicitly, and
no cache object of transformers is used.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from stillmark.backends.attention import default_scaling, with_sinks
from stillmark.backends.kernels import faster_linears
from stillmark.backends.wanted import WantedRows
from stillmark.backends.work import Work

# Shape suffixes as in attention.py.
INTERFACE_NAME = "stillmark_packed"


class CannotPackError(Exception):
    """The model's attention asks for something that the packed path does not do."""


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """What a layer asks for."""

    layer: int
    scaling: float
    window: int | None
    softcap: float | None


class AttentionPlan(Protocol):
    num_pairs: int  # of queries and keys that are multiplied in each layer, padding and masked ones included

    def attend(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output [H, T, D] and log-sum-exp [H, T] of each token's attention to the keys that it may see."""
        ...


class PackedModel:
    """A causal LM that runs packed rows."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = model.device
        self.windows: dict[int, int | None] = {}  # of each layer, as last asked for
        self.work = Work()  # of all passes so far
        self._plan: AttentionPlan | None = None
        parameters = inspect.signature(model.forward).parameters
        if not getattr(model, "_supports_attention_backend", False):
            raise CannotPackError("the model class does not take attention functions")
        if not {"position_ids", "logits_to_keep"} <= set(parameters):
            raise CannotPackError("the model's forward takes no position_ids or logits_to_keep")
        self.rows = WantedRows(model)
        modules = [module.config for module in model.modules() if hasattr(module, "config")]
        self._configs = list({id(c): c for c in modules if hasattr(c, "_attn_implementation")}.values())

    @contextmanager
    def attention_in_place(self) -> Iterator[None]:
        """Within, the model's attention is ours; the model is as before afterwards."""
        before = [config._attn_implementation for config in self._configs]
        AttentionInterface.register(INTERFACE_NAME, _packed_attention)
        try:
            for config in self._configs:
                config._attn_implementation = INTERFACE_NAME
            _ACTIVE.append(self)
            with faster_linears(self.model), self.rows.in_place():
                yield
        finally:
            _ACTIVE.remove(self)
            for config, implementation in zip(self._configs, before, strict=True):
                config._attn_implementation = implementation

    def logits(
        self, tokens: Sequence[int], positions: Sequence[int], wanted: Sequence[int], plan: AttentionPlan
    ) -> torch.Tensor:
        """Logits [wanted, V] of a packed row."""
        self._plan, to = plan, self.device
        at = torch.tensor(wanted, dtype=torch.long, device=to)
        self.rows.choose(at, len(tokens))
        spared_before = self.rows.spared_products
        output = self.model(
            input_ids=torch.tensor([tokens], device=to),
            position_ids=torch.tensor([positions], device=to),
            use_cache=False,
            logits_to_keep=at,
        )
        self.work += Work(
            positions=len(tokens),
            scored=len(wanted),
            pairs=plan.num_pairs,
            spared_products=self.rows.spared_products - spared_before,
        )
        return output.logits[0]

    def attend(
        self, call: AttentionCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._plan is not None
        self.windows[call.layer] = call.window
        return self._plan.attend(call, query[0], key[0], value[0])


_ACTIVE: list[PackedModel] = []


def _packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls in each layer: [1, H, T, D] in, [1, T, H, D] out."""
    if attention_mask is not None or position_bias is not None or is_causal is False:
        raise CannotPackError("a layer has an attention mask or bias of its own")
    if query.shape[0] != 1 or not hasattr(module, "layer_idx"):
        raise CannotPackError("a layer does not say its index, or splits the batch")
    call = AttentionCall(
        layer=module.layer_idx,
        scaling=default_scaling(query.shape[-1]) if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
    )
    output_HTD, lse_HT = _ACTIVE[-1].attend(call, query, key, value)
    if s_aux is not None:
        output_HTD = with_sinks(output_HTD, lse_HT, s_aux)
    return output_HTD.transpose(0, 1).unsqueeze(0), None

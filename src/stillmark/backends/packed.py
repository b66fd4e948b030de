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

import numpy as np
import torch
from transformers import AttentionInterface

from stillmark.backends.attention import (
    MASKED,
    Partial,
    attend_block,
    attend_shared,
    causal_block,
    default_scaling,
    merge,
    window_mask,
    with_sinks,
)
from stillmark.backends.kernels import faster_linears
from stillmark.backends.kv_cache import LayerTensors, PathCache
from stillmark.backends.prefix import Pass
from stillmark.backends.wanted import WantedRows
from stillmark.backends.work import Work

# Shape suffixes as in attention.py; P packed groups, M the longest group's tokens.
INTERFACE_NAME = "stillmark_packed"
MIN_TOKENS_ALONE = 32  # a group, from which a CPU attends to each group by itself sooner than to padded ones


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


class PassPlan:
    """Attention of a `Pass`: each token sees the path buffer's first `depth` tokens, and those above it in
    its own group. Groups of few tokens are padded to one length, for attention alone; on a GPU all are.
    """

    def __init__(self, step: Pass, path: PathCache, device: torch.device, *, keep_states: bool) -> None:
        self._step = step
        self._path = path
        self._device = device
        self.states: dict[int, LayerTensors] | None = {} if keep_states else None  # of the pass's own tokens
        self._num_groups = len(step.group_sizes)
        self._longest = max(step.group_sizes)
        self._is_chain = len(step.spans) == self._num_groups
        self._masks: dict[int | None, torch.Tensor | None] = {}
        sizes = np.array(step.group_sizes)
        self._starts = np.cumsum([0, *sizes[:-1]])
        is_inside = np.arange(self._longest)[None] < sizes[:, None]
        starts = self._starts[:, None]
        # Where each group's tokens lie in the row, with its first one for padding
        self._pad_PM = np.where(is_inside, starts + np.arange(self._longest)[None], starts)
        self._is_padded = self._num_groups > 1 and (
            device.type != "cpu" or len(step.tokens) < MIN_TOKENS_ALONE * self._num_groups
        )
        if self._is_padded:
            self._pad = torch.from_numpy(self._pad_PM.ravel()).to(device)
            self._unpad = torch.from_numpy(np.flatnonzero(is_inside.ravel())).to(device)
        own_pairs = self._num_groups * self._longest**2 if self._is_padded else int((sizes**2).sum())
        self.num_pairs = own_pairs + len(step.tokens) * step.depth

    def attend(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._step.is_spine:
            self._path.write(call.layer, self._step.depth, key_KTD, value_KTD)
        if self.states is not None:
            self.states[call.layer] = (key_KTD, value_KTD)
        output, lse = self._attend_own(call, query_HTD, key_KTD, value_KTD)
        if self._step.depth == 0:
            return output, lse
        return merge(self._attend_path(call, query_HTD), (output, lse))

    def _attend_path(self, call: AttentionCall, query_HTD: torch.Tensor) -> Partial:
        keys, values = self._path.read(call.layer, 0, self._step.depth)
        mask = self._path_mask(call.window)
        return attend_shared(
            query_HTD, keys, values, scaling=call.scaling, mask_TS=mask, softcap=call.softcap
        )

    def _attend_own(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> Partial:
        states, mask = (query_HTD, key_KTD, value_KTD), self._own_mask(call.window)
        if self._is_padded:
            query, key, value = (self._padded(one) for one in states)
            return self._unpadded(self._attend_groups(call, query, key, value, mask))
        parts = []
        for group, (start, size) in enumerate(zip(self._starts, self._step.group_sizes, strict=True)):
            query, key, value = (one[None, :, start : start + size] for one in states)
            own_mask = None if mask is None else mask[group : group + 1, :size, :size]
            parts.append(self._attend_groups(call, query, key, value, own_mask))
        if len(parts) == 1:
            return parts[0][0][0], parts[0][1][0]
        # Along the tokens as they lie in memory, which is faster
        output_THD = torch.cat([output[0].transpose(0, 1) for output, _ in parts])
        return output_THD.transpose(0, 1), torch.cat([lse[0] for _, lse in parts], 1)

    def _attend_groups(
        self,
        call: AttentionCall,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> Partial:
        """Attention within groups of one length: queries [P, H, M, D], mask [P, M, M]."""
        if mask is None and call.softcap is None:
            result = causal_block(query, key, value, scaling=call.scaling)
            if result is not None:
                return result
        num_heads, num_kv_heads, longest = query.shape[1], key.shape[1], query.shape[2]
        if mask is None:
            mask = self._causal_mask(longest)
        repeats = num_heads // num_kv_heads
        folded = query.reshape(query.shape[0], num_kv_heads, -1, query.shape[-1])
        output, lse = attend_block(
            folded,
            key,
            value,
            scaling=call.scaling,
            mask_NKQS=mask.repeat(1, repeats, 1)[:, None],
            softcap=call.softcap,
        )
        shape = (query.shape[0], num_heads, longest)
        return output.reshape(*shape, -1), lse.reshape(shape)

    def _padded(self, states_HTD: torch.Tensor) -> torch.Tensor:
        padded = states_HTD.index_select(1, self._pad)
        return padded.unflatten(1, (self._num_groups, self._longest)).transpose(0, 1)

    def _unpadded(self, result: Partial) -> Partial:
        output, lse = result[0].transpose(0, 1), result[1].transpose(0, 1)
        return (
            output.flatten(1, 2).index_select(1, self._unpad),
            lse.flatten(1, 2).index_select(1, self._unpad),
        )

    def _own_mask(self, window: int | None) -> torch.Tensor | None:
        """Additive [P, M, M], or None where each group is one run of tokens and no window cuts it."""
        reach = max(self._step.positions) - min(self._step.positions)
        if window is not None and reach < window:
            window = None
        if window not in self._masks:
            mask = None if self._is_chain and window is None else self._tree_mask()
            if mask is not None and window is not None:
                padded = np.array(self._step.positions)[self._pad_PM]
                is_far = padded[:, :, None] - padded[:, None, :] >= window
                mask = mask.masked_fill(torch.from_numpy(is_far).to(self._device), MASKED)
            self._masks[window] = mask
        return self._masks[window]

    def _tree_mask(self) -> torch.Tensor:
        """Each token sees its own node's tokens up to itself, and its ancestors' in the group."""
        is_seen = np.zeros((self._num_groups, self._longest, self._longest), dtype=bool)
        index_of = self._step.indices_by_node()
        group = -1
        for span in self._step.spans:
            if group + 1 < self._num_groups and span.offset == self._starts[group + 1]:
                group += 1
            base = self._starts[group]
            low, size = span.offset - base, span.last - span.first
            rows = slice(low, low + size)
            is_seen[group, rows, rows] = np.tri(size, dtype=bool)
            above = span.node.parent
            while above is not None and id(above) in index_of:
                first = index_of[id(above)] - base
                is_seen[group, rows, first : first + len(above.tokens)] = True
                above = above.parent
        for group, size in enumerate(self._step.group_sizes):
            is_seen[group, size:, 0] = True  # padding sees something, so that it stays finite
        return torch.where(torch.from_numpy(is_seen).to(self._device), 0.0, MASKED)

    def _causal_mask(self, size: int) -> torch.Tensor:
        is_seen = torch.ones(size, size, dtype=torch.bool, device=self._device).tril()
        return torch.where(is_seen, 0.0, MASKED)[None]

    def _path_mask(self, window: int | None) -> torch.Tensor | None:
        positions = torch.tensor(self._step.positions, device=self._device)
        return window_mask(positions, torch.arange(self._step.depth, device=self._device), window)

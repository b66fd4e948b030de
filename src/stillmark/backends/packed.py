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
    causal_block,
    default_scaling,
    merge,
    window_mask,
    with_sinks,
)
from stillmark.backends.kernels import faster_linears
from stillmark.backends.kv_cache import LayerTensors, PathCache
from stillmark.backends.prefix import Pass
from stillmark.backends.work import Work

# Shape suffixes as in attention.py; P packed groups, M the longest group's tokens.
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
            with faster_linears(self.model):
                yield
        finally:
            _ACTIVE.remove(self)
            for config, implementation in zip(self._configs, before, strict=True):
                config._attn_implementation = implementation

    def logits(
        self, tokens: Sequence[int], positions: Sequence[int], wanted: Sequence[int], plan: AttentionPlan
    ) -> torch.Tensor:
        """Logits [wanted, V] of a packed row."""
        self._plan = plan
        self.work += Work(positions=len(tokens), scored=len(wanted), pairs=plan.num_pairs)
        to = self.device
        output = self.model(
            input_ids=torch.tensor([tokens], device=to),
            position_ids=torch.tensor([positions], device=to),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, dtype=torch.long, device=to),
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
    its own group. Groups are padded to one length for attention alone.
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
        starts = np.cumsum([0, *step.group_sizes[:-1]])
        self._pad = self._unpad = None
        if self._num_groups > 1:
            inside = np.arange(self._longest)[None] < np.array(step.group_sizes)[:, None]
            pad = np.where(inside, starts[:, None] + np.arange(self._longest)[None], starts[:, None])
            self._pad = torch.from_numpy(pad.ravel()).to(device)
            self._unpad = torch.from_numpy(np.flatnonzero(inside.ravel())).to(device)
        self._starts = starts
        self.num_pairs = self._num_groups * self._longest**2 + len(step.tokens) * step.depth

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
        return merge(self._attend_path(call, query_HTD, key_KTD.shape[0]), (output, lse))

    def _attend_path(self, call: AttentionCall, query_HTD: torch.Tensor, num_kv_heads: int) -> Partial:
        keys, values = self._path.read(call.layer, 0, self._step.depth)
        num_heads, num_tokens, head_size = query_HTD.shape
        # All queries see all these keys, so the query heads of one key-value head are simply more queries
        query = query_HTD.reshape(1, num_kv_heads, -1, head_size)
        mask = self._path_mask(call.window)
        if mask is not None:
            mask = mask.repeat(num_heads // num_kv_heads, 1)[None, None]
        output, lse = attend_block(
            query, keys[None], values[None], scaling=call.scaling, mask_NKQS=mask, softcap=call.softcap
        )
        return output.reshape(num_heads, num_tokens, -1), lse.reshape(num_heads, num_tokens)

    def _attend_own(
        self, call: AttentionCall, query_HTD: torch.Tensor, key_KTD: torch.Tensor, value_KTD: torch.Tensor
    ) -> Partial:
        query, key, value = (self._padded(states) for states in (query_HTD, key_KTD, value_KTD))
        num_heads, num_kv_heads = query.shape[1], key.shape[1]
        mask = self._own_mask(call.window)
        result = None
        if mask is None and call.softcap is None:
            result = causal_block(query, key, value, scaling=call.scaling)
        if result is None:
            if mask is None:
                mask = self._causal_mask()
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
            shape = (query.shape[0], num_heads, self._longest)
            result = output.reshape(*shape, -1), lse.reshape(shape)
        return self._unpadded(result)

    def _padded(self, states_HTD: torch.Tensor) -> torch.Tensor:
        if self._pad is None:
            return states_HTD[None]
        padded = states_HTD.index_select(1, self._pad)
        return padded.unflatten(1, (self._num_groups, self._longest)).transpose(0, 1)

    def _unpadded(self, result: Partial) -> Partial:
        output, lse = result[0].transpose(0, 1), result[1].transpose(0, 1)
        if self._unpad is None:
            return output[:, 0], lse[:, 0]
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
                positions = np.array(self._step.positions)
                padded = positions[self._pad_indices()]
                is_far = padded[:, :, None] - padded[:, None, :] >= window
                mask = mask.masked_fill(torch.from_numpy(is_far).to(self._device), MASKED)
            self._masks[window] = mask
        return self._masks[window]

    def _pad_indices(self) -> np.ndarray[Any, Any]:
        if self._pad is None:
            return np.arange(self._longest)[None]
        indices: np.ndarray[Any, Any] = self._pad.cpu().numpy().reshape(self._num_groups, self._longest)
        return indices

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

    def _causal_mask(self) -> torch.Tensor:
        is_seen = torch.ones(self._longest, self._longest, dtype=torch.bool, device=self._device).tril()
        return torch.where(is_seen, 0.0, MASKED)[None]

    def _path_mask(self, window: int | None) -> torch.Tensor | None:
        positions = torch.tensor(self._step.positions, device=self._device)
        return window_mask(positions, torch.arange(self._step.depth, device=self._device), window)
